/** Columns of numbers, and of times, in DuckDB's chunks, read as the bytes that they are: a JavaScript value each, of BIGINT and DECIMAL even an object or two, costs more than the rest. */

import type { DuckDBDataChunk } from '@duckdb/node-api'
import addon, { type Vector } from '@duckdb/node-bindings'
import type { ColumnType } from '../journal/types.ts'
import { Numbers } from './pgwire/numbers.ts'

/** Numbers of `count` rows of a column from row `start` on; undefined: one of them is no safe integer. What it returns is no memory of DuckDB's. */
export type NumberReader = (chunk: DuckDBDataChunk, column: number, start: number, count: number) => Numbers | undefined

/** Bytes of a value, and how `count` of them are read from byte `at` of a buffer on. */
type Width = readonly [bytes: 1 | 2 | 4 | 8, read: (buffer: ArrayBufferLike, at: number, count: number) => number[] | undefined]

const signed32: Width = [4, (buffer, at, count) => listOf(new Int32Array(buffer, at, count))]
const signed64: Width = [8, readSigned64]
const widths: Partial<Record<ColumnType['kind'], Width>> = {
  TINYINT: [1, (buffer, at, count) => listOf(new Int8Array(buffer, at, count))],
  UTINYINT: [1, (buffer, at, count) => listOf(new Uint8Array(buffer, at, count))],
  SMALLINT: [2, (buffer, at, count) => listOf(new Int16Array(buffer, at, count))],
  USMALLINT: [2, (buffer, at, count) => listOf(new Uint16Array(buffer, at, count))],
  INTEGER: signed32,
  UINTEGER: [4, (buffer, at, count) => listOf(new Uint32Array(buffer, at, count))],
  DOUBLE: [8, (buffer, at, count) => listOf(new Float64Array(buffer, at, count))],
  BIGINT: signed64,
  DATE: signed32,
  TIMESTAMP: signed64,
}
/** The digits of their values are not their text. */
const unlike: readonly ColumnType['kind'][] = ['DOUBLE', 'DATE', 'TIMESTAMP']
/** Their Cells are bigints. */
const big: readonly ColumnType['kind'][] = ['DECIMAL', 'BIGINT', 'TIMESTAMP']

/** undefined: values of the type are no such numbers. */
export function numberReader(type: ColumnType): NumberReader | undefined {
  const width = type.kind === 'DECIMAL' ? decimalWidth(type.width) : widths[type.kind]
  if (width === undefined) return undefined
  const [size, read] = width
  const scale = type.kind === 'DECIMAL' ? type.scale : unlike.includes(type.kind) ? -1 : 0
  const isBig = big.includes(type.kind)
  return (chunk, column, start, count) => {
    const vector = addon.data_chunk_get_vector(chunk.chunk, column)
    const { buffer, byteOffset } = addon.vector_get_data(vector, size * (start + count))
    const values = read(buffer, byteOffset + size * start, count)
    return values === undefined ? undefined : new Numbers(values, validity(vector, start + count), start, scale, isBig)
  }
}

/** DuckDB keeps a DECIMAL in as few bytes as its width allows. */
function decimalWidth(width: number): Width | undefined {
  return width <= 4 ? widths.SMALLINT : width <= 9 ? widths.INTEGER : width <= 18 ? signed64 : undefined
}

function listOf(from: ArrayLike<number>): number[] {
  const values: number[] = []
  for (let row = 0; row < from.length; row++) values.push(from[row] as number)
  return values
}

/** Highest halves, either way, of 64 bits that a double holds exactly. */
const exactHigh = 1 << 21

/** What stands in the place of a NULL counts as well: it is only slower to find it too large. */
function readSigned64(buffer: ArrayBufferLike, at: number, count: number): number[] | undefined {
  const words = new Int32Array(buffer, at, count * 2)
  const values: number[] = []
  for (let row = 0; row < count; row++) {
    const high = words[2 * row + 1] as number
    if (high >= exactHigh || high <= -exactHigh) return undefined
    values.push(high * 4_294_967_296 + ((words[2 * row] as number) >>> 0))
  }
  return values
}

function validity(vector: Vector, rows: number): Uint8Array | undefined {
  // DuckDB has none where no value is NULL, whatever the declaration says.
  const bits: Uint8Array | null = addon.vector_get_validity(vector, Math.ceil(rows / 64) * 8)
  // A copy: a slice of a Buffer would be DuckDB's memory.
  return bits === null ? undefined : new Uint8Array(bits)
}
