/**
 * A temporary copy of a table that foreign keys reference, to try a statement on: DuckDB refuses to update such rows where it also returns them
 * (duckdb.md 3.7). What happened to the copy is then done to the table by key.
 */

import type { Cell, Rows } from '../journal/types.ts'
import { type CaptureContext, imagesOf, keyNames } from './capture.ts'
import type { TableInfo } from './catalog.ts'
import { cellText } from './row-conflicts.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { type Constraint, createTable, quotedList, readFamily, type TableShape } from './table-shape.ts'

const copyName = 'daemonguard copy'
const copy = `temp.main.${quoteIdentifier(copyName)}`

export async function shapeOf({ executor, catalog }: CaptureContext, { table }: TableInfo): Promise<TableShape> {
  return (await readFamily(executor.connection, catalog, table.schema, table.name))[0] as TableShape
}

/** An empty temporary table with the columns, defaults and generated columns of another; returns its path. */
export async function emptyCopy(
  { executor }: CaptureContext,
  shape: TableShape,
  name: string,
  constraints: readonly Constraint[],
): Promise<string> {
  const path = `temp.main.${quoteIdentifier(name)}`
  await executor.connection.run(createTable({ ...shape, path, constraints }, 'CREATE OR REPLACE TEMPORARY TABLE'))
  return path
}

/** The copy, with all rows or those of which the condition `rows` is true; `unique`: also with what makes rows unique. Returns its path. */
export async function copyOf(
  context: CaptureContext,
  info: TableInfo,
  shape: TableShape,
  { unique, rows }: { unique: boolean; rows?: string | undefined },
): Promise<string> {
  const { connection } = context.executor
  const keys = unique ? shape.constraints.filter(({ type }) => type === 'PRIMARY KEY' || type === 'UNIQUE') : []
  await emptyCopy(context, shape, copyName, keys)
  const names = quotedList(info.table.columns.map((column) => column.name))
  await connection.run(`INSERT INTO ${copy} (${names}) SELECT ${names} FROM ${info.path}${rows === undefined ? '' : ` WHERE ${rows}`}`)
  for (const { sql } of unique ? shape.indexes.filter(isUnique) : []) await connection.run(sql.replace(` ${shape.path} (`, ` ${copy} (`))
  return copy
}

export function isUnique({ sql }: { readonly sql: string }): boolean {
  return /^CREATE UNIQUE /i.test(sql)
}

export interface Done {
  /** Keys. */
  readonly deleted: Rows
  /** Keys, each once. */
  readonly updated: Rows
  /** As `SELECT *` has them. */
  readonly inserted: Rows
}

/** Does to the table what was done to the copy, and drops that. */
export async function applyCopy(context: CaptureContext, info: TableInfo, done: Done, changed: readonly number[]): Promise<void> {
  const { connection } = context.executor
  const { columns, primaryKey, schema, name } = info.table
  const quoted = (i: number) => quoteIdentifier(columns[i]?.name ?? '')
  if (done.deleted.count > 0) {
    const keys = await keyTable(context, info, done.deleted)
    await connection.run(`DELETE FROM ${info.path} WHERE ${inKeys(info, keys)}`)
  }
  if (done.updated.count > 0 && changed.length > 0) {
    const keys = await keyTable(context, info, done.updated)
    const set = changed.map((i) => `${quoted(i)} = n.${quoted(i)}`).join(', ')
    const same = primaryKey.map((i) => `t.${quoted(i)} = n.${quoted(i)}`).join(' AND ')
    await connection.run(`UPDATE ${info.path} AS t SET ${set} FROM ${copy} AS n WHERE ${same} AND ${inKeys(info, keys, 't')}`)
  }
  await connection.append(schema, name, context.catalog, imagesOf(info, done.inserted))
  await connection.run(`DROP TABLE ${copy}`)
}

/** A temporary table of these keys; returns its path. */
export async function keyTable({ executor }: CaptureContext, info: TableInfo, keys: Rows): Promise<string> {
  const name = 'daemonguard copied keys'
  const path = `temp.main.${quoteIdentifier(name)}`
  await executor.connection.run(
    `CREATE OR REPLACE TEMPORARY TABLE ${path} AS SELECT ${keyNames(info).join(', ')} FROM ${info.path} LIMIT 0`,
  )
  await executor.connection.append('main', name, 'temp', keys)
  return path
}

/** Whether a row of the table, or of what `qualifier` names, has one of these keys. */
export function inKeys(info: TableInfo, keys: string, qualifier?: string): string {
  const names = keyNames(info)
  const own = names.map((name) => (qualifier === undefined ? name : `${qualifier}.${name}`))
  return `(${own.join(', ')}) IN (SELECT ${names.length === 1 ? names[0] : `(${names.join(', ')})`} FROM ${keys})`
}

/** The columns of the key, of rows that were read with `SELECT *`. */
export function keyColumns(info: TableInfo, rows: Rows['columns']): (readonly Cell[])[] {
  return info.table.primaryKey.map((key) => rows[info.image.indexOf(key)] as readonly Cell[])
}

/** A row's key as a text of its own. */
export function keyText(columns: readonly (readonly Cell[])[], row: number): string {
  return columns.map((column) => cellText(column[row] as Cell)).join('\0')
}

/** Some rows of columns. */
export function pick(from: Rows['columns'], at: readonly number[]): Rows {
  return { count: at.length, columns: from.map((column) => at.map((row) => column[row] as Cell)) }
}
