/**
 * Reads a DuckDB file piece by piece, verifying as it goes: at most 1 MiB at a time, rate limited, on libuv's threads, so that the
 * caller's event loop stays free. Never to be used in the process that has the file open in DuckDB: closing any descriptor of a file
 * drops all POSIX locks that the process holds on it.
 *
 * Nothing is believed bad at first sight: a page or block that fails its checksum may just be being written, so it is read again.
 */

import { close, constants, fstat, read } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { promisify } from 'node:util'
import { type Clock, systemClock } from '../clock.ts'
import { codeOf, DaemonGuardError, messageOf } from '../errors.ts'
import { borrow, type OpenFile } from '../windows/open-file.ts'
import { bufferBytes, type ChecksumBuffer, giveChecksumBuffer, takeChecksumBuffer } from './checksum.ts'
import { BadFreeList, type BlockMap, readBlockMap } from './freelist.ts'
import { blockOffset, type DatabaseHeader, headerBytes, pageBytes, parseDatabaseHeader, parseMainHeader } from './header.ts'

export interface Damage {
  kind: 'main header' | 'header' | 'metadata block' | 'data block' | 'free list' | 'truncated'
  blockId?: number
  /** Bytes from the start of the file. */
  offset: number
  expected: string
  found: string
}

export interface ReadOptions {
  /** Unlimited if left out. */
  maxBytesPerSecond?: number
  signal?: AbortSignal
  clock?: Clock
  /** The hold of the engine that has the file open, if one has. */
  held?: Held
}

/** As much of a hold (agent/plugin.ts) as reading needs. */
export interface Held {
  /** Where nobody else can open the file (Windows): how the engine has it open. */
  readonly openFile?: OpenFile
  readonly lost: boolean
}

type Source = Pick<FileHandle, 'read' | 'stat' | 'close'>

/** The file is damaged: confirmed by reading again. */
export class DamagedFileError extends DaemonGuardError {
  readonly damage: readonly Damage[]

  constructor(file: string, damage: readonly Damage[]) {
    super(`the database file is damaged: ${damage.map(describeDamage).join('; ')}`, { where: file, hint: 'daemonguard restore' })
    this.name = 'DamagedFileError'
    this.damage = damage
  }
}

/** Nothing can be said about the file: it is encrypted, of an unknown version, kept changing, or can't be read. */
export class UnreadableFileError extends DaemonGuardError {}

/** A checkpoint changed the headers (or a block) meanwhile: what was read belongs to no single state. */
export class MovedFileError extends DaemonGuardError {}

export function describeDamage(damage: Damage): string {
  const what = damage.blockId === undefined ? damage.kind : `${damage.kind} ${damage.blockId}`
  return `${what} at byte ${damage.offset}: expected ${damage.expected}, found ${damage.found}`
}

/** Pauses before a bad page or block is read again, in milliseconds. */
const secondLooks = [10, 50, 250]

export class DuckFileReader {
  readonly file: string
  /** Holds what the last read() brought. */
  readonly buffer: ChecksumBuffer
  /** Of this file, so far. */
  bytesRead = 0
  #handle: Source
  #options: ReadOptions
  #clock: Clock
  /** When the next read may begin (monotonic). */
  #due = 0

