/**
 * `journal verify` and `journal cat`: every checksum of a journal directory, and its changes as plain JSON. Reads files only; a journal
 * that is being written meanwhile is judged up to the seq that was durable at the start.
 */

import { cellText } from './cell-text.ts'
import { messageOf } from './errors.ts'
import { SegmentReader } from './journal/reader.ts'
import { decodeBatch } from './journal/record.ts'
import { listSegments } from './journal/segment.ts'
import { type Cell, type Change, type Column, type Transaction, tableName } from './journal/types.ts'

export interface JournalFinding {
  file: string
  offset: number
  reason: string
}

export interface JournalVerdict {
  /** `inconclusive`: the last bytes are no batch, and nobody can say any more whether they were acknowledged. */
  verdict: 'clean' | 'damaged' | 'inconclusive'
  segments: number
  batches: number
  transactions: number
  firstSeq: number | null
  lastSeq: number | null
  bytes: number
  damage: JournalFinding[]
  /** Seqs that are missing between two that are there. */
  gaps: { firstSeq: number; lastSeq: number }[]
}

/** Verifies every batch. `durableSeq`: the running engine's, read before this was called; undefined when none runs. Never throws for what it finds. */
export function verifyJournal(directory: string, durableSeq?: number): JournalVerdict {
  const result: JournalVerdict = {
    verdict: 'clean',
    segments: 0,
    batches: 0,
    transactions: 0,
    firstSeq: null,
    lastSeq: null,
    bytes: 0,
    damage: [],
    gaps: [],
  }
  let unfinished = false
  const segments = listSegments(directory)
  for (const [index, segment] of segments.entries()) {
    result.segments += 1
    const tail = verifySegment(segment.file, result)
    const isLast = index === segments.length - 1
    if (tail === undefined) continue
    // What lies past the durable seq of a running engine is being written right now.
    if (isLast && durableSeq !== undefined && (result.lastSeq ?? 0) >= durableSeq) continue
    if (isLast && durableSeq === undefined) unfinished = true
    result.damage.push(tail)
  }
  if (durableSeq !== undefined && result.lastSeq !== null && result.lastSeq < durableSeq)
    result.gaps.push({ firstSeq: result.lastSeq + 1, lastSeq: durableSeq })
  if (result.gaps.length > 0 || result.damage.length > (unfinished ? 1 : 0)) result.verdict = 'damaged'
  else if (unfinished) result.verdict = 'inconclusive'
  return result
}

/** Adds what is wrong in the middle to the result; gives back what is wrong at the segment's end, after its last whole batch. */
function verifySegment(file: string, result: JournalVerdict): JournalFinding | undefined {
  let reader: SegmentReader
  try {
    reader = new SegmentReader(file)
  } catch (error) {
    result.damage.push({ file, offset: 0, reason: messageOf(error) })
    return undefined
  }
  try {
    if (reader.header === undefined) result.damage.push({ file, offset: 0, reason: 'its header is missing or damaged' })
    for (;;) {
      const found = reader.next()
      if (found.kind === 'end') return undefined
      if (found.kind === 'bad') {
        const finding = { file, offset: found.offset, reason: found.reason }
        const next = reader.findBatch(found.offset + 1)
        if (next === undefined) return finding
        result.damage.push(finding)
        reader.seek(next)
        continue
      }
      const { firstSeq, count, length } = found.header
      if (result.lastSeq !== null && firstSeq > result.lastSeq + 1)
        result.gaps.push({ firstSeq: result.lastSeq + 1, lastSeq: firstSeq - 1 })
      try {
        decodeBatch(found.bytes, found.header)
      } catch (error) {
        result.damage.push({ file, offset: found.offset, reason: `its checksum holds, but it cannot be decoded: ${messageOf(error)}` })
      }
      result.batches += 1
      result.transactions += count
      result.bytes += length
      result.firstSeq ??= firstSeq
      result.lastSeq = Math.max(result.lastSeq ?? 0, firstSeq + count - 1)
    }
  } finally {
    reader.close()
  }
}

/** One change as `journal cat` prints it: one row, one schema change, or one sequence's new value. */
export type PlainChange = Record<string, unknown>

/** The changes of a transaction in order, one object for each row. */
export function* plainChanges({ seq, time, changes }: Transaction): Generator<PlainChange> {
  const stamp = { seq, time: new Date(time).toISOString() }
  for (const change of changes) {
    if (change.kind === 'schema')
      yield {
        ...stamp,
        kind: change.kind,
        sql: change.sql,
        searchPath: change.searchPath,
        timeZone: change.timeZone,
        tables: change.tables.map(tableName),
      }
    else if (change.kind === 'sequence')
      yield { ...stamp, kind: change.kind, sequence: tableName(change), value: plainNumber(change.value) }
    else yield* plainRows(stamp, change)
  }
}

function* plainRows(stamp: { seq: number; time: string }, change: Extract<Change, { rows: unknown }>): Generator<PlainChange> {
  const { kind, table, rows } = change
  const columns = kind === 'delete' ? table.primaryKey.map((index) => table.columns[index] as Column) : table.columns
  const changed = 'changed' in change ? { changed: change.changed.map((index) => table.columns[index]?.name) } : {}
  for (let row = 0; row < rows.count; row++) {
    const values = Object.fromEntries(columns.map((column, index) => [column.name, plainCell(rows.columns[index]?.[row] ?? null, column)]))
    yield { ...stamp, kind, table: tableName(table), ...changed, [kind === 'delete' ? 'key' : 'row']: values }
  }
}

/** JSON's own types where they lose nothing, else the cell's text; nested values are JSON. */
function plainCell(cell: Cell, { type }: Column): unknown {
  if (cell === null || typeof cell === 'boolean') return cell
  if (typeof cell === 'number' && type.kind !== 'DATE' && Number.isFinite(cell) && !Object.is(cell, -0)) return cell
  if (typeof cell === 'bigint' && /INT$/.test(type.kind)) return plainNumber(cell)
  const text = cellText(cell, type)
  return ['LIST', 'ARRAY', 'STRUCT', 'MAP', 'UNION'].includes(type.kind) ? JSON.parse(text) : text
}

/** A number when it is exact as one, else text. */
function plainNumber(value: bigint): number | string {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value.toString()
}
