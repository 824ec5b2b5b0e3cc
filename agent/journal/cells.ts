/**
 * The journal's encoding of a column of Cells (agent/journal/types.ts), by type:
 *
 *   u8 0 (no NULLs) or 1 followed by a bitmap of ceil(n/8) bytes, least significant bit first, 1 = NULL; then the other values in order:
 *   BOOLEAN u8 · integers, DATE, TIME…, TIMESTAMP… in their natural width · HUGEINT, UHUGEINT and DECIMAL(>18) two u64, low first ·
 *   DECIMAL(≤18) i64 · FLOAT f32 · DOUBLE f64 · VARCHAR, BIT, BIGNUM length-prefixed text · BLOB length-prefixed bytes · UUID 16 bytes ·
 *   INTERVAL i32 i32 i64 · ENUM varint index · LIST varint lengths, then one column of all elements · ARRAY one column of all elements ·
 *   STRUCT one column per field · MAP varint lengths, key column, value column · UNION u8 member indexes, then one column per member.
 */

import type { ByteReader, ByteWriter } from './bytes.ts'
import { type Cell, type ColumnType, type Interval, type MapEntries, type UnionCell, uuidCell } from './types.ts'

const mask64 = (1n << 64n) - 1n

export function encodeColumn(out: ByteWriter, type: ColumnType, cells: readonly Cell[]): void {
  let values = cells
  if (cells.includes(null)) {
    const bitmap = new Uint8Array((cells.length + 7) >> 3)
    for (let i = 0; i < cells.length; i++) if (cells[i] === null) bitmap[i >> 3] = (bitmap[i >> 3] as number) | (1 << (i & 7))
    out.u8(1)
    out.raw(bitmap)
    values = cells.filter((cell) => cell !== null)
  } else out.u8(0)
  encodeValues(out, type, values)
}

export function decodeColumn(input: ByteReader, type: ColumnType, count: number): Cell[] {
  if (input.u8() === 0) return decodeValues(input, type, count)
  const bitmap = input.raw((count + 7) >> 3)
  const isNull = (i: number) => ((bitmap[i >> 3] as number) >> (i & 7)) & 1
  let present = 0
  for (let i = 0; i < count; i++) if (!isNull(i)) present++
  const values = decodeValues(input, type, present)
  const cells: Cell[] = new Array(count)
  for (let i = 0, next = 0; i < count; i++) cells[i] = isNull(i) ? null : (values[next++] as Cell)
  return cells
}

function encodeValues(out: ByteWriter, type: ColumnType, values: readonly Cell[]): void {
  switch (type.kind) {
    case 'LIST':
      for (const value of values) out.varint((value as Cell[]).length)
      encodeColumn(out, type.child, (values as Cell[][]).flat(1) as Cell[])
      return
    case 'ARRAY':
      encodeColumn(out, type.child, (values as Cell[][]).flat(1) as Cell[])
      return
    case 'STRUCT':
      type.fields.forEach(([, field], i) => {
        encodeColumn(
          out,
          field,
          values.map((value) => (value as Cell[])[i] as Cell),
        )
      })
      return
    case 'MAP': {
      const entries = (values as MapEntries[]).map((value) => value.entries)
      for (const list of entries) out.varint(list.length)
      const all = entries.flat(1)
      encodeColumn(
        out,
        type.key,
        all.map(([key]) => key),
      )
      encodeColumn(
        out,
        type.value,
        all.map(([, value]) => value),
      )
      return
    }
    case 'UNION': {
      const tags = (values as UnionCell[]).map((value) => type.members.findIndex(([name]) => name === value.tag))
      if (tags.includes(-1)) throw new RangeError('a UNION value has a tag that its type lacks')
      for (const tag of tags) out.u8(tag)
      type.members.forEach(([, member], i) => {
        encodeColumn(
          out,
          member,
          (values as UnionCell[]).filter((_, row) => tags[row] === i).map((value) => value.value),
        )
      })
      return
    }
    case 'ENUM': {
      const index = new Map(type.values.map((name, i) => [name, i]))
      for (const value of values) {
        const at = index.get(value as string)
        if (at === undefined) throw new RangeError(`'${value}' is no value of its ENUM type`)
        out.varint(at)
      }
      return
    }
    default: {
      const write = writerOf(type)
      for (const value of values) write(out, value)
    }
  }
}

function decodeValues(input: ByteReader, type: ColumnType, count: number): Cell[] {
  switch (type.kind) {
    case 'LIST': {
      const lengths = repeat(count, () => input.varint())
      return split(decodeColumn(input, type.child, sum(lengths)), lengths)
    }
    case 'ARRAY':
      return split(decodeColumn(input, type.child, count * type.size), new Array(count).fill(type.size))
    case 'STRUCT': {
      const fields = type.fields.map(([, field]) => decodeColumn(input, field, count))
      return repeat(count, (row) => fields.map((field) => field[row] as Cell))
    }
    case 'MAP': {
      const lengths = repeat(count, () => input.varint())
      const total = sum(lengths)
      const keys = decodeColumn(input, type.key, total)
      const values = decodeColumn(input, type.value, total)
      const entries = split(
        keys.map((key, i) => [key, values[i] as Cell] as Cell),
        lengths,
      ) as unknown as [Cell, Cell][][]
      return entries.map((list) => ({ entries: list }))
    }
    case 'UNION': {
      const tags = repeat(count, () => input.u8())
      const members = type.members.map(([, member], i) => decodeColumn(input, member, tags.filter((tag) => tag === i).length))
      const next = members.map(() => 0)
      return tags.map((tag) => {
        const at = next[tag] as number
        next[tag] = at + 1
        return { tag: (type.members[tag] as readonly [string, ColumnType])[0], value: (members[tag] as Cell[])[at] as Cell }
      })
    }
    case 'ENUM':
      return repeat(count, () => type.values[input.varint()] as string)
    default: {
      const read = readerOf(type)
      return repeat(count, () => read(input))
    }
  }
}

