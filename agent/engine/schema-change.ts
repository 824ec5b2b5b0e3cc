/**
 * Schema changes: they run alone, and are journaled as SQL text with what its meaning depends on. CREATE TABLE … AS is journaled as CREATE
 * plus row images; ADD COLUMN with a default that is not a constant as ALTER plus images by key.
 */

import type { Table } from '../journal/types.ts'
import { imagesOf } from './capture.ts'
import type { Catalog, TableInfo } from './catalog.ts'
import { otherCatalog } from './catalog.ts'
import type { Executor } from './executor.ts'
import { SqlError } from './sql-error.ts'
import type { QualifiedName, SchemaStatement } from './sql/statement.ts'
import { quoteString, type Token } from './sql/tokens.ts'
import type { Transaction } from './transaction.ts'

export interface SchemaContext {
  readonly executor: Executor
  readonly transaction: Transaction
  readonly catalog: Catalog
  readonly searchPath: string
  readonly timeZone: string
}

/** Runs and journals it. The caller holds the gate alone. */
export async function changeSchema(context: SchemaContext, statement: SchemaStatement): Promise<void> {
  const { executor, transaction } = context
  refuseOtherCatalogs(statement.name, context.catalog.name)
  const subject = statement.on ?? statement.name
  const before = statement.object === 'TABLE' ? await find(context, subject) : undefined
  transaction.schemaChanged = true
  await executor.run(statement.text)
  const after = statement.object === 'TABLE' ? await find(context, subject) : undefined

  if (statement.asQuery !== undefined) {
    if (after === undefined || (before !== undefined && !hasWords(statement, 'or', 'replace'))) return
    if (before !== undefined) journal(context, statement, `DROP TABLE ${path(before.table)}`, [before.table])
    const [definition] = await executor.connection.all(
      `SELECT sql FROM duckdb_tables() WHERE database_name = ${quoteString(context.catalog.name)} AND schema_name = ${quoteString(after.table.schema)} AND table_name = ${quoteString(after.table.name)}`,
    )
    journal(context, statement, String(definition?.[0]), [after.table])
    await insertImages(context, after)
    return
  }
  const touched = [before?.table, after?.table].filter((table) => table !== undefined)
  journal(context, statement, statement.text, touched)
  if (statement.verb === 'ALTER' && after !== undefined && before !== undefined) await imagesOfNewColumns(context, statement, before, after)
}

function journal(context: SchemaContext, statement: SchemaStatement, sql: string, tables: readonly Table[]): void {
  const names = tables.map(({ schema, name }) => ({ schema, name }))
  const tablesOnce = names.filter((table, i) => names.findIndex((other) => other.name === table.name && other.schema === table.schema) === i)
  context.transaction.add({ kind: 'schema', sql, verb: statement.verb, searchPath: withinCatalog(context.searchPath, context.catalog.name), timeZone: context.timeZone, tables: tablesOnce })
}

/** The search path without the catalog's name: a restore may give the file another name. */
function withinCatalog(searchPath: string, catalog: string): string {
  return searchPath
    .split(',')
    .map((part) => part.trim())
    .map((part) => (part.startsWith(`${catalog}.`) ? part.slice(catalog.length + 1) : part))
    .join(',')
}

async function insertImages(context: SchemaContext, info: TableInfo): Promise<void> {
  const result = await context.executor.run(`SELECT * FROM ${info.path}`)
  for (;;) {
    const chunk = await result.next()
    if (chunk === null) return
    context.transaction.add({ kind: 'insert', table: info.table, rows: imagesOf(info, chunk) })
  }
}

/** A default such as now() or random() would be evaluated anew by a replay: the values that it gave are journaled as well. */
async function imagesOfNewColumns(context: SchemaContext, statement: SchemaStatement, before: TableInfo, after: TableInfo): Promise<void> {
  const added = after.table.columns.flatMap((column, i) => (before.table.columns.some(({ name }) => name === column.name) ? [] : [i]))
  if (added.length === 0 || !hasVolatileDefault(statement.tokens)) return
  const rows = await (await context.executor.run(`SELECT * FROM ${after.path}`)).rest()
  if (rows.count === 0) return
  if (after.table.primaryKey.length === 0) {
    throw new SqlError('55000', 'ADD COLUMN with a default that is not a constant, on a table without primary key, could not be replayed', {
      hint: 'add the column without a default, or give the table a primary key',
    })
  }
  context.transaction.add({ kind: 'update', table: after.table, rows: imagesOf(after, rows), changed: added })
}

function hasVolatileDefault(tokens: readonly Token[]): boolean {
  const at = tokens.findIndex((token) => token.kind === 'word' && token.text === 'default')
  if (at === -1) return false
  const constants = new Set(['null', 'true', 'false', 'not', 'unique', 'check'])
  return tokens.slice(at + 1).some((token) => (token.kind === 'word' || token.kind === 'quoted') && !constants.has(token.text))
}

async function find(context: SchemaContext, name: QualifiedName): Promise<TableInfo | undefined> {
  try {
    return await context.catalog.table(context.executor.connection, name, context.searchPath, false)
  } catch (error) {
    if (error instanceof SqlError && error.code === '42P01') return undefined
    throw error
  }
}

/** `memory.main.x`, `temp.x`, …: it would succeed and be lost. */
export function refuseOtherCatalogs(name: QualifiedName, catalog: string): void {
  const first = name[0]?.toLowerCase()
  if (first === undefined || name.length < 2) return
  const foreign = name.length === 3 ? first !== catalog.toLowerCase() : ['memory', 'system', 'temp'].includes(first)
  if (foreign) throw otherCatalog(first)
}

function hasWords(statement: SchemaStatement, first: string, second: string): boolean {
  return statement.tokens[1]?.text === first && statement.tokens[2]?.text === second
}

function path(table: Table): string {
  return `"${table.schema.replaceAll('"', '""')}"."${table.name.replaceAll('"', '""')}"`
}
