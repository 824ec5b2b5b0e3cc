/**
 * The bytes of one change: u8 kind (its highest bit: the next change is of the same statement), then
 *   insert, delete: varint table · varint rows · columns (agent/journal/cells.ts)
 *   update, upsert: the same, with the list of changed columns after the table
 *   schema, sequence: length-prefixed JSON
 * The table is an index into the transaction's list of tables (agent/journal/record.ts).
 */

import type { ByteReader, ByteWriter } from './bytes.ts'
import { decodeColumn, encodeColumn } from './cells.ts'
import { encodePacked, type PackedRows } from './packed.ts'
import { type Cell, type Change, type Column, type Rows, sizeOf, type Table } from './types.ts'

const kinds = ['insert', 'upsert', 'update', 'delete', 'schema', 'sequence'] as const
const moreBit = 0x80

/** Writes a change; `index` gives a table its number. */
export function encodeChange(out: ByteWriter, change: Change, index: (table: Table) => number): void {
  const more = 'more' in change && change.more === true
  out.u8(kinds.indexOf(change.kind) | (more ? moreBit : 0))
  switch (change.kind) {
    case 'schema':
      out.text(JSON.stringify({ ...change, kind: undefined }))
      return
    case 'sequence':
      out.text(JSON.stringify({ schema: change.schema, name: change.name, value: change.value.toString() }))
      return
    case 'update':
    case 'upsert':
      out.varint(index(change.table))
      out.varint(change.changed.length)
      for (const column of change.changed) out.varint(column)
      break
    default:
      out.varint(index(change.table))
  }
  out.varint(change.rows.count)
  imageColumns(change).forEach((column, i) => {
    encodeColumn(out, column.type, change.rows.columns[i] as Rows['columns'][number])
  })
}

/** Writes rows `from` to `to` as an insert; `table` is its table's number. */
export function encodePackedInsert(out: ByteWriter, rows: PackedRows, from: number, to: number, table: number): void {
  out.u8(kinds.indexOf('insert'))
  out.varint(table)
  out.varint(to - from)
  for (const column of rows.columns) encodePacked(out, column, from, to)
}

export function decodeChange(input: ByteReader, tables: readonly Table[]): Change {
  const byte = input.u8()
  const kind = kinds[byte & ~moreBit]
  const more = byte >= moreBit ? { more: true } : {}
  switch (kind) {
    case 'schema':
      return { ...JSON.parse(input.text()), kind }
    case 'sequence': {
      const { schema, name, value } = JSON.parse(input.text())
      return { kind, schema, name, value: BigInt(value) }
    }
    case 'insert': {
      const table = tables[input.varint()] as Table
      return { kind, table, rows: decodeRows(input, { kind, table }) }
    }
    case 'delete': {
      const table = tables[input.varint()] as Table
      return { kind, table, rows: decodeRows(input, { kind, table }), ...more }
    }
    case 'update':
    case 'upsert': {
      const table = tables[input.varint()] as Table
      const changed = Array.from({ length: input.varint() }, () => input.varint())
      const rows = decodeRows(input, { kind, table })
      return kind === 'upsert' ? { kind, table, changed, rows } : { kind, table, changed, rows, ...more }
    }
    default:
      throw new RangeError('unknown kind of change in the journal')
  }
}

function decodeRows(input: ByteReader, change: { kind: string; table: Table }): Rows {
  const count = input.varint()
  return { count, columns: imageColumns(change).map((column) => decodeColumn(input, column.type, count)) }
}

/** Which columns a change's rows hold: the key for a delete, all for the others. */
function imageColumns(change: { kind: string; table: Table }): readonly Column[] {
  if (change.kind === 'delete') return change.table.primaryKey.map((i) => change.table.columns[i] as Column)
  return change.table.columns
}

/** The change in parts of about `bytes` bytes, a row at least: of one statement still. */
export function* partsOf(change: Change, bytes: number): Generator<Change> {
  if (!('rows' in change) || change.rows.count < 2) return yield change
  const { count, columns } = change.rows
  const sized = columns.filter((cells) => cells.some((cell) => typeof cell === 'object' || typeof cell === 'string'))
  let start = 0
  let size = 0
  for (let row = 0; row < count; row++) {
    size += 8 * columns.length
    for (const cells of sized) size += sizeOf(cells[row] as Cell)
    if (size < bytes || row === count - 1) continue
    yield part(change, start, row + 1)
    start = row + 1
    size = 0
  }
  yield start === 0 ? change : part(change, start, count)
}

function part(change: Extract<Change, { rows: Rows }>, start: number, end: number): Change {
  const rows = { count: end - start, columns: change.rows.columns.map((cells) => cells.slice(start, end)) }
  if (change.kind === 'insert' || change.kind === 'upsert') return { ...change, rows }
  return { ...change, rows, more: end < change.rows.count || change.more === true }
}
