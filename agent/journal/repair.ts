/**
 * What the engine does to the journal before it serves: cuts a torn tail, which was never acknowledged; moves a damaged segment to
 * quarantine and leaves its readable batches in its place; makes everything durable. Torn or rotten is decided thus:
 *
 * - a whole batch stands behind the bad bytes that says they were durable before it was written → corruption;
 * - the same boot: a killed process leaves a prefix of its last write, cut at a page, and zeros behind it → torn; anything else → corruption;
 * - an earlier boot: the last, unacknowledged write may have reached the disk in any part → torn.
 */

import fs from 'node:fs'
import path from 'node:path'
import { ensureDirectory, moveAnywhere, openForWriting, removeDurably, syncDirectory, writeAll, writeAtomic } from '../disk.ts'
import { DaemonGuardError } from '../errors.ts'
import { SegmentReader } from './reader.ts'
import { batchHeaderBytes, decodeBatchHeader } from './record.ts'
import { currentBootId, encodeSegmentHeader, listSegments, type SegmentFile, sameBoot, segmentHeaderBytes } from './segment.ts'

const pageBytes = 4096

export interface JournalRepair {
  /** Bytes cut from the end, zeros not counted. */
  cutBytes: number
  quarantined: { file: string; reason: string }[]
  /** Seq ranges that cannot be read. A range at the journal's very end is known only as far as its batch header says. */
  gaps: { firstSeq: number; lastSeq: number }[]
  /** Last seq in the journal, lost ones included; 0 for an empty one. */
  lastSeq: number
  /** Highest epoch seen. */
  epoch: number
}

/** Repairs the journal of `databaseId` in place. `quarantine` is the directory for damaged segments; it is created when needed. */
export function repairJournal(directory: string, databaseId: string, quarantine: string): JournalRepair {
  const repair: JournalRepair = { cutBytes: 0, quarantined: [], gaps: [], lastSeq: 0, epoch: 0 }
  const segments = listSegments(directory)
  segments.forEach((segment, i) => {
    const reader = new SegmentReader(segment.file)
    try {
      repairSegment(reader, segment, segments[i + 1], databaseId, quarantine, repair)
    } finally {
      reader.close()
    }
  })
  return repair
}

/** A whole batch in a segment. */
interface Extent {
  offset: number
  length: number
  firstSeq: number
  lastSeq: number
  durableBefore: number
  epoch: number
}

interface Survey {
  good: Extent[]
  /** The first bytes that are no batch. */
  bad: { offset: number; reason: string } | undefined
  /** Where bad bytes begin behind which no whole batch stands. */
  badTail: number | undefined
  end: number
}

