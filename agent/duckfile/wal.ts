/**
 * Looks at a DuckDB WAL before DuckDB replays it, for what DuckDB drops without a word. A WAL is a header (an object of DuckDB's
 * serializer, 64 00 62 …, ended by ff ff), then entries: u64 size · u64 checksum of the payload · payload, itself such an object. A payload that
 * fails its checksum makes DuckDB refuse the file. But neither the header nor a size has a checksum: with a bad header DuckDB ignores
 * the whole WAL, and a size that is too large makes it take all that follows for a torn write.
 */

import fs from 'node:fs'

const objectBegin = Buffer.from([0x64, 0x00])
const headerBegin = Buffer.from([0x64, 0x00, 0x62])
const objectEnd = Buffer.from([0xff, 0xff])
/** A header is shorter than this: type, version, 16 bytes of identifier, an iteration. */
const longestHeader = 128
const entryHeaderBytes = 16
/** Entries that are no part of a commit: a checkpoint is under way; what stands before is complete. */
const checkpointNotes = [0x63, 0x64]
/** A WAL that is no longer than this may be such a note. */
const longestNote = 256
/** What a power cut leaves of a short file is no more. */
const pageBytes = 4096
/** How far behind bad bytes an entry is looked for. */
const searchBytes = 64 << 20

/** Why DuckDB would replay less than this WAL holds, or null. A torn end, which was never acknowledged, is no reason. */
export function unreplayedPart(file: string): string | null {
  const fd = fs.openSync(file, 'r')
  try {
    const { size } = fs.fstatSync(fd)
    const head = read(fd, 0, Math.min(size, longestHeader))
    if (head.every((byte) => byte === 0)) return null
    if (!head.subarray(0, 3).equals(headerBegin)) return 'its header is damaged, so DuckDB ignores all of it'
    let at = firstEntry(fd, head, size)
    // Without any entry: nothing was committed, or the first entry is damaged.
    if (at === undefined) at = head.indexOf(objectEnd) < 0 ? size : head.indexOf(objectEnd) + 2
    for (let end = entryEnd(fd, at, size); end !== undefined; end = entryEnd(fd, at, size)) at = end
    const next = findEntry(fd, at + 1, size)
    return next === undefined
      ? null
      : `it is damaged at byte ${at} of ${size}: DuckDB takes the commits behind it for a torn write and drops them`
  } finally {
    fs.closeSync(fd)
  }
}

/**
 * Whether a WAL holds no commit. DuckDB notes in one that a checkpoint is under way, and removes it at the end, also where it writes no WAL
 * otherwise; whoever dies in between leaves that note, or, in a power cut, a file of zeros.
 */
export function holdsNoCommit(file: string): boolean {
  const fd = fs.openSync(file, 'r')
  try {
    const { size } = fs.fstatSync(fd)
    const bytes = read(fd, 0, Math.min(size, pageBytes))
    if (bytes.every((byte) => byte === 0)) return size <= pageBytes
    if (size > longestNote || !bytes.subarray(0, 3).equals(headerBegin)) return false
    let at = firstEntry(fd, bytes, size)
    if (at === undefined) return bytes.subarray(-2).equals(objectEnd) && bytes.indexOf(objectEnd) === size - 2
    for (let end = entryEnd(fd, at, size); end !== undefined; end = entryEnd(fd, at, size)) {
      if (!checkpointNotes.includes(bytes[at + entryHeaderBytes + 2] as number)) return false
      at = end
    }
    return at === size
  } finally {
    fs.closeSync(fd)
  }
}

function firstEntry(fd: number, head: Buffer, size: number): number | undefined {
  for (let end = head.indexOf(objectEnd); end >= 0; end = head.indexOf(objectEnd, end + 1)) {
    if (entryEnd(fd, end + 2, size) !== undefined) return end + 2
  }
  return undefined
}

/** Where the entry at `at` ends; undefined when none is there. Its checksum is DuckDB's business. */
function entryEnd(fd: number, at: number, size: number): number | undefined {
  if (at + entryHeaderBytes + 4 > size) return undefined
  const head = read(fd, at, entryHeaderBytes + 2)
  const length = head.readBigUInt64LE(0)
  const end = at + entryHeaderBytes + Number(length)
  if (length < 4n || end > size || !head.subarray(entryHeaderBytes).equals(objectBegin)) return undefined
  return read(fd, end - 2, 2).equals(objectEnd) ? end : undefined
}

/** The first place from `from` on where an entry stands that another one, or the end, follows. */
function findEntry(fd: number, from: number, size: number): number | undefined {
  if (from >= size) return undefined
  const rest = read(fd, from, Math.min(size - from, searchBytes))
  for (let begin = rest.indexOf(objectBegin); begin >= 0; begin = rest.indexOf(objectBegin, begin + 1)) {
    const at = from + begin - entryHeaderBytes
    if (at < from) continue
    const end = entryEnd(fd, at, size)
    if (end !== undefined && (end === size || entryEnd(fd, end, size) !== undefined)) return at
  }
  return undefined
}

function read(fd: number, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length)
  const bytes = fs.readSync(fd, buffer, 0, length, position)
  return buffer.subarray(0, bytes)
}