type LeafType = Exclude<ColumnType, { kind: 'LIST' | 'ARRAY' | 'STRUCT' | 'MAP' | 'UNION' | 'ENUM' }>

function writerOf(type: LeafType): (out: ByteWriter, value: Cell) => void {
  switch (type.kind) {
    case 'BOOLEAN':
      return (out, value) => out.u8(value ? 1 : 0)
    case 'TINYINT':
      return (out, value) => out.i8(value as number)
    case 'UTINYINT':
      return (out, value) => out.u8(value as number)
    case 'SMALLINT':
      return (out, value) => out.i16(value as number)
    case 'USMALLINT':
      return (out, value) => out.u16(value as number)
    case 'INTEGER':
    case 'DATE':
      return (out, value) => out.i32(value as number)
    case 'UINTEGER':
      return (out, value) => out.u32(value as number)
    case 'BIGINT':
    case 'TIME':
    case 'TIME_NS':
    case 'TIMESTAMP':
    case 'TIMESTAMP_S':
    case 'TIMESTAMP_MS':
    case 'TIMESTAMP_NS':
    case 'TIMESTAMPTZ':
      return (out, value) => out.i64(value as bigint)
    case 'UBIGINT':
    case 'TIMETZ':
      return (out, value) => out.u64(value as bigint)
    case 'HUGEINT':
      return writeSignedWide
    case 'UHUGEINT':
      return writeUnsignedWide
    case 'DECIMAL':
      return type.width <= 18 ? (out, value) => out.i64(value as bigint) : writeSignedWide
    case 'FLOAT':
      return (out, value) => out.f32(value as number)
    case 'DOUBLE':
      return (out, value) => out.f64(value as number)
    case 'VARCHAR':
    case 'BIT':
      return (out, value) => out.text(value as string)
    case 'BIGNUM':
      return (out, value) => out.text((value as bigint).toString())
    case 'BLOB':
      return (out, value) => out.blob(value as Uint8Array)
    case 'UUID':
      return (out, value) => out.raw(Buffer.from((value as string).replaceAll('-', ''), 'hex'))
    case 'INTERVAL':
      return (out, value) => {
        const { months, days, micros } = value as Interval
        out.i32(months)
        out.i32(days)
        out.i64(micros)
      }
    case 'SQLNULL':
      return () => {}
  }
}

function readerOf(type: LeafType): (input: ByteReader) => Cell {
  switch (type.kind) {
    case 'BOOLEAN':
      return (input) => input.u8() === 1
    case 'TINYINT':
      return (input) => input.i8()
    case 'UTINYINT':
      return (input) => input.u8()
    case 'SMALLINT':
      return (input) => input.i16()
    case 'USMALLINT':
      return (input) => input.u16()
    case 'INTEGER':
    case 'DATE':
      return (input) => input.i32()
    case 'UINTEGER':
      return (input) => input.u32()
    case 'BIGINT':
    case 'TIME':
    case 'TIME_NS':
    case 'TIMESTAMP':
    case 'TIMESTAMP_S':
    case 'TIMESTAMP_MS':
    case 'TIMESTAMP_NS':
    case 'TIMESTAMPTZ':
      return (input) => input.i64()
    case 'UBIGINT':
    case 'TIMETZ':
      return (input) => input.u64()
    case 'HUGEINT':
      return readSignedWide
    case 'UHUGEINT':
      return (input) => input.u64() | (input.u64() << 64n)
    case 'DECIMAL':
      return type.width <= 18 ? (input) => input.i64() : readSignedWide
    case 'FLOAT':
      return (input) => input.f32()
    case 'DOUBLE':
      return (input) => input.f64()
    case 'VARCHAR':
    case 'BIT':
      return (input) => input.text()
    case 'BIGNUM':
      return (input) => BigInt(input.text())
    case 'BLOB':
      return (input) => Buffer.from(input.blob())
    case 'UUID':
      return (input) => uuidCell(input.raw(16).toString('hex'))
    case 'INTERVAL':
      return (input) => ({ months: input.i32(), days: input.i32(), micros: input.i64() })
    case 'SQLNULL':
      return () => null
  }
}

function writeSignedWide(out: ByteWriter, value: Cell): void {
  out.u64((value as bigint) & mask64)
  out.i64((value as bigint) >> 64n)
}

function writeUnsignedWide(out: ByteWriter, value: Cell): void {
  out.u64((value as bigint) & mask64)
  out.u64((value as bigint) >> 64n)
}

function readSignedWide(input: ByteReader): bigint {
  const low = input.u64()
  return low | (input.i64() << 64n)
}

function repeat<T>(count: number, make: (index: number) => T): T[] {
  const list: T[] = new Array(count)
  for (let i = 0; i < count; i++) list[i] = make(i)
  return list
}

function sum(numbers: readonly number[]): number {
  let total = 0
  for (const number of numbers) total += number
  return total
}

function split(cells: readonly Cell[], lengths: readonly number[]): Cell[] {
  let at = 0
  return lengths.map((length) => {
    const part = cells.slice(at, at + length) as Cell[]
    at += length
    return part
  })
}
