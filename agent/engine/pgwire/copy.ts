/**
 * COPY … FROM STDIN in text and csv, as Postgres reads it, byte by byte over chunks of any size: a chunk may end inside an
 * escape, a quote or a character. Work is done once per byte, however long a field is.
 * https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9
 */

import { SqlError } from '../sql-error.ts'
import { utf8 } from './messages.ts'

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
  /** Fields that every line must have; not checked when left out. */
  readonly columns?: number
}

export type CopyRow = (string | null)[]

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
  private readonly nullMark: string
  private readonly columns: number | undefined
  private skipLine: boolean

  /** Bytes from the beginning of the current field on. */
  private pending: Buffer = Buffer.alloc(0)
  private length = 0
  /** Whether `pending` is a copy of ours that can be written to. */
  private owned = false
  /** Next byte to look at, in `pending`. */
  private position = 0
  /** Beginning of the current field, in `pending`. */
  private start = 0
  private row: CopyRow = []
  private line = 1
  private lineEnd: LineEnd = 'unknown'
  /** The current field holds escapes (text) or quotes (csv), so that its value is not its bytes. */
  private special = false
  /** csv: inside quotes. */
  private quoted = false
  /** Whether the data's end mark (\.) has been met: what follows is not read. */
  private ended = false

  /** Throws SqlError (22023, 0A000) for options that contradict each other. */
  constructor(options: CopyOptions) {
    this.csv = options.format === 'csv'
    this.delimiter = byteOf('delimiter', options.delimiter ?? (this.csv ? ',' : '\t'))
    this.quote = this.csv ? byteOf('quote', options.quote ?? '"') : -1
    this.escape = this.csv ? byteOf('escape', options.escape ?? options.quote ?? '"') : backslash
    this.nullMark = options.null ?? (this.csv ? '' : '\\N')
    this.skipLine = options.header ?? false
    this.columns = options.columns
    if (!this.csv && (options.quote !== undefined || options.escape !== undefined))
      throw new SqlError('0A000', 'COPY quote and escape available only in CSV mode')
    if (this.delimiter === this.quote) throw new SqlError('22023', 'COPY delimiter and quote must be different')
    if (!this.csv && /^[\\.a-z0-9]$/.test(String.fromCharCode(this.delimiter))) {
      throw new SqlError('22023', `COPY delimiter cannot be "${String.fromCharCode(this.delimiter)}"`)
    }
    if (/[\r\n]/.test(this.nullMark)) throw new SqlError('22023', 'COPY null representation cannot use newline or carriage return')
    if (this.nullMark.includes(String.fromCharCode(this.delimiter)))
      throw new SqlError('22023', 'COPY delimiter must not appear in the NULL specification')
  }

  /** The rows that these bytes complete; the bytes must not change afterwards. Throws SqlError (22P04, 22021) that names the line. */
  push(data: Uint8Array): CopyRow[] {
    if (this.ended) return []
    this.append(data)
    return this.scan(false)
  }

  /** The last row, when no line end came after it. Throws as `push` does. */
  end(): CopyRow[] {
    if (this.ended) return []
    const rows = this.scan(true)
    if (this.ended) return rows
    if (this.quoted) throw this.bad('unterminated CSV quoted field')
    if (this.length > this.start || this.row.length > 0) this.endLine(this.length, this.length, rows)
    this.ended = true
    return rows
  }

  private append(data: Uint8Array): void {
    const kept = this.length - this.start
    if (kept > 0 && this.owned && this.pending.length - this.length >= data.length) {
      this.pending.set(data, this.length)
      this.length += data.length
      return
    }
    // What lies before the field's beginning has been used.
    if (kept === 0) {
      this.pending = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    } else {
      const grown = Buffer.allocUnsafe((kept + data.length) * 2)
      this.pending.copy(grown, 0, this.start, this.length)
      grown.set(data, kept)
      this.pending = grown
    }
    this.owned = kept > 0
    this.position -= this.start
    this.start = 0
    this.length = kept + data.length
  }

  private scan(last: boolean): CopyRow[] {
    const rows: CopyRow[] = []
    const { pending, length, delimiter, quote, escape: escapeByte, csv } = this
    let at = this.position
    while (at < length) {
      const byte = pending[at]!
      if (this.quoted) {
        // The escape first: it may be the quote itself.
        if (byte === escapeByte) {
          if (at + 1 >= length && !last) break
          const next = pending[at + 1]
          if (at + 1 < length && (next === quote || next === escapeByte)) {
            at += 2
            continue
          }
        }
        if (byte === quote) this.quoted = false
        else if (byte === newline) this.line++
        at++
      } else if (byte === delimiter) {
        this.row.push(this.field(at))
        this.beginField(++at)
      } else if (byte === newline || byte === carriageReturn) {
        if (byte === carriageReturn && at + 1 >= length && !last && this.lineEnd !== 'cr') break // is it the first half of \r\n?
        const width = this.lineEndAt(at)
        this.endLine(at, at + width, rows)
        if (this.ended) return rows
        at += width
      } else if (!csv && byte === backslash) {
        // Whatever follows belongs to it: a delimiter, a line end, a digit.
        if (at + 1 >= length && !last) break
        this.special = true
        if (pending[at + 1] === newline) this.line++
        at += 2
      } else {
        if (byte === quote) {
          this.quoted = true
          this.special = true
        }
        at++
      }
    }
    this.position = Math.min(at, length)
    return rows
  }

  /** Bytes of the line end at `at`. All lines must end alike, or a stray carriage return would pass for data. */
  private lineEndAt(at: number): number {
    const found: LineEnd = this.pending[at] === newline ? 'lf' : at + 1 < this.length && this.pending[at + 1] === newline ? 'crlf' : 'cr'
    if (this.lineEnd === 'unknown') this.lineEnd = found
    // A lone \r ends each line: a \n after one of them is data that isn't escaped.
    const agreed = this.lineEnd === 'cr' && found === 'crlf' ? 'cr' : found
    if (agreed !== this.lineEnd) {
      const what = agreed === 'lf' ? 'newline' : 'carriage return'
      throw this.bad(this.csv ? `unquoted ${what} found in data` : `literal ${what} found in data`)
    }
    return agreed === 'crlf' ? 2 : 1
  }

  private endLine(end: number, next: number, rows: CopyRow[]): void {
    if (this.row.length === 0 && end - this.start === 2 && this.pending[this.start] === backslash && this.pending[this.start + 1] === dot) {
      this.ended = true
      return
    }
    if (this.skipLine) this.skipLine = false
    else {
      this.row.push(this.field(end))
      this.check(this.row)
      rows.push(this.row)
    }
    this.row = []
    this.line++
    this.beginField(next)
  }

  private check(row: CopyRow): void {
    if (this.columns === undefined || row.length === this.columns) return
    throw this.bad(
      row.length > this.columns ? 'extra data after last expected column' : `missing data: ${row.length} of ${this.columns} columns`,
    )
  }

  private beginField(at: number): void {
    this.start = at
    this.special = false
  }

  private field(end: number): string | null {
    const raw = this.pending.subarray(this.start, end)
    try {
      if (!this.special) {
        const text = raw.length === 0 ? '' : utf8(raw)
        return text === this.nullMark ? null : text
      }
      if (this.csv) return utf8(unquote(raw, this.quote, this.escape))
      // The null mark is compared before escapes are resolved: \N is null, \\N is the text \N.
      return raw.equals(Buffer.from(this.nullMark)) ? null : utf8(resolveEscapes(raw))
    } catch (error) {
      throw error instanceof SqlError ? new SqlError(error.code, error.message, { detail: this.where() }) : error
    }
  }

  private bad(message: string): SqlError {
    return new SqlError('22P04', message, { detail: this.where() })
  }

  private where(): string {
    return `COPY, line ${this.line}`
  }
}

