/**
 * The columns of COPY data as values: text is read here, byte by byte and without a string for each, where its form is the common one and its
 * meaning beyond doubt; a rarer form goes through `cellFromText`, which says what is beyond doubt (certain-texts.ts). What it leaves open is for
 * DuckDB to cast.
 */

import { dateExists, daysOf } from '../calendar.ts'
import type { PackedColumn, PackedTexts, PackedValues } from '../journal/packed.ts'
import type { Cell, Column, ColumnType } from '../journal/types.ts'
import { cellFromText } from './certain-texts.ts'
import type { CopyFields } from './pgwire/copy-fields.ts'

/** Digits that any double holds exactly, whatever they are. */
const exactDigits = 15
/** Seconds from 1970, either way, whose microseconds any double holds exactly. */
const exactSeconds = 9_000_000_000
const powers = Array.from({ length: exactDigits + 1 }, (_, i) => 10 ** i)
const [zero, minus, point, colon, letterT, space] = [0x30, 0x2d, 0x2e, 0x3a, 0x54, 0x20] as const

/** Reads the text of a value at `start` … `end` into place `row` of its column; false: not in the common form, nothing is written. */
type Read = (values: Values, row: number, bytes: Uint8Array, start: number, end: number) => boolean

/** Views of the same bytes. */
class Values {
  readonly width: number
  bytes: Uint8Array
  words: Int32Array
  doubles: Float64Array
  view: DataView

  constructor(width: number, rows: number) {
    this.width = width
    const buffer = new ArrayBuffer(Math.ceil((width * rows) / 8) * 8)
    this.bytes = new Uint8Array(buffer)
    this.words = new Int32Array(buffer)
    this.doubles = new Float64Array(buffer)
    this.view = new DataView(buffer)
  }

  /** A whole number that a double holds exactly, into 64 bits. */
  setExact(row: number, value: number): void {
    this.words[2 * row] = value
    this.words[2 * row + 1] = Math.floor(value / 4_294_967_296)
  }
}

/** A column that is read part by part. */
export class CopyColumn {
  readonly column: Column
  #form: Form | undefined
  #values: Values
  /** What was handed out last: memory for the next block. */
  #lent: Values | undefined
  #nulls: Uint8Array | undefined
  #capacity = 256
  #rows = 0
  /** A value of the block is for DuckDB to cast. */
  #open: boolean

  constructor(column: Column) {
    this.column = column
    this.#form = formOf(column.type)
    this.#values = new Values(this.#form?.width ?? 0, this.#capacity)
    this.#open = this.#form === undefined
  }

  /** DuckDB's type of its values. */
  get sqlType(): string {
    const { type } = this.column
    return type.kind === 'DECIMAL' ? `DECIMAL(18, ${type.scale})` : type.kind
  }

