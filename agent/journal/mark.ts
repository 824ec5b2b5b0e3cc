/**
 * How far the journal is durable: `durable.mark` beside the segments, 128 bytes that the engine overwrites after each fsync and before it
 * acknowledges anything. It is what tells a torn tail from a rotten one (agent/journal/repair.ts), and from which seq on one is missing.
 *
 * It is not fsynced itself, so it costs a microsecond: a killed process leaves it exact, because the kernel has it; after a power cut it may
 * be up to half a minute old, and then says less than was durable, never more.
 *
 * Little endian: 0 8 bytes magic "DGMARK\r\n" · 8 u32 CRC-32 of bytes 12…127 · 12 u32 version (1) · 16 u64 first seq of the segment that
 * `offset` is in (older ones are durable as a whole) · 24 u64 offset · 32 u64 last durable seq · 40 16 bytes database id ·
 * 56 16 bytes boot id · 72 zeros
 */

import fs from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import { openForWriting, writeAll, writeOnFullDisk } from '../disk.ts'
import { codeOf } from '../errors.ts'
import { currentBootId, sameBoot, uuid, uuidBytes } from './segment.ts'

const markBytes = 128
const magic = Buffer.from('DGMARK\r\n', 'latin1')
const markVersion = 1

export interface Mark {
  /** First seq of the segment, which is its name. */
  readonly segment: number
  /** Bytes of it that are durable. */
  readonly offset: number
  /** Last durable seq. */
  readonly seq: number
  readonly databaseId: string
  readonly bootId: string
}

export function markFile(directory: string): string {
  return path.join(directory, 'durable.mark')
}

export function encodeMark(mark: Mark): Buffer {
  const bytes = Buffer.alloc(markBytes)
  magic.copy(bytes, 0)
  bytes.writeUInt32LE(markVersion, 12)
  uuidBytes(mark.databaseId).copy(bytes, 40)
  uuidBytes(mark.bootId).copy(bytes, 56)
  setPosition(bytes, mark)
  return bytes
}

function setPosition(bytes: Buffer, { segment, offset, seq }: Position): void {
  bytes.writeBigUInt64LE(BigInt(segment), 16)
  bytes.writeBigUInt64LE(BigInt(offset), 24)
  bytes.writeBigUInt64LE(BigInt(seq), 32)
  bytes.writeUInt32LE(crc32(bytes.subarray(12)), 8)
}

/** The mark of a journal directory; undefined when it is missing, damaged, of another version or of another database. */
export function readMark(directory: string, databaseId: string): Mark | undefined {
  let bytes: Buffer
  try {
    bytes = fs.readFileSync(markFile(directory))
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
  if (bytes.length !== markBytes || bytes.compare(magic, 0, 8, 0, 8) !== 0 || bytes.readUInt32LE(12) !== markVersion) return undefined
  if (crc32(bytes.subarray(12)) !== bytes.readUInt32LE(8)) return undefined
  const mark = {
    segment: Number(bytes.readBigUInt64LE(16)),
    offset: Number(bytes.readBigUInt64LE(24)),
    seq: Number(bytes.readBigUInt64LE(32)),
    databaseId: uuid(bytes.subarray(40, 56)),
    bootId: uuid(bytes.subarray(56, 72)),
  }
  return mark.databaseId === databaseId ? mark : undefined
}

type Position = Pick<Mark, 'segment' | 'offset' | 'seq'>

/** Puts a mark in place durably. The caller has made durable what it says. */
export function writeMark(directory: string, databaseId: string, position: Position): void {
  writeOnFullDisk(markFile(directory), encodeMark({ ...position, databaseId, bootId: currentBootId() }), 'MARK:REPLACE')
}

/** The same, if `mark`, the one that is there, says anything else. After a kill it is where it must be, as a rule: a full disk need not take it again. */
export function setMark(directory: string, databaseId: string, mark: Mark | undefined, { segment, offset, seq }: Position): void {
  const isThere = mark?.segment === segment && mark.offset === offset && mark.seq === seq && sameBoot(mark.bootId)
  if (!isThere) writeMark(directory, databaseId, { segment, offset, seq })
}

/** The mark as the engine moves it. */
export class DurableMark {
  #fd: number
  /** Of the mark: all but its position stays, and it is moved a thousand times a second. */
  #bytes: Buffer

  constructor(directory: string, databaseId: string, position: Position) {
    writeMark(directory, databaseId, position)
    this.#fd = openForWriting(markFile(directory), 'r+', 'MARK:OPEN')
    this.#bytes = encodeMark({ ...position, databaseId, bootId: currentBootId() })
  }

  /** After the fsync of what it says, before anything of it is acknowledged. */
  move(position: Position): void {
    setPosition(this.#bytes, position)
    writeAll(this.#fd, this.#bytes, 0, 'MARK:MOVE')
  }

  close(): void {
    fs.closeSync(this.#fd)
  }
}