function survey(reader: SegmentReader): Survey {
  const found: Survey = { good: [], bad: undefined, badTail: undefined, end: reader.offset }
  for (;;) {
    const result = reader.next()
    if (result.kind === 'batch') {
      const { length, firstSeq, count, durableBefore, epoch } = result.header
      found.good.push({ offset: result.offset, length, firstSeq, lastSeq: firstSeq + count - 1, durableBefore, epoch })
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

function repairSegment(
  reader: SegmentReader,
  segment: SegmentFile,
  following: SegmentFile | undefined,
  databaseId: string,
  quarantine: string,
  repair: JournalRepair,
): void {
  const { header } = reader
  if (header !== undefined && header.databaseId !== databaseId) {
    throw new DaemonGuardError(`this journal belongs to database ${header.databaseId}, not to ${databaseId}`, {
      where: segment.file,
      hint: 'move the other journal away, or correct engine.journal_dir',
    })
  }
  const found = survey(reader)
  const last = following === undefined
  if (last && header === undefined && found.good.length === 0 && reader.tail(0).every((byte) => byte === 0)) {
    // Created, but not even its header was durable: nothing was ever acknowledged from it.
    removeDurably(segment.file)
    return
  }
  repair.epoch = Math.max(repair.epoch, header?.epoch ?? 0, ...found.good.map((extent) => extent.epoch))
  const torn = last && header !== undefined && found.bad !== undefined && isTorn(reader, found, sameBoot(header))
  const good = torn ? found.good.filter((extent) => extent.offset < (found.bad?.offset ?? 0)) : found.good

  let expected = segment.firstSeq
  if (repair.lastSeq > 0 && expected > repair.lastSeq + 1) repair.gaps.push({ firstSeq: repair.lastSeq + 1, lastSeq: expected - 1 })
  for (const extent of good) {
    if (extent.firstSeq > expected) repair.gaps.push({ firstSeq: expected, lastSeq: extent.firstSeq - 1 })
    expected = extent.lastSeq + 1
  }
  if (found.badTail !== undefined && !torn && last) {
    const lost = lostAtEnd(reader, found.badTail, expected)
    repair.gaps.push({ firstSeq: expected, lastSeq: lost })
    expected = lost + 1
  }
  repair.lastSeq = Math.max(repair.lastSeq, expected - 1)

  if (torn) {
    const offset = found.bad?.offset ?? found.end
    const tail = reader.tail(offset)
    repair.cutBytes += tail.length - trailingZeros(tail)
    cut(segment.file, offset)
  } else if (found.bad !== undefined || header === undefined) {
    const reason = found.bad?.reason ?? 'the segment header is damaged'
    replaceDamaged(reader, segment, good, reason, databaseId, quarantine, repair)
  } else if (last) cut(segment.file, found.end)
}

function isTorn(reader: SegmentReader, found: Survey, bootIsSame: boolean): boolean {
  const offset = found.bad?.offset ?? 0
  if (found.good.some((extent) => extent.offset > offset && extent.durableBefore > offset)) return false
  if (!bootIsSame) return true
  if (found.badTail !== offset) return false
  const tail = reader.tail(offset)
  const written = offset + tail.length - trailingZeros(tail)
  const intended = offset + (decodeBatchHeader(tail)?.length ?? batchHeaderBytes)
  // The kernel copies a write page by page: what a kill leaves ends with a page, and zeros up to where the batch would have ended.
  return Math.ceil(written / pageBytes) * pageBytes < intended
}

/** The last seq that bad bytes at the journal's end held: their own header says it where it can be believed, else one is assumed. */
function lostAtEnd(reader: SegmentReader, offset: number, expected: number): number {
  const header = decodeBatchHeader(reader.tail(offset, batchHeaderBytes))
  const plausible = header !== undefined && header.firstSeq === expected && header.count > 0 && header.count < 1_000_000
  return plausible ? expected + header.count - 1 : expected
}

function trailingZeros(bytes: Buffer): number {
  let count = 0
  while (count < bytes.length && bytes[bytes.length - 1 - count] === 0) count++
  return count
}

function cut(file: string, length: number): void {
  const fd = openForWriting(file, 'r+')
  try {
    if (fs.fstatSync(fd).size > length) fs.ftruncateSync(fd, length)
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** The damaged segment goes to quarantine as it is; one with its whole batches takes its place. */
function replaceDamaged(
  reader: SegmentReader,
  segment: SegmentFile,
  good: readonly Extent[],
  reason: string,
  databaseId: string,
  quarantine: string,
  repair: JournalRepair,
): void {
  ensureDirectory(quarantine)
  const kept = path.join(quarantine, path.basename(segment.file))
  const repaired = `${segment.file}.repaired`
  const fd = openForWriting(repaired, 'w')
  try {
    const epoch = good[0]?.epoch ?? repair.epoch
    const header = { firstSeq: segment.firstSeq, epoch, databaseId, bootId: currentBootId(), createdAt: Date.now() }
    writeAll(fd, encodeSegmentHeader(reader.header ?? header), 0)
    let at = segmentHeaderBytes
    for (const { offset, length } of good) {
      writeAll(fd, reader.tail(offset, length), at)
      at += length
    }
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  // The evidence first: a crash between the two leaves a gap that this repair sees again, never a segment without its original.
  moveAnywhere(segment.file, kept)
  fs.renameSync(repaired, segment.file)
  syncDirectory(path.dirname(segment.file))
  writeAtomic(`${kept}.reason.json`, `${JSON.stringify({ from: segment.file, reason, at: new Date().toISOString() }, null, 2)}\n`)
  repair.quarantined.push({ file: kept, reason })
}
