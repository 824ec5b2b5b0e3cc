/**
 * COPY … FROM STDIN in text and csv, as Postgres reads it, byte by byte over chunks of any size: a chunk may end inside an
 * escape, a quote or a character. Work is done once per byte, however long a field is.
 * https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9
 */

import { SqlError } from '../sql-error.ts'
import { atLine, type CopyFields, FieldBuffer } from './copy-fields.ts'

export interface CopyOptions {
  readonly format: 'text' | 'csv' | 'binary'
  /** One byte. Default: tab for text, comma for csv. */
  readonly delimiter?: string
  /** What stands for NULL, unquoted. Default: \N for text, nothing for csv. */
  readonly null?: string
  /** Skip the first line. */
  readonly header?: boolean
  /** csv only. Default ". */
  readonly quote?: string
  /** csv only. Default: the quote. */
  readonly escape?: string
}

const newline = 0x0a
const carriageReturn = 0x0d
const backslash = 0x5c
const dot = 0x2e

/** How lines end, as the first one does. */
type LineEnd = 'unknown' | 'lf' | 'cr' | 'crlf'

export class CopyParser {
  private readonly csv: boolean
  private readonly delimiter: number
  private readonly quote: number
  private readonly escape: number
  private readonly nullMark: Buffer
  /** Bytes outside of quotes that mean something. */
  private readonly marks = new Uint8Array(256)
  private skipLine: boolean

  private readonly block: FieldBuffer
  /** Next byte to look at, in the block. */
  private position = 0
  /** Beginning of the current field, in the block. */
  private start = 0
  private line = 1
  private lineEnd: LineEnd = 'unknown'
  /** The current field holds escapes (text) or quotes (csv), so that its value is not its bytes. */
  private special = false
  /** csv: inside quotes. */
  private quoted = false
  /** Whether the data's end mark (\.) has been met: what follows is not read. */
  private ended = false

  /** `columns`: fields that every line must have. Throws SqlError (22023, 0A000) for options that contradict each other. */
  constructor(options: CopyOptions, columns: number) {
    this.csv = options.format === 'csv'
    this.delimiter = byteOf('delimiter', options.delimiter ?? (this.csv ? ',' : '\t'))
    this.quote = this.csv ? byteOf('quote', options.quote ?? '"') : -1
    this.escape = this.csv ? byteOf('escape', options.escape ?? options.quote ?? '"') : backslash
    const nullMark = options.null ?? (this.csv ? '' : '\\N')
    this.nullMark = Buffer.from(nullMark)
    this.skipLine = options.header ?? false
    this.block = new FieldBuffer(columns)
    if (!this.csv && (options.quote !== undefined || options.escape !== undefined))
      throw new SqlError('0A000', 'COPY quote and escape available only in CSV mode')
    if (this.delimiter === this.quote) throw new SqlError('22023', 'COPY delimiter and quote must be different')
    if (!this.csv && /^[\\.a-z0-9]$/.test(String.fromCharCode(this.delimiter))) {
      throw new SqlError('22023', `COPY delimiter cannot be "${String.fromCharCode(this.delimiter)}"`)
    }
    if (/[\r\n]/.test(nullMark)) throw new SqlError('22023', 'COPY null representation cannot use newline or carriage return')
    if (nullMark.includes(String.fromCharCode(this.delimiter)))
      throw new SqlError('22023', 'COPY delimiter must not appear in the NULL specification')
    for (const byte of [this.delimiter, newline, carriageReturn, this.csv ? this.quote : backslash]) this.marks[byte] = 1
  }

  /** The whole rows since the last `take`. Valid until the next call. */
  get fields(): CopyFields {
    return this.block
  }

  /** Bytes of those rows. */
  get size(): number {
    return this.block.size
  }

  /** Hands out the whole rows, until the next call, and forgets them. */
  take(): CopyFields {
    const before = this.block.size
    this.position -= before
    this.start -= before
    return this.block.take()
  }

  /** Reads the rows that these bytes complete. Throws SqlError (22P04, 22021) that names the line. */
  push(data: Uint8Array): void {
    if (this.ended) return
    this.block.append(data)
    this.read(false)
  }

  /** Reads the last row, when no line end came after it. Throws as `push` does. */
  end(): void {
    if (this.ended) return
    this.read(true)
    this.ended = true
  }

  private read(last: boolean): void {
    try {
      this.scan(last)
      if (last && !this.ended) this.endData()
    } finally {
      // What is no text comes before whatever is wrong behind it.
      this.block.check(this.start, this.line)
    }
  }

  private endData(): void {
    const { length, pending } = this.block
    if (this.quoted) throw this.bad('unterminated CSV quoted field')
    if (length > this.start || pending > 0) this.endLine(length, length)
  }