function byteOf(what: string, value: string): number {
  if (value.length !== 1 || value.charCodeAt(0) > 127 || value === '\n' || value === '\r')
    throw new SqlError('22023', `COPY ${what} must be a single one-byte character`)
  return value.charCodeAt(0)
}

/** Takes quotes and escapes out of a csv field. Quotes may open and close in its middle. */
function unquote(raw: Buffer, quote: number, escapeByte: number): Buffer {
  const out = Buffer.allocUnsafe(raw.length)
  let to = 0
  let quoted = false
  for (let at = 0; at < raw.length; at++) {
    const byte = raw[at]!
    if (quoted && byte === escapeByte && (raw[at + 1] === quote || raw[at + 1] === escapeByte)) out[to++] = raw[++at]!
    else if (byte === quote) quoted = !quoted
    else out[to++] = byte
  }
  return out.subarray(0, to)
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

/** Resolves the backslash escapes of the text format; the bytes they give may be parts of one character. */
function resolveEscapes(raw: Buffer): Buffer {
  const out = Buffer.allocUnsafe(raw.length)
  let to = 0
  for (let at = 0; at < raw.length; at++) {
    const byte = raw[at]!
    const next = raw[at + 1]
    if (byte !== backslash || next === undefined) {
      out[to++] = byte
      continue
    }
    at++
    const digits = /^(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3}))/.exec(raw.toString('latin1', at, at + 3))
    if (digits === null) {
      out[to++] = letters.get(next) ?? next
    } else {
      out[to++] = (digits[1] === undefined ? Number.parseInt(digits[2]!, 8) : Number.parseInt(digits[1], 16)) & 0xff
      at += digits[0].length - 1
    }
  }
  return out.subarray(0, to)
}
