/**
 * A spill: the changes of one transaction that is too large for memory. `<seq, 20 digits>-<8 hex digits>.dgs` in the journal directory;
 * its transaction has that seq or a higher one.
 *
 * The engine writes it while the transaction runs, and fsyncs it (and the directory) before DuckDB commits; the transaction's batch in the
 * segment then refers to it by name, length and checksum. One that no batch refers to is of a transaction that never committed: it is
 * removed at the rollback, or at the engine's next start (agent/journal/repair.ts). One that is referred to lives as long as its segment: the
 * agent deletes first the segment, then its spills (agent/journal/retention.ts), so that a crash in between leaves a spill without a
 * reference, never a reference without a spill.
 *
 * Header of 64 bytes, little endian:
 *    0  8 bytes  magic "DGSPLL\r\n"
 *    8  u32      CRC-32 (zlib) of bytes 12…63
 *   12  u32      format version (1)
 *   16  16 bytes database id
 *   32  f64      creation time, ms since 1970
 *   40           zeros
 * Then chunks without gaps:
 *    0  u32      magic "DGC1"
 *    4  u32      CRC-32 of the chunk from byte 8 on, continued from the chunk before (the first: from the header's)
 *    8  u32      payload length
 *   12  u32      number: 0, 1, 2 …
 *   16           payload: whole changes (agent/journal/changes.ts), their tables being those of the batch
 * The checksum of the last chunk is thus one over all of it: it is the one that the batch states.
 */

import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import { openForWriting, removeDurably, syncData, syncDirectory, writeAll } from '../disk.ts'
import { DaemonGuardError } from '../errors.ts'
import { ByteReader } from './bytes.ts'
import { decodeChange } from './changes.ts'
import { uuidBytes } from './segment.ts'
import type { Change, SpilledChanges, Table } from './types.ts'

const headerBytes = 64
const magic = Buffer.from('DGSPLL\r\n', 'latin1')
const formatVersion = 1
const chunkHeaderBytes = 16
const chunkMagic = Buffer.from('DGC1', 'latin1')
const fileName = /^\d{20}-[0-9a-f]{8}\.dgs$/
/** Written bytes after which the disk must catch up: an fsync at the end, of everything, would hold up the commits of others. */
const unsyncedBytes = 32 << 20

/** What a batch says of its spill. */
export interface SpillReference {
  readonly name: string
  readonly bytes: number
  readonly checksum: number
  /** Rows, schema changes and sequence values. */
  readonly items: number
}

/** Whoever gives room for spills: the journal's writer. */
export interface SpillSource {
  createSpill(): SpillWriter
}

/** The spills of a journal directory, whoever refers to them. */
export function listSpills(directory: string): string[] {
  return fs.existsSync(directory) ? fs.readdirSync(directory).filter((name) => fileName.test(name)) : []
}

export class SpillWriter {
  readonly name: string
  #file: string
  #fd: number
  #length = headerBytes
  #checksum: number
  #chunks = 0
  #unsynced = 0
  #syncing: Promise<void> | undefined