  private scan(last: boolean): void {
    const { delimiter, quote, escape: escapeByte, csv, marks } = this
    const { bytes, length } = this.block
    let at = this.position
    while (at < length) {
      const byte = bytes[at]!
      if (this.quoted) {
        // The escape first: it may be the quote itself.
        if (byte === escapeByte) {
          if (at + 1 >= length && !last) break
          const next = bytes[at + 1]
          if (at + 1 < length && (next === quote || next === escapeByte)) {
            at += 2
            continue
          }
        }
        if (byte === quote) this.quoted = false
        else if (byte === newline) this.line++
        at++
      } else if (marks[byte] === 0) {
        at++
      } else if (byte === delimiter) {
        this.endField(at)
        this.beginField(++at)
      } else if (byte === newline || byte === carriageReturn) {
        if (byte === carriageReturn && at + 1 >= length && !last && this.lineEnd !== 'cr') break // is it the first half of \r\n?
        const width = this.lineEndAt(at)
        this.endLine(at, at + width)
        if (this.ended) return
        at += width
      } else if (!csv) {
        // Whatever follows the backslash belongs to it: a delimiter, a line end, a digit.
        if (at + 1 >= length && !last) break
        this.special = true
        if (bytes[at + 1] === newline) this.line++
        at += 2
      } else {
        this.quoted = true
        this.special = true
        at++
      }
    }
    this.position = Math.min(at, length)
  }

  /** Bytes of the line end at `at`. All lines must end alike, or a stray carriage return would pass for data. */
  private lineEndAt(at: number): number {
    const { bytes, length } = this.block
    const found: LineEnd = bytes[at] === newline ? 'lf' : at + 1 < length && bytes[at + 1] === newline ? 'crlf' : 'cr'
    if (this.lineEnd === 'unknown') this.lineEnd = found
    // A lone \r ends each line: a \n after one of them is data that isn't escaped.
    const agreed = this.lineEnd === 'cr' && found === 'crlf' ? 'cr' : found
    if (agreed !== this.lineEnd) {
      const what = agreed === 'lf' ? 'newline' : 'carriage return'
      throw this.bad(this.csv ? `unquoted ${what} found in data` : `literal ${what} found in data`)
    }
    return agreed === 'crlf' ? 2 : 1
  }

  private endLine(end: number, next: number): void {
    const { block, start } = this
    if (block.pending === 0 && end - start === 2 && block.bytes[start] === backslash && block.bytes[start + 1] === dot) {
      this.ended = true
      return
    }
    this.endField(end)
    this.beginField(next)
    if (this.skipLine) {
      this.skipLine = false
      block.dropRow(next)
    } else {
      if (block.pending !== block.width) throw this.miscounted(block.pending, block.width)
      block.endRow(this.line, next)
    }
    this.line++
  }

  private miscounted(found: number, width: number): SqlError {
    return this.bad(found > width ? 'extra data after last expected column' : `missing data: ${found} of ${width} columns`)
  }

  private beginField(at: number): void {
    this.start = at
    this.special = false
  }

  private endField(end: number): void {
    const { block, start, nullMark } = this
    const couldBeNull = end - start === nullMark.length
    if (!this.special) block.add(start, couldBeNull && this.isNullMark(end) ? -1 : end)
    else if (this.csv) block.add(start, unquote(block.bytes, start, end, this.quote, this.escape))
    // The null mark is compared before escapes are resolved: \N is null, \\N is the text \N.
    else block.add(start, couldBeNull && this.isNullMark(end) ? -1 : resolveEscapes(block.bytes, start, end))
  }

  private isNullMark(end: number): boolean {
    return this.nullMark.length === 0 || this.nullMark.compare(this.block.bytes, this.start, end) === 0
  }

  private bad(message: string): SqlError {
    return atLine(new SqlError('22P04', message), this.line)
  }
}

function byteOf(what: string, value: string): number {
  if (value.length !== 1 || value.charCodeAt(0) > 127 || value === '\n' || value === '\r')
    throw new SqlError('22023', `COPY ${what} must be a single one-byte character`)
  return value.charCodeAt(0)
}

/** What is left of a field whose bytes have become fewer must not look like a part of a character. */
const blank = 0x20

/** Takes quotes and escapes out of a csv field, in place; returns its new end. Quotes may open and close in its middle. */
function unquote(bytes: Buffer, start: number, end: number, quote: number, escapeByte: number): number {
  let to = start
  let quoted = false
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    if (quoted && byte === escapeByte && at + 1 < end && (bytes[at + 1] === quote || bytes[at + 1] === escapeByte))
      bytes[to++] = bytes[++at]!
    else if (byte === quote) quoted = !quoted
    else bytes[to++] = byte
  }
  bytes.fill(blank, to, end)
  return to
}

const letters = new Map(
  [
    ['b', 8],
    ['f', 12],
    ['n', 10],
    ['r', 13],
    ['t', 9],
    ['v', 11],
  ].map(([letter, byte]) => [(letter as string).charCodeAt(0), byte as number]),
)

/** Resolves the backslash escapes of the text format, in place; returns the new end. The bytes they give may be parts of one character. */
function resolveEscapes(bytes: Buffer, start: number, end: number): number {
  let to = start
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    if (byte !== backslash || at + 1 >= end) {
      bytes[to++] = byte
      continue
    }
    const next = bytes[++at]!
    const digits = /^(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3}))/.exec(bytes.toString('latin1', at, Math.min(at + 3, end)))
    if (digits === null) {
      bytes[to++] = letters.get(next) ?? next
    } else {
      bytes[to++] = (digits[1] === undefined ? Number.parseInt(digits[2]!, 8) : Number.parseInt(digits[1], 16)) & 0xff
      at += digits[0].length - 1
    }
  }
  bytes.fill(blank, to, end)
  return to
}