  /** Reads the rows that are new in column `index` of the block. */
  read(fields: CopyFields, index: number): void {
    if (this.#open || this.#form === undefined) return
    const { bytes, starts, ends, width, rows } = fields
    const { read } = this.#form
    this.#reserve(rows)
    for (let row = this.#rows, at = row * width + index; row < rows; row++, at += width) {
      const start = starts[at] as number
      const end = ends[at] as number
      if (end === -1) this.#setNull(row)
      else if (!read(this.#values, row, bytes, start, end) && !this.#setRare(row, bytes.toString('latin1', start, end))) {
        this.#open = true
        return
      }
    }
    this.#rows = rows
  }

  /** The column of the block that was read, until the next call, and begins a new one; undefined: its values are for DuckDB to cast. */
  take(fields: CopyFields, index: number): PackedColumn | undefined {
    // JSON and other aliases have checks of their own.
    if (this.column.sqlType === 'VARCHAR') return textsOf(fields, index)
    const { width, bytes } = this.#values
    const packed: PackedValues | undefined = this.#open ? undefined : { kind: 'values', width, bytes, nulls: this.#nulls }
    this.#open = this.#form === undefined
    const next = this.#lent?.bytes.length === bytes.length ? this.#lent : new Values(width, this.#capacity)
    this.#lent = this.#values
    this.#values = next
    this.#nulls = undefined
    this.#rows = 0
    return packed
  }

  #reserve(rows: number): void {
    if (rows <= this.#capacity) return
    while (rows > this.#capacity) this.#capacity *= 2
    const { bytes } = this.#values
    this.#values = new Values(this.#values.width, this.#capacity)
    this.#values.bytes.set(bytes)
    if (this.#nulls === undefined) return
    const nulls = new Uint8Array(this.#capacity >> 3)
    nulls.set(this.#nulls)
    this.#nulls = nulls
  }

  #setNull(row: number): void {
    this.#nulls ??= new Uint8Array(this.#capacity >> 3)
    this.#nulls[row >> 3] = (this.#nulls[row >> 3] as number) | (1 << (row & 7))
  }

  #setRare(row: number, text: string): boolean {
    const { type, sqlType } = this.column
    const cell = cellFromText(type, sqlType, text)
    if (cell === undefined) return false
    this.#form?.set(this.#values.view, row * this.#values.width, cell)
    return true
  }
}

export function textsOf({ bytes, starts, ends, width }: CopyFields, index: number): PackedTexts {
  return { kind: 'texts', bytes, starts, ends, first: index, stride: width }
}

interface Form {
  /** Bytes of a value, as the journal and DuckDB have it. */
  readonly width: 1 | 2 | 4 | 8
  readonly read: Read
  readonly set: (view: DataView, at: number, cell: Cell) => void
}

const noCommonForm: Read = () => false

const forms: Partial<Record<ColumnType['kind'], Form>> = {
  BOOLEAN: { width: 1, read: readBoolean, set: (view, at, cell) => view.setUint8(at, cell === true ? 1 : 0) },
  TINYINT: { width: 1, read: noCommonForm, set: (view, at, cell) => view.setInt8(at, cell as number) },
  UTINYINT: { width: 1, read: noCommonForm, set: (view, at, cell) => view.setUint8(at, cell as number) },
  SMALLINT: { width: 2, read: noCommonForm, set: (view, at, cell) => view.setInt16(at, cell as number, true) },
  USMALLINT: { width: 2, read: noCommonForm, set: (view, at, cell) => view.setUint16(at, cell as number, true) },
  INTEGER: { width: 4, read: readInteger, set: (view, at, cell) => view.setInt32(at, cell as number, true) },
  UINTEGER: { width: 4, read: noCommonForm, set: (view, at, cell) => view.setUint32(at, cell as number, true) },
  BIGINT: { width: 8, read: readBigint, set: (view, at, cell) => view.setBigInt64(at, cell as bigint, true) },
  UBIGINT: { width: 8, read: noCommonForm, set: (view, at, cell) => view.setBigUint64(at, cell as bigint, true) },
  DOUBLE: { width: 8, read: readDouble, set: (view, at, cell) => view.setFloat64(at, cell as number, true) },
  DATE: { width: 4, read: readDate, set: (view, at, cell) => view.setInt32(at, cell as number, true) },
  TIMESTAMP: { width: 8, read: readTimestamp, set: (view, at, cell) => view.setBigInt64(at, cell as bigint, true) },
  TIMESTAMPTZ: { width: 8, read: noCommonForm, set: (view, at, cell) => view.setBigInt64(at, cell as bigint, true) },
}

function formOf(type: ColumnType): Form | undefined {
  if (type.kind !== 'DECIMAL') return forms[type.kind]
  // The journal has wider ones in 16 bytes.
  if (type.width > 18) return undefined
  return { width: 8, read: decimalReader(type.width, type.scale), set: (view, at, cell) => view.setBigInt64(at, cell as bigint, true) }
}

function readBoolean(values: Values, row: number, bytes: Uint8Array, start: number, end: number): boolean {
  const byte = bytes[start]
  if (end - start === 1 && (byte === 0x74 || byte === 0x66)) values.bytes[row] = byte === 0x74 ? 1 : 0
  else if (end - start === 4 && isWord(bytes, start, 0x74, 0x72, 0x75, 0x65)) values.bytes[row] = 1
  else if (end - start === 5 && isWord(bytes, start, 0x66, 0x61, 0x6c, 0x73) && bytes[start + 4] === 0x65) values.bytes[row] = 0
  else return false
  return true
}

function isWord(bytes: Uint8Array, at: number, a: number, b: number, c: number, d: number): boolean {
  return bytes[at] === a && bytes[at + 1] === b && bytes[at + 2] === c && bytes[at + 3] === d
}

/** The number whose digits are there, 1 to 15 of them; -1: something else is. */
function digitsAt(bytes: Uint8Array, start: number, end: number): number {
  if (end <= start || end - start > exactDigits) return -1
  let value = 0
  for (let at = start; at < end; at++) {
    const digit = (bytes[at] as number) - zero
    if (digit < 0 || digit > 9) return -1
    value = value * 10 + digit
  }
  return value
}

function readInteger(values: Values, row: number, bytes: Uint8Array, start: number, end: number): boolean {
  const negative = bytes[start] === minus
  const value = digitsAt(bytes, negative ? start + 1 : start, end)
  if (value < 0 || value > 0x7fff_ffff) return false
  values.words[row] = negative ? -value : value
  return true
}

function readBigint(values: Values, row: number, bytes: Uint8Array, start: number, end: number): boolean {
  const negative = bytes[start] === minus
  const value = digitsAt(bytes, negative ? start + 1 : start, end)
  if (value < 0) return false
  values.setExact(row, negative ? -value : value)
  return true
}

/** The last number that `scan` has read: its digits as a whole number, and how many of them stand before and behind the point. */
const scanned = { value: 0, whole: 0, places: 0 }

/** Reads digits with at most one point among them; false: something else is there, or more than are exact together. */
function scan(bytes: Uint8Array, first: number, end: number): boolean {
  let value = 0
  let pointAt = end
  if (end - first > exactDigits + 1) return false
  for (let at = first; at < end; at++) {
    const digit = (bytes[at] as number) - zero
    if (digit >= 0 && digit <= 9) value = value * 10 + digit
    else if (bytes[at] === point && pointAt === end) pointAt = at
    else return false
  }
  // With digits on both sides of the point, or without it.
  if (pointAt === first || pointAt === end - 1) return false
  scanned.value = value
  scanned.whole = pointAt - first
  scanned.places = pointAt === end ? 0 : end - pointAt - 1
  return true
}

/** Digits of both sides of a point together are exact, and so is the power of ten: their quotient is the double that is nearest. */
function readDouble(values: Values, row: number, bytes: Uint8Array, start: number, end: number): boolean {
  const negative = bytes[start] === minus
  if (!scan(bytes, negative ? start + 1 : start, end) || scanned.whole > exactDigits) return false
  const double = scanned.value / (powers[scanned.places] as number)
  values.doubles[row] = negative ? -double : double
  return true
}

function decimalReader(width: number, scale: number): Read {
  const mostWhole = Math.min(width, exactDigits) - scale
  return (values, row, bytes, start, end) => {
    const negative = bytes[start] === minus
    if (!scan(bytes, negative ? start + 1 : start, end) || scanned.places > scale || scanned.whole > mostWhole) return false
    const value = scanned.value * (powers[scale - scanned.places] as number)
    values.setExact(row, negative ? -value : value)
    return true
  }
}

/** Two digits; -1: something else. */
function twoAt(bytes: Uint8Array, at: number): number {
  const high = (bytes[at] as number) - zero
  const low = (bytes[at + 1] as number) - zero
  return high >= 0 && high <= 9 && low >= 0 && low <= 9 ? high * 10 + low : -1
}

/** Days since 1970 of a date `YYYY-MM-DD` from the year 1000 on; NaN: something else is there, or no such day is. */
function daysAt(bytes: Uint8Array, at: number): number {
  const century = twoAt(bytes, at)
  const yearOf = twoAt(bytes, at + 2)
  const month = twoAt(bytes, at + 5)
  const day = twoAt(bytes, at + 8)
  if (bytes[at + 4] !== minus || bytes[at + 7] !== minus || century < 10 || yearOf < 0) return Number.NaN
  const year = century * 100 + yearOf
  return dateExists(year, month, day) ? daysOf(year, month, day) : Number.NaN
}

function readDate(values: Values, row: number, bytes: Uint8Array, start: number, end: number): boolean {
  const days = end - start === 10 ? daysAt(bytes, start) : Number.NaN
  if (Number.isNaN(days)) return false
  values.words[row] = days
  return true
}

/** `YYYY-MM-DD HH:MM:SS`, with 1 to 6 digits of a fraction. */
function readTimestamp(values: Values, row: number, bytes: Uint8Array, start: number, end: number): boolean {
  const length = end - start
  if (length < 19 || length === 20 || length > 26) return false
  const days = daysAt(bytes, start)
  const hour = twoAt(bytes, start + 11)
  const minute = twoAt(bytes, start + 14)
  const second = twoAt(bytes, start + 17)
  const separated = bytes[start + 13] === colon && bytes[start + 16] === colon
  if (!separated || (bytes[start + 10] !== space && bytes[start + 10] !== letterT)) return false
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59) return false
  const seconds = days * 86_400 + hour * 3600 + minute * 60 + second
  if (!(Math.abs(seconds) < exactSeconds)) return false
  let fraction = 0
  if (length > 19) {
    fraction = bytes[start + 19] === point ? digitsAt(bytes, start + 20, end) * (powers[26 - length] as number) : -1
    if (fraction < 0) return false
  }
  values.setExact(row, seconds * 1_000_000 + fraction)
  return true
}
