/**
 * Rows whose values are bytes already, as the journal keeps them (agent/journal/cells.ts) and DuckDB takes them: many rows, of which nobody
 * wants a Cell.
 */

import type { ByteWriter } from './bytes.ts'
import { encodeColumn } from './cells.ts'
import type { ColumnType } from './types.ts'

/** Values of a fixed width, the place of a NULL among them. */
export interface PackedValues {
  readonly kind: 'values'
  /** Bytes of a value. */
  readonly width: number
  /** Little endian. */
  readonly bytes: Uint8Array
  /** By row, least significant bit first, 1 = NULL; undefined: there is none. */
  readonly nulls: Uint8Array | undefined
}

/** Texts in UTF-8: row `r` is from `starts[first + r * stride]` to `ends[…]`, which is -1 for NULL. */
export interface PackedTexts {
  readonly kind: 'texts'
  readonly bytes: Uint8Array
  readonly starts: Int32Array
  readonly ends: Int32Array
  readonly first: number
  readonly stride: number
}

export type PackedColumn = PackedValues | PackedTexts

/** NULLs of any type. */
export interface PackedNulls {
  readonly kind: 'nulls'
  readonly type: ColumnType
}

/** `columns[c]` is column `c` of the table. */
export interface PackedRows {
  readonly count: number
  readonly columns: readonly (PackedColumn | PackedNulls)[]
}

export function isNull(nulls: Uint8Array, row: number): boolean {
  return (((nulls[row >> 3] as number) >> (row & 7)) & 1) === 1
}

/** Writes rows `from` to `to` of a column as encodeColumn does. */
export function encodePacked(out: ByteWriter, column: PackedColumn | PackedNulls, from: number, to: number): void {
  if (column.kind === 'texts') encodeTexts(out, column, from, to)
  else if (column.kind === 'values') encodeValues(out, column, from, to)
  // More than a bitmap: a nested type has columns of its own, of which nothing is there but their heads.
  else encodeColumn(out, column.type, new Array(to - from).fill(null))
}

function encodeValues(out: ByteWriter, { bytes, width, nulls }: PackedValues, from: number, to: number): void {
  if (nulls === undefined || !writeNulls(out, from, to, (row) => isNull(nulls, row))) {
    out.u8(0)
    out.raw(bytes.subarray(from * width, to * width))
    return
  }
  let run = from
  for (let row = from; row <= to; row++) {
    if (row < to && !isNull(nulls, row)) continue
    if (run < row) out.raw(bytes.subarray(run * width, row * width))
    run = row + 1
  }
}

function encodeTexts(out: ByteWriter, { bytes, starts, ends, first, stride }: PackedTexts, from: number, to: number): void {
  if (!writeNulls(out, from, to, (row) => ends[first + row * stride] === -1)) out.u8(0)
  for (let row = from, at = first + from * stride; row < to; row++, at += stride) {
    const end = ends[at] as number
    if (end !== -1) out.part(bytes, starts[at] as number, end)
  }
}

/** Writes the bitmap of the NULLs; false, having written nothing, when there is none. */
function writeNulls(out: ByteWriter, from: number, to: number, isNullAt: (row: number) => boolean): boolean {
  let bitmap: Uint8Array | undefined
  for (let row = from; row < to; row++) {
    if (!isNullAt(row)) continue
    bitmap ??= new Uint8Array((to - from + 7) >> 3)
    bitmap[(row - from) >> 3] = (bitmap[(row - from) >> 3] as number) | (1 << ((row - from) & 7))
  }
  if (bitmap === undefined) return false
  out.u8(1)
  out.raw(bitmap)
  return true
}

/** Ends of parts of about `bytes` bytes, a row at least, in order; the last one is the number of rows. */
export function* packedParts({ count, columns }: PackedRows, bytes: number): Generator<number> {
  let fixed = 0
  const texts: PackedTexts[] = []
  for (const column of columns) {
    if (column.kind === 'texts') texts.push(column)
    else if (column.kind === 'values') fixed += column.width
  }
  let size = 0
  for (let row = 0; row < count - 1; row++) {
    size += fixed
    for (const { starts, ends, first, stride } of texts) {
      const at = first + row * stride
      size += 2 + Math.max(0, (ends[at] as number) - (starts[at] as number))
    }
    if (size < bytes) continue
    yield row + 1
    size = 0
  }
  yield count
}