  private constructor(file: string, handle: Source, options: ReadOptions) {
    this.file = file
    this.buffer = takeChecksumBuffer()
    this.#handle = handle
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  /** Throws UnreadableFileError. */
  static async open(file: string, options: ReadOptions): Promise<DuckFileReader> {
    const shared = options.held?.openFile
    let handle: Source
    try {
      // O_NONBLOCK: a named pipe in the file's place must not block for ever.
      handle = shared === undefined ? await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)) : sourceOf(borrow(file, shared))
    } catch (error) {
      throw new UnreadableFileError(`the file can't be opened: ${messageOf(error)}`, { where: file, cause: error })
    }
    if ((await handle.stat()).isFile()) return new DuckFileReader(file, handle, options)
    await handle.close()
    throw new UnreadableFileError('this is not a regular file', { where: file })
  }

  /** Once, when nothing is being read, and the buffer is not needed any more. */
  async close(): Promise<void> {
    giveChecksumBuffer(this.buffer)
    await this.#handle.close()
  }

  async size(): Promise<number> {
    return (await this.#handle.stat()).size
  }

  /** Reads up to `length` bytes at `position` into the buffer at `at`; resolves with how many there were. Throws what the system says. */
  async read(position: number, length: number, at = 0): Promise<number> {
    if (this.#options.signal?.aborted) throw new UnreadableFileError('stopped before the end', { where: this.file })
    await this.#wait(length)
    const { held } = this.#options
    // What was borrowed must go back at once: the next engine waits for it.
    if (held?.openFile !== undefined && held.lost) throw new UnreadableFileError('the engine ended meanwhile', { where: this.file })
    let done = 0
    while (done < length) {
      const { bytesRead } = await this.#handle.read(this.buffer.bytes, at + done, length - done, position + done)
      if (bytesRead === 0) break
      done += bytesRead
    }
    this.bytesRead += done
    return done
  }

  async #wait(bytes: number): Promise<void> {
    const rate = this.#options.maxBytesPerSecond
    if (rate === undefined) return
    const now = this.#clock.monotonic()
    // Time that was not used is not saved up: a burst is what the limit is to prevent.
    const begin = Math.max(this.#due, now)
    this.#due = begin + (bytes / rate) * 1000
    if (begin > now) await this.#clock.sleep(begin - now, this.#options.signal)
  }

  /**
   * The three header pages, verified, and what they say. Throws DamagedFileError, or UnreadableFileError when this reader does not
   * understand them.
   */
  async headers(): Promise<{ pages: Buffer; header: DatabaseHeader }> {
    let damage: Damage[] = []
    for (const pause of [0, ...secondLooks]) {
      if (pause > 0) await this.#clock.sleep(pause, this.#options.signal)
      const size = await this.#readHeaders()
      damage =
        typeof size === 'string' ? [{ kind: 'main header', offset: 0, expected: 'a readable page', found: size }] : this.#headerDamage(size)
      if (damage.length === 0) break
    }
    if (damage.length > 0) throw new DamagedFileError(this.file, damage)
    const pages = Buffer.from(this.buffer.bytes.subarray(0, headerBytes))
    const main = parseMainHeader(pages)
    // The checksum holds, so this is what was written.
    if (main === null)
      throw new DamagedFileError(this.file, [{ kind: 'main header', offset: 8, expected: 'DUCK', found: 'something else' }])
    if (main.encrypted)
      throw new UnreadableFileError('the file is encrypted: its blocks cannot be verified without the key', { where: this.file })
    const header = parseDatabaseHeader(main.version, pages)
    if (typeof header === 'string') throw new UnreadableFileError(header, { where: this.file })
    return { pages, header }
  }

  async #readHeaders(): Promise<number | string> {
    try {
      return await this.read(0, headerBytes)
    } catch (error) {
      if (codeOf(error) === undefined) throw error
      return messageOf(error)
    }
  }

  #headerDamage(size: number): Damage[] {
    if (size < headerBytes)
      return [{ kind: 'truncated', offset: size, expected: `${headerBytes} bytes of headers`, found: `${size} bytes` }]
    return [0, pageBytes, 2 * pageBytes].flatMap((offset) => {
      // An encrypted file's h1 and h2 are encrypted with their checksums. Only a main header that verifies may say so.
      if (
        offset > 0 &&
        this.buffer.check(0, pageBytes).expected === this.buffer.check(0, pageBytes).found &&
        parseMainHeader(this.buffer.bytes)?.encrypted
      )
        return []
      const { expected, found } = this.buffer.check(offset, pageBytes)
      return expected === found
        ? []
        : [{ kind: offset === 0 ? 'main header' : 'header', offset, expected: hex(expected), found: hex(found) } as const]
    })
  }

  /** Throws MovedFileError when the headers are not byte for byte `pages` any more. */
  async expectUnmoved(pages: Buffer): Promise<void> {
    const now = await this.headers()
    if (!now.pages.equals(pages)) throw new MovedFileError('a checkpoint changed the file meanwhile', { where: this.file })
  }

  /** Which blocks are live. Throws DamagedFileError when the free list or a block that it lies in is damaged, MovedFileError. */
  async blockMap(header: DatabaseHeader, pages: Buffer): Promise<BlockMap> {
    try {
      return await this.#blockMap(header)
    } catch (error) {
      // A checkpoint may just have replaced the free list: then it is no damage.
      if (error instanceof DamagedFileError) await this.expectUnmoved(pages)
      throw error
    }
  }

  async #blockMap(header: DatabaseHeader): Promise<BlockMap> {
    try {
      return await readBlockMap(header, async (blockId) => {
        const damage = await this.readBlock(header, blockId, 'metadata block', 0)
        if (damage !== null) throw new DamagedFileError(this.file, [damage])
        return Buffer.from(this.buffer.bytes.subarray(0, header.blockSize))
      })
    } catch (error) {
      if (!(error instanceof BadFreeList)) throw error
      const blockId = Number(header.freeList & 0x00ff_ffff_ffff_ffffn)
      const damage: Damage = {
        kind: 'free list',
        blockId,
        offset: blockOffset(header, blockId),
        expected: 'a free list',
        found: `one that ${error.message}`,
      }
      throw new DamagedFileError(this.file, [damage])
    }
  }

  /**
   * Reads one block into the buffer at `at` until it verifies, `looks` times at most. Resolves with its damage, or null. Throws
   * MovedFileError when its content still changes: damage keeps still, so somebody writes there.
   */
  async readBlock(
    header: DatabaseHeader,
    blockId: number,
    kind: Damage['kind'],
    at: number,
    looks = secondLooks.length + 1,
  ): Promise<Damage | null> {
    let damage: Damage | null = null
    let still = true
    for (const pause of [0, ...secondLooks].slice(0, looks)) {
      if (pause > 0) await this.#clock.sleep(pause, this.#options.signal)
      const now = await this.#look(header, blockId, kind, at)
      if (now === null) return null
      still = damage === null || damage.found === now.found
      damage = now
    }
    if (!still) throw new MovedFileError(`block ${blockId} kept changing`, { where: this.file })
    return damage
  }

  async #look(header: DatabaseHeader, blockId: number, kind: Damage['kind'], at: number): Promise<Damage | null> {
    try {
      return this.checkBlock(header, blockId, kind, at, await this.read(blockOffset(header, blockId), header.blockSize, at))
    } catch (error) {
      if (codeOf(error) === undefined) throw error
      return { kind, blockId, offset: blockOffset(header, blockId), expected: 'a readable block', found: messageOf(error) }
    }
  }

  /**
   * Reads `count` neighbouring blocks to the start of the buffer and verifies the live ones; those that fail are read again, into their
   * place. `available`: bytes in the buffer. With `patient` false a second look is enough.
   */
  async readRun(
    header: DatabaseHeader,
    map: BlockMap,
    first: number,
    count: number,
    patient: boolean,
  ): Promise<{ available: number; damage: Damage[] }> {
    const offset = blockOffset(header, first)
    const length = count * header.blockSize
    let available: number
    try {
      available = await this.read(offset, length)
    } catch (error) {
      if (codeOf(error) === undefined) throw error
      // A sector that can't be read: which block it spoils is found out below, block by block. A free one reads as zeros.
      this.buffer.bytes.fill(0, 0, length)
      available = Math.min(length, Math.max(0, (await this.size()) - offset))
    }
    const damage: Damage[] = []
    for (let i = 0; i < count; i++) {
      const blockId = first + i
      const at = i * header.blockSize
      if (map.isFree(blockId) || this.checkBlock(header, blockId, 'data block', at, available - at) === null) continue
      const kind = map.metadata.has(blockId) ? 'metadata block' : 'data block'
      const found = await this.readBlock(header, blockId, kind, at, patient && damage.length < 3 ? undefined : 2)
      if (found === null) {
        available = Math.max(available, at + header.blockSize)
        continue
      }
      damage.push(found)
      // All that follows is missing too.
      if (found.kind === 'truncated') break
    }
    return { available, damage }
  }

  /** Verifies the block that lies in the buffer at `at`, of which `available` bytes could be read. */
  checkBlock(header: DatabaseHeader, blockId: number, kind: Damage['kind'], at: number, available: number): Damage | null {
    const offset = blockOffset(header, blockId)
    if (available < header.blockSize) {
      return { kind: 'truncated', blockId, offset, expected: `${header.blockSize} bytes`, found: `${Math.max(available, 0)} bytes` }
    }
    const { expected, found } = this.buffer.check(at, header.blockSize)
    return expected === found ? null : { kind, blockId, offset, expected: hex(expected), found: hex(found) }
  }
}

function sourceOf(fd: number): Source {
  return { read: promisify(read).bind(null, fd), stat: promisify(fstat).bind(null, fd), close: promisify(close).bind(null, fd) } as Source
}

/** Blocks that one read brings. */
export function blocksPerRead(header: DatabaseHeader): number {
  return bufferBytes / header.blockSize
}

function hex(value: bigint): string {
  return `0x${value.toString(16).padStart(16, '0')}`
}
