/**
 * `journal verify` and `journal cat`: every checksum of a journal directory, and its changes as plain JSON. Reads files only. How far the
 * journal must reach is said by its mark (agent/journal/mark.ts), so one that is being written meanwhile is judged up to there.
 */

import fs from 'node:fs'
import path from 'node:path'
import { cellText } from './cell-text.ts'
import { codeOf, messageOf } from './errors.ts'
import { type Mark, readMark } from './journal/mark.ts'
import { SegmentReader } from './journal/reader.ts'
import { decodeBatch, spillOf } from './journal/record.ts'
import { currentBootId, listSegments, type SegmentFile } from './journal/segment.ts'
import { spillDamage } from './journal/spill.ts'
import { type Cell, type Change, type Column, type Transaction, tableName } from './journal/types.ts'

export interface JournalFinding {
  file: string
  offset: number
  reason: string
}

export interface JournalVerdict {
  /** `inconclusive`: the last bytes are no batch, and nobody can say whether they were acknowledged. */
  verdict: 'clean' | 'damaged' | 'inconclusive'
  segments: number
  batches: number
  transactions: number
  firstSeq: number | null
  lastSeq: number | null
  /** Last seq that was durable before this began, or null when that is not known for sure. */
  durableSeq: number | null
  bytes: number
  damage: JournalFinding[]
  /** The end, when it is no whole batch. Not damage when all that was durable lies before it: it is being written, or was never acknowledged. */
  tail: JournalFinding | null
  /** Seqs that are missing between two that are there, or before the last durable one. */
  gaps: { firstSeq: number; lastSeq: number }[]
}

/** Looks at a journal that is being written meanwhile, until one finds no fault or the writer has paused. */
const mostLooks = 4

/** Verifies every batch. Never throws for what it finds. */
export function verifyJournal(directory: string): JournalVerdict {
  for (let look = 1; ; look++) {
    const found = markOf(directory)
    const result = verifyOnce(directory, found)
    // What was written behind a segment's end after that had been read looks like a gap: real damage is there the next time as well.
    if (result.verdict !== 'damaged' || look === mostLooks || markOf(directory).mark?.seq === found.mark?.seq) return result
  }
}

function verifyOnce(directory: string, { mark, exact }: ReturnType<typeof markOf>): JournalVerdict {
  const result: JournalVerdict = {
    verdict: 'clean',
    segments: 0,
    batches: 0,
    transactions: 0,
    firstSeq: null,
    lastSeq: null,
    durableSeq: exact ? (mark?.seq ?? null) : null,
    bytes: 0,
    damage: [],
    tail: null,
    gaps: [],
  }
  const segments = listSegments(directory)
  const walk: Walk = {
    result,
    durable: exact && mark !== undefined ? mark.seq : Number.POSITIVE_INFINITY,
    reached: null,
    databaseId: undefined,
    mark,
  }
  for (const [index, segment] of segments.entries()) {
    const { batches } = result
    const tail = verifySegment(segment, walk, index === segments.length - 1)
    // The next segment is there before the last batch of this one is: what is not whole is damage only where a batch stands behind it.
    if (result.tail !== null && (tail !== undefined || result.batches > batches)) result.damage.push(result.tail)
    if (tail !== undefined) result.tail = tail
    else if (result.batches > batches) result.tail = null
  }
  if (mark !== undefined) reach(walk, mark.seq)
  if (result.damage.length > 0 || result.gaps.length > 0) result.verdict = 'damaged'
  else if (result.tail !== null && !exact) result.verdict = 'inconclusive'
  return result
}

/** The last durable seq, as far as it is known for sure: what lies behind it is being written, or was never acknowledged. */
export function durableSeqOf(directory: string): number | undefined {
  const { mark, exact } = markOf(directory)
  return exact ? mark?.seq : undefined
}

/** `exact`: of this boot, so it was moved before every acknowledgement; after a power cut it may be behind. */
function markOf(directory: string): { mark: Mark | undefined; exact: boolean } {
  for (const { file } of listSegments(directory).reverse()) {
    try {
      const reader = new SegmentReader(file)
      reader.close()
      const mark = reader.header === undefined ? undefined : readMark(directory, reader.header.databaseId)
      if (mark !== undefined) return { mark, exact: mark.bootId === currentBootId() }
    } catch {
      // That it cannot be read is found, and told, when it is verified.
    }
  }
  return { mark: undefined, exact: false }
}

