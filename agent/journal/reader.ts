/** Reads one segment batch by batch, verifying every checksum; tells apart the end of the log and bytes that should not be there. */

import fs from 'node:fs'
import { type BatchHeader, batchHeaderBytes, batchMagic, checksumHolds, decodeBatchHeader } from './record.ts'
import { decodeSegmentHeader, type SegmentHeader, segmentHeaderBytes } from './segment.ts'

export interface FoundBatch {
  readonly kind: 'batch'
  readonly offset: number
  readonly header: BatchHeader
  /** Header, payload and padding. Valid until the next call. */
  readonly bytes: Buffer
}

export type ReadResult =
  | FoundBatch
  /** Nothing but zeros, or nothing at all, follows. */
  | { readonly kind: 'end'; readonly offset: number }
  /** Bytes that are no batch. */
  | { readonly kind: 'bad'; readonly offset: number; readonly reason: string }

const windowBytes = 1 << 20
const zeros = Buffer.alloc(64 << 10)
/** Node refuses to read 2 GiB at once. */
const readBytes = 1 << 30

export class SegmentReader {
  readonly file: string
  readonly header: SegmentHeader | undefined
  #fd: number
  #offset = segmentHeaderBytes
  #window: Buffer = Buffer.alloc(0)
  #windowStart = 0

  /** `header` is undefined when it is missing, torn or damaged. Throws when the file cannot be opened or has another format version. */
  constructor(file: string) {
    this.file = file
    this.#fd = fs.openSync(file, 'r')
    try {
      const bytes = this.#read(0, segmentHeaderBytes)
      this.header = decodeSegmentHeader(bytes, file)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Where the next batch is expected. */
  get offset(): number {
    return this.#offset
  }

  /** Goes on reading at `offset`, which must be a batch's start; forgets what was read ahead. */
  seek(offset: number): void {
    this.#offset = offset
    this.#window = Buffer.alloc(0)
  }

  next(): ReadResult {
    const isReadAhead = this.#window.length > 0
    const result = this.#judge()
    if (!isReadAhead || (result.kind === 'batch' && !this.#isReplaced(result))) return result
    // What was read ahead may be older than what has been written since.
    this.seek(result.offset)
    return this.#judge()
  }

  /** Whether something else stands in the file by now: a batch that was written ahead may have been withdrawn since it was read. */
  #isReplaced({ offset, header, bytes }: FoundBatch): boolean {
    return header.ahead && !this.#fill(Buffer.allocUnsafe(header.length), offset).equals(bytes)
  }

  /**
   * Where whole batches go on at or behind bad bytes at `offset`, or undefined: the next call of `next` begins there. At `offset` itself when it
   * was being written: a batch is written only when the one before it is durable, so one behind it says that it is whole by now.
   */
  resume(offset: number): number | undefined {
    const behind = this.findBatch(offset + 1)
    if (behind === undefined) return undefined
    this.seek(offset)
    const at = this.#judge().kind === 'batch' ? offset : behind
    this.seek(at)
    return at
  }

  #judge(): ReadResult {
    const offset = this.#offset
    const head = this.#read(offset, batchHeaderBytes)
    const header = decodeBatchHeader(head)
    if (header === undefined) {
      if (head.every((byte) => byte === 0) && this.#zeroFrom(offset)) return { kind: 'end', offset }
      return { kind: 'bad', offset, reason: 'no batch header' }
    }
    // Before the bytes are asked for: a damaged length must not cost memory.
    const isThere = header.length <= windowBytes || fs.fstatSync(this.#fd).size >= offset + header.length
    const bytes = isThere ? this.#read(offset, header.length) : head
    if (bytes.length < header.length) return { kind: 'bad', offset, reason: `batch of ${header.length} bytes is cut short` }
    if (!checksumHolds(bytes, header)) return { kind: 'bad', offset, reason: `checksum of batch at seq ${header.firstSeq} does not match` }
    if (header.durableBefore !== offset) return { kind: 'bad', offset, reason: `batch at seq ${header.firstSeq} belongs elsewhere` }
    this.#offset = offset + header.length
    return { kind: 'batch', offset, header, bytes }
  }

  /** The next offset after `from` at which a whole, valid batch stands, or undefined. */
  findBatch(from: number): number | undefined {
    const rest = this.tail(from)
    for (let at = rest.indexOf(batchMagic); at !== -1; at = rest.indexOf(batchMagic, at + 1)) {
      const header = decodeBatchHeader(rest.subarray(at))
      if (header?.durableBefore === from + at && checksumHolds(rest.subarray(at, at + header.length), header)) return from + at
    }
    return undefined
  }

  /** Bytes from `offset` to the end of the file up to `limit`. For judging a tail. */
  tail(offset: number, limit = Number.MAX_SAFE_INTEGER): Buffer {
    const size = Math.min(limit, Math.max(0, fs.fstatSync(this.#fd).size - offset))
    return this.#fill(Buffer.allocUnsafe(size), offset)
  }

  close(): void {
    if (this.#fd !== -1) fs.closeSync(this.#fd)
    this.#fd = -1
  }

  #zeroFrom(offset: number): boolean {
    const chunk = Buffer.allocUnsafe(zeros.length)
    for (let at = offset; ; at += chunk.length) {
      const part = this.#fill(chunk, at)
      if (part.compare(zeros, 0, part.length) !== 0) return false
      if (part.length < chunk.length) return true
    }
  }

  /** Up to `size` bytes at `offset`; fewer at the end of the file. */
  #read(offset: number, size: number): Buffer {
    const start = offset - this.#windowStart
    if (start >= 0 && start + size <= this.#window.length) return this.#window.subarray(start, start + size)
    const buffer = Buffer.allocUnsafe(Math.max(size, Math.min(windowBytes, this.#window.length === 0 ? 64 << 10 : windowBytes)))
    this.#window = this.#fill(buffer, offset)
    this.#windowStart = offset
    return this.#window.subarray(0, size)
  }

  /** Reads until `buffer` is full or the file ends; the part that was filled. */
  #fill(buffer: Buffer, offset: number): Buffer {
    let length = 0
    while (length < buffer.length) {
      const read = fs.readSync(this.#fd, buffer, length, Math.min(readBytes, buffer.length - length), offset + length)
      if (read === 0) break
      length += read
    }
    return buffer.subarray(0, length)
  }
}