  /** `seq`: the lowest that its transaction can get. */
  constructor(directory: string, databaseId: string, seq: number) {
    this.name = `${String(seq).padStart(20, '0')}-${randomBytes(4).toString('hex')}.dgs`
    this.#file = path.join(directory, this.name)
    const header = Buffer.alloc(headerBytes)
    magic.copy(header, 0)
    header.writeUInt32LE(formatVersion, 12)
    uuidBytes(databaseId).copy(header, 16)
    header.writeDoubleLE(Date.now(), 32)
    this.#checksum = crc32(header.subarray(12))
    header.writeUInt32LE(this.#checksum, 8)
    this.#fd = openForWriting(this.#file, 'wx', 'SPILL:CREATE')
    try {
      writeAll(this.#fd, header, 0, 'SPILL:HEADER')
    } catch (error) {
      // Nobody knows of it yet who could discard it.
      fs.closeSync(this.#fd)
      removeDurably(this.#file, 'SPILL:DISCARD')
      throw error
    }
  }

  get length(): number {
    return this.#length
  }

  /** Adds a chunk. Nothing is durable yet. */
  write(payload: Buffer): void {
    const head = Buffer.alloc(chunkHeaderBytes)
    chunkMagic.copy(head, 0)
    head.writeUInt32LE(payload.length, 8)
    head.writeUInt32LE(this.#chunks++, 12)
    this.#checksum = crc32(payload, crc32(head.subarray(8), this.#checksum))
    head.writeUInt32LE(this.#checksum, 4)
    writeAll(this.#fd, head, this.#length, 'SPILL:WRITE')
    writeAll(this.#fd, payload, this.#length + chunkHeaderBytes, 'SPILL:WRITE')
    this.#length += chunkHeaderBytes + payload.length
    this.#unsynced += chunkHeaderBytes + payload.length
  }

  /** Waits for the disk when much has been written. */
  async keepUp(): Promise<void> {
    if (this.#unsynced >= unsyncedBytes) await this.#sync()
  }

  /** Makes it durable, under its name. */
  async finish(items: number): Promise<SpillReference> {
    await this.#sync()
    fs.closeSync(this.#fd)
    this.#fd = -1
    syncDirectory(path.dirname(this.#file), 'SPILL:ENTRY')
    return { name: this.name, bytes: this.#length, checksum: this.#checksum, items }
  }

  /** Removes it. */
  async discard(): Promise<void> {
    await this.#syncing?.catch(() => {})
    if (this.#fd !== -1) fs.closeSync(this.#fd)
    this.#fd = -1
    removeDurably(this.#file, 'SPILL:DISCARD')
  }

  async #sync(): Promise<void> {
    this.#unsynced = 0
    this.#syncing = syncData(this.#fd, 'SPILL:SYNC')
    await this.#syncing
  }
}

/** Why a spill cannot be read as its batch says; undefined when it can. Reads all of it, one chunk at a time. */
export function spillDamage(directory: string, reference: SpillReference): string | undefined {
  try {
    for (const _ of chunksOf(directory, reference));
    return undefined
  } catch (error) {
    if (error instanceof DaemonGuardError) return error.message
    throw error
  }
}

/** As spillDamage, without holding up the event loop. */
export async function spillDamageInBackground(directory: string, reference: SpillReference): Promise<string | undefined> {
  try {
    let bytes = 0
    for (const chunk of chunksOf(directory, reference)) {
      bytes += chunk.length
      if (bytes < unsyncedBytes) continue
      bytes = 0
      await new Promise((resolve) => setImmediate(resolve))
    }
    return undefined
  } catch (error) {
    if (error instanceof DaemonGuardError) return error.message
    throw error
  }
}

/** The changes of a spill, which is opened anew for each walk. */
export function spilledChanges(directory: string, reference: SpillReference, tables: readonly Table[]): SpilledChanges {
  return {
    items: reference.items,
    tables,
    *[Symbol.iterator](): Generator<Change> {
      for (const chunk of chunksOf(directory, reference)) {
        const input = new ByteReader(chunk)
        while (!input.done) yield decodeChange(input, tables)
      }
    },
  }
}

/** The payloads, verified. Throws DaemonGuardError for what is missing, damaged or of another version. */
function* chunksOf(directory: string, { name, bytes, checksum }: SpillReference): Generator<Buffer> {
  const file = path.join(directory, path.basename(name))
  const bad = (what: string) => new DaemonGuardError(`the spill ${name} ${what}`, { where: file, hint: 'daemonguard journal verify' })
  let fd: number
  try {
    fd = fs.openSync(file, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw bad('is missing')
    throw error
  }
  try {
    const size = fs.fstatSync(fd).size
    if (size !== bytes) throw bad(`has ${size} bytes instead of ${bytes}`)
    const header = read(fd, 0, headerBytes)
    let sum = crc32(header.subarray(12))
    if (header.compare(magic, 0, 8, 0, 8) !== 0 || header.readUInt32LE(8) !== sum) throw bad('has a damaged header')
    if (header.readUInt32LE(12) !== formatVersion)
      throw bad(`has format version ${header.readUInt32LE(12)}; this program reads ${formatVersion}`)
    let at = headerBytes
    for (let number = 0; at < bytes; number++) {
      const head = read(fd, at, chunkHeaderBytes)
      const length = head.length < chunkHeaderBytes ? 0 : head.readUInt32LE(8)
      const whole = head.compare(chunkMagic, 0, 4, 0, 4) === 0 && at + chunkHeaderBytes + length <= bytes
      if (!whole || head.readUInt32LE(12) !== number) throw bad(`is damaged at byte ${at}`)
      const payload = read(fd, at + chunkHeaderBytes, length)
      sum = crc32(payload, crc32(head.subarray(8), sum))
      if (head.readUInt32LE(4) !== sum) throw bad(`is damaged between byte ${at} and ${at + chunkHeaderBytes + length}`)
      at += chunkHeaderBytes + length
      yield payload
    }
    if (sum !== checksum) throw bad('is not the one that its transaction refers to')
  } finally {
    fs.closeSync(fd)
  }
}

/** Up to `size` bytes at `position`. */
function read(fd: number, position: number, size: number): Buffer {
  const buffer = Buffer.allocUnsafe(size)
  let length = 0
  while (length < size) {
    const got = fs.readSync(fd, buffer, length, size - length, position + length)
    if (got === 0) break
    length += got
  }
  return buffer.subarray(0, length)
}
