/**
 * What the engine does to the journal before it serves: cuts a torn tail, which was never acknowledged; moves a damaged segment to
 * quarantine and leaves its readable batches in its place; makes durable what it keeps. What bad bytes are is decided thus:
 *
 * - Rotten, if they were acknowledged: a whole batch or segment with batches stands behind them (a batch is written only after the one before
 *   it is durable), or they begin before the mark (agent/journal/mark.ts), which the engine moves before each acknowledgement.
 * - Torn, if they begin at the mark or behind it. After a kill in this boot the mark is exact, so this is a proof, whatever the bytes look
 *   like: where in a page the batch began, how much of it the kernel had copied, whether its own content ends with zeros. After a power
 *   cut the mark may be older than the last acknowledgement; then it is an assumption, for which the disk must have lost an fsynced write.
 * - Without a mark: torn if the machine was booted since, else rotten. Within a boot somebody has removed the mark: nothing is proved.
 *
 * The last whole batch is in doubt (agent/journal/doubt.ts) when it was written ahead of DuckDB's commit, and neither the mark nor anything behind it says that it is
 * durable. It stays, and the mark as it is, until recovery has had DuckDB decide.
 *
 * (To judge by the bytes alone, as "a prefix up to a page boundary, then zeros", fails both ways: a rotten batch that ends with a page of
 * zeros looks torn, and a kill may leave a prefix that ends within a page when the writer's own memory had been swapped out.)
 */

import fs from 'node:fs'
import path from 'node:path'
import { cutOpen, ensureDirectory, keepAs, moveDurably, openForWriting, removeDurably, syncOpen, writeAll, writeAtomic } from '../disk.ts'
import { DaemonGuardError } from '../errors.ts'
import { type Doubt, isBehind, trialNote } from './doubt.ts'
import { freeName } from './evidence.ts'
import { type Mark, markFile, readMark, setMark } from './mark.ts'
import { SegmentReader } from './reader.ts'
import { batchHeaderBytes, decodeBatchHeader, moveBatch, spillOf } from './record.ts'
import { currentBootId, encodeSegmentHeader, listSegments, type SegmentFile, sameBoot, segmentHeaderBytes } from './segment.ts'
import { type ReferredSpill, repairSpills } from './spill-repair.ts'
import { tableName } from './types.ts'

export interface JournalRepair {
  /** Bytes cut from the end, zeros not counted. */
  cutBytes: number
  quarantined: { file: string; reason: string }[]
  /**
   * Seqs that were acknowledged and cannot be read; told again at each start, for as long as the journal reaches so far back. `tables`: what
   * they changed, where that is known.
   */
  gaps: { firstSeq: number; lastSeq: number; tables?: readonly string[] }[]
  /** Last seq in the journal, lost ones included; 0 for an empty one. */
  lastSeq: number
  /** Highest epoch seen. */
  epoch: number
  /** The last transaction, if it is in doubt. */
  doubt: Doubt | undefined
}

/** Repairs the journal of `databaseId` in place. `quarantine` is the directory for damaged segments; it is created when needed. */
export function repairJournal(directory: string, databaseId: string, quarantine: string): JournalRepair {
  removeLeftovers(directory)
  const mark = readMark(directory, databaseId)
  const result: JournalRepair = { cutBytes: 0, quarantined: [], gaps: [], lastSeq: 0, epoch: 0, doubt: undefined }
  const segments = listSegments(directory)
  const repair: Repair = { mark, databaseId, quarantine, result, guess: 0, cut: false, end: undefined, spills: [] }
  segments.forEach((segment, i) => {
    repairSegment(repair, segment, segments.slice(i + 1))
  })
  const last = Math.max(result.lastSeq, mark?.seq ?? repair.guess)
  if (last > result.lastSeq) result.gaps.push({ firstSeq: result.lastSeq + 1, lastSeq: last })
  result.lastSeq = last
  repairSpills(directory, quarantine, repair.spills, result)
  // What is kept is durable now; and what is lost stays known, so that its seqs are never given again.
  const end = repair.end ?? (mark === undefined ? undefined : { segment: mark.segment, offset: mark.offset })
  if (result.doubt === undefined && end !== undefined) setMark(directory, databaseId, mark, { ...end, seq: last })
  return result
}

/** What a repair or a mark leaves behind when it is interrupted; all of it is made again. */
function removeLeftovers(directory: string): void {
  const names = fs.existsSync(directory) ? fs.readdirSync(directory) : []
  const mark = path.basename(markFile(directory))
  for (const name of names) {
    if (/^\d{20}\.dgj\.repaired$/.test(name) || ([mark, trialNote].some((file) => name.startsWith(`${file}.`)) && name.endsWith('.tmp')))
      removeDurably(path.join(directory, name), 'REPAIR:LEFTOVER')
  }
}

interface Repair {
  readonly mark: Mark | undefined
  readonly databaseId: string
  readonly quarantine: string
  readonly result: JournalRepair
  /** Last seq that rotten bytes at the very end may have held, as far as their own header can be believed. Of use only without a mark. */
  guess: number
  /** A torn tail was cut: what follows is empty. */
  cut: boolean
  /** Where the journal ends that was kept. */
  end: Pick<Mark, 'segment' | 'offset'> | undefined
  /** Those that whole batches refer to. */
  readonly spills: ReferredSpill[]
}

