/**
 * What the mirror keeps in Redis, and how to read it back. Under `dg:<name>:`
 *
 *   watermark                     hash   database_id, seq, time (ms); part: rows of seq + 1 that are in already, while a large one is under way
 *   changes                       stream one entry per row image or schema change, in commit order (see `entry` in units.ts)
 *   table:<schema.table>          hash   columns (JSON), primary_key (JSON), seq: the table as its newest row saw it
 *   row:<schema.table>:<key>      hash   the latest image of a row; expires `retention` after its commit
 *
 * A row's fields are its columns in the text of cell-text.ts. Columns that are NULL have no field; `_dg_null` lists them (a column that is
 * neither was added later and has its default). `_dg_seq` and `_dg_time` say when it was committed. A column that itself begins
 * with `_dg_` gets one more underscore. `<key>` is the primary key's texts, each percent-encoded, joined by `:`; keyless rows
 * have `<seq>:<n>`. Everything is text: any Redis client can read it.
 */

import { cellText, parseCell } from '../../agent/cell-text.ts'
import type { Cell, Column, Table } from '../../agent/journal/types.ts'

/** The keys of one host. */
export class Keys {
  readonly prefix: string
  readonly watermark: string
  readonly changes: string

  constructor(host: string) {
    this.prefix = `dg:${host}:`
    this.watermark = `${this.prefix}watermark`
    this.changes = `${this.prefix}changes`
  }

  table(table: { readonly schema: string; readonly name: string }): string {
    return `${this.prefix}table:${escapedName(table)}`
  }

  row(table: { readonly schema: string; readonly name: string }, key: string): string {
    return `${this.rows(table)}${key}`
  }

  /** The prefix of a table's row keys. */
  rows(table: { readonly schema: string; readonly name: string }): string {
    return `${this.prefix}row:${escapedName(table)}:`
  }
}

/** `schema.table` with everything but letters, digits, `_` and `-` percent-encoded, so that `:` and `.` stay separators. */
function escapedName(table: { readonly schema: string; readonly name: string }): string {
  return `${escaped(table.schema)}.${escaped(table.name)}`
}

function escaped(text: string): string {
  return encodeURIComponent(text).replace(/[.!~*'()]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

/** The key of a row from its primary-key cells, in key order. Different keys give different texts. */
export function keyText(table: Table, cells: readonly Cell[]): string {
  return table.primaryKey.map((column, i) => escaped(cellText(cells[i] as Exclude<Cell, null>, table.columns[column]!.type))).join(':')
}

/** The field of a column. */
export function fieldName(column: string): string {
  return /^_+dg_/.test(column) ? `_${column}` : column
}

/** A row image as alternating fields and texts. `cells`: all columns of the table. */
export function encodeRow(table: Table, cells: readonly Cell[], seq: number, time: number): string[] {
  const fields: string[] = []
  const nulls: string[] = []
  table.columns.forEach((column, i) => {
    const cell = cells[i] ?? null
    if (cell === null) nulls.push(column.name)
    else fields.push(fieldName(column.name), cellText(cell, column.type))
  })
  if (nulls.length > 0) fields.push('_dg_null', JSON.stringify(nulls))
  fields.push('_dg_seq', String(seq), '_dg_time', String(time))
  return fields
}

export interface MirroredRow {
  /** Commit that wrote the image, and its time (ms). */
  readonly seq: number
  readonly time: number
  /** By column of the table; undefined: the row is older than the column, which has its default. */
  readonly cells: readonly (Cell | undefined)[]
}

/** Reads a row's hash (`HGETALL`) back. Throws when a text is not of its column's type. */
export function decodeRow(hash: Readonly<Record<string, string>>, table: Pick<Table, 'columns'>): MirroredRow {
  const nulls = new Set(hash._dg_null === undefined ? [] : (JSON.parse(hash._dg_null) as string[]))
  const cells = table.columns.map((column) => {
    if (nulls.has(column.name)) return null
    const field = fieldName(column.name)
    return Object.hasOwn(hash, field) ? parseCell(hash[field]!, column.type) : undefined
  })
  return { seq: Number(hash._dg_seq), time: Number(hash._dg_time), cells }
}

/** A table's hash as alternating fields and texts. */
export function encodeTable(table: Table, seq: number): string[] {
  const { schema, name } = table
  return [
    'schema',
    schema,
    'name',
    name,
    'columns',
    JSON.stringify(table.columns),
    'primary_key',
    JSON.stringify(table.primaryKey),
    'seq',
    String(seq),
  ]
}

/** Reads a table's hash back. Throws when there is none. */
export function decodeTable(hash: Readonly<Record<string, string>>): Table {
  const { schema, name, columns, primary_key: primaryKey } = hash
  if (schema === undefined || name === undefined || columns === undefined || primaryKey === undefined)
    throw new Error('the mirror has no definition of this table')
  return { schema, name, columns: JSON.parse(columns) as Column[], primaryKey: JSON.parse(primaryKey) as number[] }
}