interface Walk {
  readonly result: JournalVerdict
  /** The last seq that must be there, as far as that is known. */
  readonly durable: number
  /** The seq up to which everything has been there, or is known to be missing; null before the first segment. */
  reached: number | null
  /** Of the first segment that says it. */
  databaseId: string | undefined
  readonly mark: Mark | undefined
}

/** The seqs up to `seq` have been: what was not met of them is missing. What lay before the first segment has been deleted by retention. */
function reach(walk: Walk, seq: number): void {
  walk.reached ??= seq
  if (seq > walk.reached) walk.result.gaps.push({ firstSeq: walk.reached + 1, lastSeq: seq })
  walk.reached = Math.max(walk.reached, seq)
}

/** What is wrong with a segment's header; undefined when nothing is. */
function headerDamage(header: SegmentReader['header'], firstSeq: number, walk: Walk): string | undefined {
  if (header === undefined) return 'its header is missing or damaged'
  if (header.firstSeq !== firstSeq) return `its header says that it begins with seq ${header.firstSeq}`
  walk.databaseId ??= header.databaseId
  if (header.databaseId !== walk.databaseId) return `it belongs to database ${header.databaseId}, the first one to ${walk.databaseId}`
  return undefined
}

/** Adds what is wrong in the middle to the result; gives back what is wrong at the segment's end, after its last whole batch. */
function verifySegment({ file, firstSeq: begin }: SegmentFile, walk: Walk, isLast: boolean): JournalFinding | undefined {
  const { result } = walk
  let reader: SegmentReader
  try {
    reader = new SegmentReader(file)
  } catch (error) {
    // Retention has deleted it since it was listed; one that is missing between two others is a gap.
    if (codeOf(error) === 'ENOENT') return undefined
    result.segments += 1
    result.damage.push({ file, offset: 0, reason: messageOf(error) })
    return undefined
  }
  result.segments += 1
  // It begins while what comes before it may still be on its way into the one before.
  reach(walk, Math.min(begin - 1, walk.durable))
  try {
    const isUnborn = isLast && (walk.mark?.seq ?? 0) < begin && reader.tail(0).every((byte) => byte === 0)
    const reason = isUnborn ? undefined : headerDamage(reader.header, begin, walk)
    if (reason !== undefined) result.damage.push({ file, offset: 0, reason })
    let expected = begin
    for (;;) {
      const found = reader.next()
      if (found.kind === 'end') return undefined
      if (found.kind === 'batch' && found.header.firstSeq < expected) {
        const reason = `seq ${found.header.firstSeq} stands where at least ${expected} was expected`
        result.damage.push({ file, offset: found.offset, reason })
        continue
      }
      if (found.kind === 'bad') {
        const finding = { file, offset: found.offset, reason: found.reason }
        const next = reader.resume(found.offset)
        if (next === undefined) return finding
        if (next !== found.offset) result.damage.push(finding)
        continue
      }
      const { firstSeq, count, length } = found.header
      expected = firstSeq + count
      reach(walk, firstSeq - 1)
      decodeBatch(found.bytes, found.header, path.dirname(file), (seq, reason) =>
        result.damage.push({ file, offset: found.offset, reason: `seq ${seq}: ${reason}` }),
      )
      const spill = spillOf(found.bytes, found.header)
      const reason = spill === undefined ? undefined : spillDamage(path.dirname(file), spill.reference)
      // Retention deletes a spill after its segment.
      if (spill !== undefined && reason !== undefined && fs.existsSync(file)) {
        result.damage.push({ file: path.join(path.dirname(file), spill.reference.name), offset: 0, reason })
        result.gaps.push({ firstSeq, lastSeq: firstSeq })
      }
      result.bytes += spill?.reference.bytes ?? 0
      result.batches += 1
      result.transactions += count
      result.bytes += length
      result.firstSeq ??= firstSeq
      result.lastSeq = Math.max(result.lastSeq ?? 0, firstSeq + count - 1)
      walk.reached = Math.max(walk.reached ?? 0, firstSeq + count - 1)
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