/** A whole batch in a segment. */
interface Extent {
  offset: number
  length: number
  firstSeq: number
  lastSeq: number
  epoch: number
  ahead: boolean
}

interface Survey {
  good: Extent[]
  spills: ReferredSpill[]
  /** The first bytes that are no batch. */
  bad: { offset: number; reason: string } | undefined
  /** Where bad bytes begin behind which no whole batch stands. */
  badTail: number | undefined
  /** Where the last batch ends, or the bad tail begins. */
  end: number
}

function survey(reader: SegmentReader, firstSeq: number): Survey {
  const found: Survey = { good: [], spills: [], bad: undefined, badTail: undefined, end: reader.offset }
  let expected = firstSeq
  for (;;) {
    let result = reader.next()
    if (result.kind === 'batch' && result.header.firstSeq < expected) {
      const reason = `seq ${result.header.firstSeq} stands where at least ${expected} was expected`
      result = { kind: 'bad', offset: result.offset, reason }
    }
    if (result.kind === 'batch') {
      const { header } = result
      const { length, firstSeq, count, epoch, ahead } = header
      found.good.push({ offset: result.offset, length, firstSeq, lastSeq: firstSeq + count - 1, epoch, ahead })
      // What cannot be decoded recovery tells of.
      const spill = spillOf(result.bytes, header)
      if (spill !== undefined) found.spills.push({ seq: firstSeq, reference: spill.reference, tables: spill.tables.map(tableName) })
      expected = firstSeq + count
      continue
    }
    found.end = result.offset
    if (result.kind === 'end') return found
    found.bad ??= result
    const next = reader.findBatch(result.offset + 1)
    if (next === undefined) {
      found.badTail = result.offset
      return found
    }
    reader.seek(next)
  }
}

function repairSegment(repair: Repair, segment: SegmentFile, following: readonly SegmentFile[]): void {
  const { result, mark, databaseId } = repair
  const reader = new SegmentReader(segment.file)
  try {
    const header = reader.header?.firstSeq === segment.firstSeq ? reader.header : undefined
    if (header !== undefined && header.databaseId !== databaseId) {
      throw new DaemonGuardError(`this journal belongs to database ${header.databaseId}, not to ${databaseId}`, {
        where: segment.file,
        hint: 'move the other journal away, or correct engine.journal_dir',
      })
    }
    const found = survey(reader, segment.firstSeq)
    const isEmpty = found.good.length === 0 && found.bad === undefined
    // Created for what comes after transactions that never became durable. Or created, but not even its header was durable.
    const isPremature = repair.cut || (mark !== undefined && mark.seq < segment.firstSeq - 1)
    const isLastAndUnknown = following.length === 0 && (mark?.seq ?? 0) < segment.firstSeq
    const isUnborn = isLastAndUnknown && header === undefined && isZero(reader.tail(segmentHeaderBytes))
    if ((isEmpty && isPremature) || isUnborn) {
      removeDurably(segment.file, 'REPAIR:UNBORN')
      return
    }
    repair.spills.push(...found.spills)
    result.epoch = Math.max(result.epoch, header?.epoch ?? 0)
    if (result.lastSeq > 0 && segment.firstSeq > result.lastSeq + 1)
      result.gaps.push({ firstSeq: result.lastSeq + 1, lastSeq: segment.firstSeq - 1 })
    let expected = segment.firstSeq
    for (const extent of found.good) {
      if (extent.firstSeq > expected) result.gaps.push({ firstSeq: expected, lastSeq: extent.firstSeq - 1 })
      expected = extent.lastSeq + 1
      result.epoch = Math.max(result.epoch, extent.epoch)
    }
    result.lastSeq = Math.max(result.lastSeq, expected - 1)

    const proved = provedEnd(mark, segment, following)
    const torn = found.badTail !== undefined && found.badTail >= proved && mayBeTorn(mark, header?.bootId)
    if (torn) {
      const tail = reader.tail(found.end)
      result.cutBytes += tail.length - trailingZeros(tail)
      repair.cut = true
    } else if (found.badTail !== undefined) repair.guess = lastSeqIn(reader, found.badTail, expected)
    const reason = damage(found, torn, header === undefined, Number.isFinite(proved) ? proved : 0)
    if (reason !== undefined) {
      repair.end = { segment: segment.firstSeq, offset: replaceDamaged(repair, reader, segment, found.good, reason) }
      return
    }
    const ahead = aheadOf(found, segment)
    // A segment begins with a seq that was given only when the one before had been committed.
    if (ahead !== undefined && isBehind(mark, ahead) && !following.some(({ firstSeq }) => firstSeq > ahead.seq)) result.doubt = ahead
    if (mark !== undefined && segment.firstSeq < mark.segment) return
    keepUpTo(reader, segment.file, mark === undefined ? (found.good.at(-1)?.offset ?? 0) : proved, found.end)
    repair.end = { segment: segment.firstSeq, offset: found.end }
  } finally {
    reader.close()
  }
}

