/** The bytes of COPY data while it is read, and where in them its fields lie: no value is made before it is known what it will be. */

import { isUtf8 } from 'node:buffer'
import { SqlError } from '../sql-error.ts'
import { utf8 } from './messages.ts'

const firstBytes = 64 * 1024
const firstFields = 256
/** More than that is not kept for the next block. */
const mostKeptBytes = 4 << 20
/** As in Postgres, whose lines are at most 1 GB. */
const longestRow = (1 << 30) - 1

/** A larger buffer with the first `used` bytes of this one: for `needed` bytes, or for twice as many as before up to `most`. */
export function grown(buffer: Buffer, used: number, needed: number, most: number): Buffer {
  const larger = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(2 * buffer.length, most)))
  buffer.copy(larger, 0, 0, used)
  return larger
}

/** Whole rows: `text` of each field, and its bytes without quotes and escapes. They are UTF-8 without zero bytes. */
export interface CopyFields {
  readonly bytes: Buffer
  readonly rows: number
  /** Fields of a row. */
  readonly width: number
  /** Where in `bytes` a field begins and ends, row by row; an end of -1: NULL. */
  readonly starts: Int32Array
  readonly ends: Int32Array
}

export function fieldText({ bytes, width, starts, ends }: CopyFields, row: number, column: number): string | null {
  const at = row * width + column
  const end = ends[at] as number
  return end === -1 ? null : bytes.toString('utf8', starts[at], end)
}

/** A block of rows that grows at its end: `append` bytes, then `add` the fields that they hold and `endRow`. */
export class FieldBuffer implements CopyFields {
  readonly width: number
  bytes: Buffer = Buffer.alloc(0)
  /** Of `bytes`. */
  length = 0
  rows = 0
  starts = new Int32Array(firstFields)
  ends = new Int32Array(firstFields)
  /** Fields, those of the row that is not whole yet among them. */
  #count = 0
  /** Line of each row's end. */
  #lines = new Int32Array(firstFields)
  /** Where the row begins that is not whole yet. */
  #rowStart = 0
  /** Up to where the bytes are known to be text. */
  #checked = 0
  /** What was handed out last. New memory for each block would keep V8 busy with collecting it. */
  #lent: { bytes: Buffer; starts: Int32Array<ArrayBuffer>; ends: Int32Array<ArrayBuffer> } | undefined

  constructor(width: number) {
    this.width = width
  }

  append(data: Uint8Array): void {
    const needed = this.length + data.length
    if (needed - this.#rowStart > longestRow) throw new SqlError('54000', 'a row of COPY data is longer than 1 GB')
    if (needed > this.bytes.length) this.bytes = grown(this.bytes, this.length, Math.max(firstBytes, needed), longestRow)
    this.bytes.set(data, this.length)
    this.length = needed
  }

  /** The next field of the row; an `end` of -1: NULL. */
  add(start: number, end: number): void {
    const at = this.#count++
    if (at === this.starts.length) {
      this.starts = grow(this.starts)
      this.ends = grow(this.ends)
    }
    this.starts[at] = start
    this.ends[at] = end
  }

  /** Fields of the row that is not whole yet. */
  get pending(): number {
    return this.#count - this.rows * this.width
  }

  /** The row is whole; the next one begins at `next`. Its fields must be `width`. */
  endRow(line: number, next: number): void {
    if (this.rows === this.#lines.length) this.#lines = grow(this.#lines)
    this.#lines[this.rows++] = line
    this.#rowStart = next
  }

  /** Forgets the row that is not whole: nobody wants it. */
  dropRow(next: number): void {
    this.#count = this.rows * this.width
    this.#rowStart = next
  }

  /** Bytes of the whole rows. */
  get size(): number {
    return this.#rowStart
  }

  /** Makes sure that the bytes up to `end`, where a field begins, are text. Throws 22021 that names the line; `line`: that of the row that is not whole yet. */
  check(end: number, line: number): void {
    const fresh = this.bytes.subarray(this.#checked, end)
    if (!isUtf8(fresh) || fresh.includes(0)) this.#refuse(line)
    this.#checked = end
  }

  #refuse(line: number): never {
    for (let at = 0; at < this.#count; at++) {
      const row = Math.floor(at / this.width)
      try {
        if (this.ends[at] !== -1) utf8(this.bytes.subarray(this.starts[at], this.ends[at]))
      } catch (error) {
        throw error instanceof SqlError ? atLine(error, row < this.rows ? (this.#lines[row] as number) : line) : error
      }
    }
    // In what was left out: the first line.
    throw atLine(new SqlError('22021', 'invalid byte sequence for encoding "UTF8"'), 1)
  }

  /**
   * Hands the whole rows over, until the next call, and begins a new block with what is left. Positions in the bytes are less by `size`, as it
   * was before.
   */
  take(): CopyFields {
    const { bytes, rows, width, starts, ends } = this
    const first = rows * width
    const [from, rest] = [this.#rowStart, this.length - this.#rowStart]
    const kept = this.#lent
    this.#lent = bytes.length > mostKeptBytes ? undefined : { bytes, starts, ends }
    this.bytes = kept !== undefined && kept.bytes.length >= rest ? kept.bytes : Buffer.allocUnsafeSlow(Math.max(firstBytes, rest))
    bytes.copy(this.bytes, 0, from, this.length)
    this.length = rest
    const pending = this.#count - first
    const fits = kept !== undefined && kept.starts.length >= pending
    this.starts = fits ? kept.starts : new Int32Array(Math.max(firstFields, pending))
    this.ends = fits ? kept.ends : new Int32Array(this.starts.length)
    for (let at = 0; at < pending; at++) {
      const end = ends[first + at] as number
      this.starts[at] = (starts[first + at] as number) - from
      this.ends[at] = end === -1 ? -1 : end - from
    }
    this.#count = pending
    this.rows = 0
    this.#rowStart = 0
    this.#checked -= from
    return { bytes, rows, width, starts, ends }
  }
}

function grow(numbers: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(numbers.length * 2)
  grown.set(numbers)
  return grown
}

export function atLine({ code, message }: SqlError, line: number): SqlError {
  return new SqlError(code, message, { detail: `COPY, line ${line}` })
}
