/**
 * A journal segment: `<first seq, 20 digits>.dgj`, a header of 4096 bytes, then batches (agent/journal/record.ts) without gaps, then zeros
 * (space that was allocated ahead). Created by the engine alone; read by the engine at its start and by the agent at any time; sealed
 * (cut to its last batch) when the engine goes on to the next one or starts anew; deleted by the agent alone (agent/journal/retention.ts).
 *
 * Header, little endian:
 *    0  8 bytes  magic "DGJRNL\r\n"
 *    8  u32      CRC-32 (zlib) of bytes 12…127
 *   12  u32      format version (1)
 *   16  u64      first seq
 *   24  u32      epoch
 *   28  u32      0
 *   32  16 bytes database id
 *   48  16 bytes boot id of the machine that wrote it
 *   64  f64      creation time, ms since 1970
 *   72           zeros
 * Magic, version and the checksum's place and range are the same in every version.
 */

import fs from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import { bootId } from '../boot.ts'
import { DaemonGuardError } from '../errors.ts'
import { uuidCell } from './types.ts'

export const segmentHeaderBytes = 4096
const magic = Buffer.from('DGJRNL\r\n', 'latin1')
const formatVersion = 1
const fileName = /^(\d{20})\.dgj$/

export interface SegmentHeader {
  readonly firstSeq: number
  readonly epoch: number
  /** UUID, lower case with hyphens. */
  readonly databaseId: string
  /** UUID of the boot (agent/boot.ts). */
  readonly bootId: string
  /** Milliseconds since the Unix epoch. */
  readonly createdAt: number
}

export function segmentName(firstSeq: number): string {
  return `${String(firstSeq).padStart(20, '0')}.dgj`
}

export interface SegmentFile {
  readonly file: string
  readonly firstSeq: number
}

/** The segments of a journal directory in order of seq; [] when there is no such directory. */
export function listSegments(directory: string): SegmentFile[] {
  let names: string[]
  try {
    names = fs.readdirSync(directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  return names
    .flatMap((name) => {
      const match = fileName.exec(name)
      return match === null ? [] : [{ file: path.join(directory, name), firstSeq: Number(match[1]) }]
    })
    .sort((a, b) => a.firstSeq - b.firstSeq)
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(segmentHeaderBytes)
  magic.copy(bytes, 0)
  bytes.writeUInt32LE(formatVersion, 12)
  bytes.writeBigUInt64LE(BigInt(header.firstSeq), 16)
  bytes.writeUInt32LE(header.epoch, 24)
  uuidBytes(header.databaseId).copy(bytes, 32)
  uuidBytes(header.bootId).copy(bytes, 48)
  bytes.writeDoubleLE(header.createdAt, 64)
  bytes.writeUInt32LE(crc32(bytes.subarray(12, 128)), 8)
  return bytes
}

/** The header, or undefined where it is missing, torn or damaged. Throws for a version that this program does not know. */
export function decodeSegmentHeader(bytes: Buffer, file: string): SegmentHeader | undefined {
  if (bytes.length < 128 || bytes.compare(magic, 0, 8, 0, 8) !== 0) return undefined
  if (bytes.length < segmentHeaderBytes || crc32(bytes.subarray(12, 128)) !== bytes.readUInt32LE(8)) return undefined
  const version = bytes.readUInt32LE(12)
  if (version !== formatVersion) {
    throw new DaemonGuardError(`journal segment of format version ${version}; this program reads version ${formatVersion}`, {
      where: file,
      hint: 'run the version of daemonguard that wrote it, or a newer one',
    })
  }
  if (bytes.subarray(72, segmentHeaderBytes).some((byte) => byte !== 0)) return undefined
  return {
    firstSeq: Number(bytes.readBigUInt64LE(16)),
    epoch: bytes.readUInt32LE(24),
    databaseId: uuid(bytes.subarray(32, 48)),
    bootId: uuid(bytes.subarray(48, 64)),
    createdAt: bytes.readDoubleLE(64),
  }
}

/** 16 bytes as lower-case hex with hyphens. */
export function uuid(bytes: Buffer): string {
  return uuidCell(bytes.toString('hex'))
}

export function uuidBytes(text: string): Buffer {
  return Buffer.from(text.replaceAll('-', ''), 'hex')
}

const noBoot = '00000000-0000-0000-0000-000000000000'

/** Identifies this boot of the machine; all zeros where it cannot be known (then nothing counts as the same boot). */
export function currentBootId(): string {
  return bootId() ?? noBoot
}

/** Whether `bootId` is known and names the boot that runs now. */
export function sameBoot(bootId: string): boolean {
  return bootId !== noBoot && bootId === currentBootId()
}