/** The last batch of a segment, if it was written ahead, and nothing was written behind it: that would say that it is committed. */
function aheadOf({ good, badTail }: Survey, { file, firstSeq }: SegmentFile): Doubt | undefined {
  const last = good.at(-1)
  if (last?.ahead !== true || badTail !== undefined) return undefined
  return { seq: last.lastSeq, file, segment: firstSeq, offset: last.offset, length: last.length }
}

/** The offset in this segment before which everything is known to have been acknowledged. */
function provedEnd(mark: Mark | undefined, segment: SegmentFile, following: readonly SegmentFile[]): number {
  if (mark !== undefined && mark.segment > segment.firstSeq) return Number.POSITIVE_INFINITY
  if (following.some(hasBatch)) return Number.POSITIVE_INFINITY
  return mark?.segment === segment.firstSeq ? mark.offset : 0
}

/** Whether bad bytes behind the proved end can be a write that was cut off: see the head of this file. */
function mayBeTorn(mark: Mark | undefined, segmentBoot: string | undefined): boolean {
  if (mark !== undefined && sameBoot(mark.bootId)) return true
  const boot = segmentBoot ?? mark?.bootId
  return boot !== undefined && !sameBoot(boot)
}

function hasBatch({ file }: SegmentFile): boolean {
  const reader = new SegmentReader(file)
  try {
    return reader.findBatch(segmentHeaderBytes) !== undefined
  } finally {
    reader.close()
  }
}

/** What is wrong with acknowledged bytes of a segment; undefined when nothing is. */
function damage({ bad, badTail, end }: Survey, torn: boolean, headerIsBad: boolean, proved: number): string | undefined {
  if (bad !== undefined && !(torn && bad.offset === badTail)) return bad.reason
  if (headerIsBad) return 'the segment header is damaged'
  if (end < proved) return `it ends at byte ${end}; it was durable up to byte ${proved}`
  return undefined
}

/** The last seq that bad bytes at the journal's end held: their own header says it where it can be believed, else one is assumed. */
function lastSeqIn(reader: SegmentReader, offset: number, expected: number): number {
  const header = decodeBatchHeader(reader.tail(offset, batchHeaderBytes))
  const isPlausible = header !== undefined && header.firstSeq === expected && header.count > 0 && header.count < 1_000_000
  return isPlausible ? expected + header.count - 1 : expected
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0)
}

function trailingZeros(bytes: Buffer): number {
  let count = 0
  while (count < bytes.length && bytes[bytes.length - 1 - count] === 0) count++
  return count
}

/**
 * Cuts a segment and makes all of it durable. Bytes from `doubtful` on are written once more: after a failed fsync the kernel takes pages
 * for clean that the disk does not have, and another fsync would say nothing.
 */
function keepUpTo(reader: SegmentReader, file: string, doubtful: number, end: number): void {
  const fd = openForWriting(file, 'r+', 'REPAIR:OPEN')
  try {
    cutOpen(fd, end, 'REPAIR:CUT')
    const from = Math.min(doubtful, end)
    writeAll(fd, reader.tail(from, end - from), from, 'REPAIR:REWRITE')
    syncOpen(fd, 'REPAIR:SYNC')
  } finally {
    fs.closeSync(fd)
  }
}

/** The damaged segment goes to quarantine as it is; one with its whole batches takes its place. Returns the length of that. */
function replaceDamaged(repair: Repair, reader: SegmentReader, segment: SegmentFile, good: readonly Extent[], reason: string): number {
  const { databaseId, quarantine, result } = repair
  ensureDirectory(quarantine, 'REPAIR:QUARANTINE')
  // Taken by a repair that was interrupted within the same second.
  const kept = freeName(path.join(quarantine, path.basename(segment.file)))
  const repaired = `${segment.file}.repaired`
  const fd = openForWriting(repaired, 'w', 'REPAIR:REPLACE')
  let at = segmentHeaderBytes
  try {
    const epoch = reader.header?.epoch ?? good[0]?.epoch ?? result.epoch
    const createdAt = reader.header?.createdAt ?? Date.now()
    writeAll(
      fd,
      encodeSegmentHeader({ firstSeq: segment.firstSeq, epoch, databaseId, bootId: currentBootId(), createdAt }),
      0,
      'REPAIR:REPLACE',
    )
    for (const { offset, length } of good) {
      writeAll(fd, moveBatch(reader.tail(offset, length), at), at, 'REPAIR:REPLACE')
      at += length
    }
    syncOpen(fd, 'REPAIR:REPLACE')
  } finally {
    fs.closeSync(fd)
  }
  // The evidence first; and at every moment one of the two has the segment's name, for a consumer that opens it meanwhile.
  keepAs(segment.file, kept, 'REPAIR:KEEP')
  writeAtomic(
    `${kept}.reason.json`,
    `${JSON.stringify({ from: segment.file, reason, at: new Date().toISOString() }, null, 2)}\n`,
    'REPAIR:REASON',
  )
  moveDurably(repaired, segment.file, 'REPAIR:REPLACE')
  result.quarantined.push({ file: kept, reason })
  return at
}
