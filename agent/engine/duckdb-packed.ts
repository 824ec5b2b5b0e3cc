/** Rows that are bytes already (agent/journal/packed.ts) as DuckDB's chunks: copied as they are, where a value each takes several calls into the addon. */

import { DuckDBDataChunk, type DuckDBType, type DuckDBValue } from '@duckdb/node-api'
import addon, { type Vector } from '@duckdb/node-bindings'
import { isNull, type PackedColumn, type PackedTexts, type PackedValues } from '../journal/packed.ts'
import type { Cell } from '../journal/types.ts'
import { chunkRows } from './duckdb-values.ts'

/** Rows of which some columns may be Cells. */
export interface StagedRows {
  readonly count: number
  readonly columns: readonly (PackedColumn | readonly Cell[])[]
}

/** DuckDB's string_t: u32 length, then the text itself, zeros behind it, if it has so few bytes; else a pointer, which only the addon can set. */
const textWidth = 16
const shortText = 12

/** `work` gets the rows, chunk by chunk. A column's type must be that of its values, of texts VARCHAR; `write`: its Cells as DuckDB's values. */
export function forChunks(
  columns: readonly { readonly type: DuckDBType; readonly write: (cell: Cell) => DuckDBValue }[],
  rows: StagedRows,
  work: (chunk: DuckDBDataChunk) => void,
): void {
  const types = columns.map(({ type }) => type)
  for (let from = 0; from < rows.count; from += chunkRows) {
    const to = Math.min(rows.count, from + chunkRows)
    const chunk = DuckDBDataChunk.create(types, to - from)
    try {
      for (const [i, column] of rows.columns.entries()) {
        const { write } = columns[i] as (typeof columns)[number]
        if (!('kind' in column))
          chunk.setColumnValues(
            i,
            column.slice(from, to).map((cell) => (cell === null ? null : write(cell))),
          )
        else if (column.kind === 'texts') fillTexts(addon.data_chunk_get_vector(chunk.chunk, i), column, from, to)
        else fillValues(addon.data_chunk_get_vector(chunk.chunk, i), column, from, to)
      }
      work(chunk)
    } finally {
      // Not when garbage is collected, of which V8 sees little: texts are native memory.
      chunk.reset()
    }
  }
}

function fillValues(vector: Vector, { bytes, width, nulls }: PackedValues, from: number, to: number): void {
  if (bytes.length > 0) copyTo(vector, bytes.subarray(from * width, to * width))
  if (nulls !== undefined) fillValidity(vector, to - from, (row) => isNull(nulls, from + row))
}

function fillTexts(vector: Vector, { bytes, starts, ends, first, stride }: PackedTexts, from: number, to: number): void {
  const buffer = new ArrayBuffer(textWidth * (to - from))
  const lengths = new Uint32Array(buffer)
  const heads = new Uint8Array(buffer)
  const long: number[] = []
  let nulls = false
  for (let row = 0, at = first + from * stride; row < to - from; row++, at += stride) {
    const start = starts[at] as number
    const length = (ends[at] as number) - start
    if (ends[at] === -1) nulls = true
    else if (length > shortText) long.push(row)
    else {
      lengths[row * 4] = length
      for (let i = 0; i < length; i++) heads[row * textWidth + 4 + i] = bytes[start + i] as number
    }
  }
  copyTo(vector, heads)
  for (const row of long) {
    const at = first + (from + row) * stride
    addon.vector_assign_string_element_len(vector, row, bytes.subarray(starts[at], ends[at]))
  }
  if (nulls) fillValidity(vector, to - from, (row) => ends[first + (from + row) * stride] === -1)
}

function copyTo(vector: Vector, { buffer, byteOffset, byteLength }: Uint8Array): void {
  addon.copy_data_to_vector(vector, 0, buffer as ArrayBuffer, byteOffset, byteLength)
}

/** Marks the rows that are NULL. */
function fillValidity(vector: Vector, count: number, isNullAt: (row: number) => boolean): void {
  const valid = new Uint8Array(Math.ceil(count / 64) * 8).fill(0xff)
  for (let row = 0; row < count; row++) if (isNullAt(row)) valid[row >> 3] = (valid[row >> 3] as number) & ~(1 << (row & 7))
  addon.vector_ensure_validity_writable(vector)
  addon.copy_data_to_vector_validity(vector, 0, valid.buffer, 0, valid.byteLength)
}
