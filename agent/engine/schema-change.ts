/**
 * Schema changes: they run alone, and are journaled as SQL text with what its meaning depends on. Where a replay of the text would not give
 * the same (rows or labels from a query, values of now() and the like), what it gave is journaled: CREATE TABLE … AS as CREATE plus row images,
 * CREATE TYPE … AS ENUM (SELECT …) with its labels, ALTER with such a default or USING as ALTER plus images by key, a new constraint with the
 * statements of the rebuild that gave it.
 */

import type { Table } from '../journal/types.ts'
import { addChanges, imagesOf } from './capture.ts'
import type { Catalog, TableInfo } from './catalog.ts'
import { otherCatalog, ownSchema } from './catalog.ts'
import { changeConstraint } from './constraint-change.ts'
import { NameKeeper } from './constraint-names.ts'
import type { Executor } from './executor.ts'
import { mayRewriteColumn, type Snapshots, untilLatestAreSeen } from './rewritten-columns.ts'
import { constraintChange } from './sql/constraint.ts'
import type { SchemaStatement } from './sql/statement.ts'
import { lowerCase, pathEntries, quoteIdentifier, quoteString, type Token } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import type { Transaction } from './transaction.ts'
import { isVolatile, refuseBadChecks } from './volatility.ts'

export interface SchemaContext {
  readonly executor: Executor
  readonly transaction: Transaction
  readonly catalog: Catalog
  readonly searchPath: string
  readonly timeZone: string
  /** Seq of the last commit. Nobody commits while the schema changes. */
  readonly lastSeq: number
  /** The session has temporary objects. */
  readonly temporary: boolean
  readonly snapshots: Snapshots
}

interface Existing {
  readonly schema: string
  readonly name: string
  readonly sql: string
}

/** Runs and journals it. The caller holds the gate alone. */
export async function changeSchema(context: SchemaContext, statement: SchemaStatement): Promise<void> {
  const { executor, transaction, catalog } = context
  refuseOtherCatalogs(statement, catalog.name)
  refuseHiddenDraws(statement)
  if (statement.asQuery === undefined) await refuseTemporaryParts(context, statement)
  if (statement.asQuery === undefined && statement.object === 'TABLE')
    await refuseBadChecks(executor.connection, statement.tokens, context.searchPath)
  const alters = statement.verb === 'ALTER' && statement.object === 'TABLE'
  const altered = alters ? await find(context, statement) : undefined
  const constraint = constraintChange(statement)
  if (constraint !== undefined) {
    const rebuilt = await changeConstraint(context, statement, constraint, altered)
    if (rebuilt !== undefined) journal(context, statement, statement.text, rebuilt.tables, undefined, rebuilt.statements)
    return
  }
  if (altered !== undefined && mayRewriteColumn(statement)) await untilLatestAreSeen(context.snapshots, transaction, altered.table)
  const before = await tablesOf(context)
  const names = await NameKeeper.before(executor.connection, catalog.name)
  transaction.schemaChanged = true
  if (!(await executor.connection.changeSchema(statement.text)))
    throw new SqlError('0A000', 'DuckDB reads this statement as something else')
  const after = await tablesOf(context)
  const touched = [...before, ...after]
    .filter(([id, table]) => !same(before.get(id), after.get(id)) && table.schema !== ownSchema)
    .map(([, table]) => table)

  if (statement.asQuery !== undefined) {
    const created = [...after].find(([id]) => !before.has(id))?.[1]
    // IF NOT EXISTS, and it existed: nothing to do again.
    if (created === undefined) return
    for (const replaced of touched) {
      if (replaced !== created) journal(context, statement, `DROP TABLE ${pathOf(replaced)}`, [replaced], 'main')
    }
    journal(context, statement, created.sql, [created], quoteIdentifier(created.schema))
    await insertImages(
      context,
      await catalog.table(executor.connection, [catalog.name, created.schema, created.name], context.searchPath, false),
    )
    return
  }
  if (altered !== undefined) touched.push(altered.table as Table & Existing)
  const text = await replayable(context, statement)
  const followed = await names.follow(statement, before, after)
  journal(context, statement, text, touched, undefined, followed.length === 0 ? undefined : [text, ...followed])
  if (altered !== undefined) await imagesOfNewValues(context, statement, altered)
}

/** All tables by their id, which an ALTER leaves as it is. */
async function tablesOf({ executor, catalog }: SchemaContext): Promise<Map<string, Existing>> {
  const rows = await executor.connection.all(
    `SELECT table_oid, schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = ${quoteString(catalog.name)}`,
  )
  return new Map(rows.map(([id, schema, name, sql]) => [String(id), { schema: String(schema), name: String(name), sql: String(sql) }]))
}

function same(one: Existing | undefined, other: Existing | undefined): boolean {
  return one?.schema === other?.schema && one?.name === other?.name && one?.sql === other?.sql
}

function journal(
  context: SchemaContext,
  statement: SchemaStatement,
  sql: string,
  touched: readonly Pick<Table, 'schema' | 'name'>[],
  searchPath?: string,
  statements?: readonly string[],
): void {
  // SQL text ends at it, for DuckDB and on the wire: only labels of an ENUM that came from a query can bring one here.
  if (sql.includes('\0'))
    throw new SqlError('0A000', 'a schema change with a zero character could not be replayed', { hint: "replace(label, chr(0), '')" })
  const tables = new Map(touched.map(({ schema, name }) => [JSON.stringify([schema, name]), { schema, name }]))
  context.transaction.add({
    kind: 'schema',
    sql,
    verb: statement.verb,
    // Without the catalog's name: a restore may give the file another one.
    searchPath: searchPath ?? pathEntries(context.searchPath).map(quoteIdentifier).join(','),
    timeZone: context.timeZone,
    tables: [...tables.values()],
    ...(statements === undefined ? {} : { statements }),
  })
}

/** The text to journal: labels of an ENUM that came from a query are written out. */
async function replayable({ executor, catalog }: SchemaContext, { verb, object, text, tokens, name }: SchemaStatement): Promise<string> {
  const open = tokens.findIndex((token, i) => token.text === '(' && token.depth === 0 && tokens[i - 1]?.text === 'enum')
  const queried = tokens.slice(open).some((token) => token.kind === 'word' && (token.text === 'select' || token.text === 'from'))
  if (verb !== 'CREATE' || object !== 'TYPE' || open === -1 || !queried) return text
  const [row] = await executor.connection.all(
    `SELECT labels FROM duckdb_types() WHERE database_name = ${quoteString(catalog.name)} AND lower(type_name) = ${quoteString((name.at(-1) ?? '').toLowerCase())} ORDER BY type_oid DESC LIMIT 1`,
  )
  const labels = row?.[0] as string[]
  return `${text.slice(0, tokens[open]?.start)}(${labels.map(quoteString).join(', ')})`
}

async function insertImages(context: SchemaContext, info: TableInfo): Promise<void> {
  const result = await context.executor.run(`SELECT * FROM ${info.path}`, [], { stream: true })
  await addChanges(context.transaction, result.chunks(), (rows) => ({ kind: 'insert', table: info.table, rows: imagesOf(info, rows) }))
}

/** A replay would evaluate now() or random() anew: the values that they gave are journaled as well. */
async function imagesOfNewValues(context: SchemaContext, statement: SchemaStatement, before: TableInfo): Promise<void> {
  const { tokens, name } = statement
  const from = tokens.findIndex((token) => token.kind === 'word' && (token.text === 'default' || token.text === 'using'))
  if (from === -1 || !(await isVolatile(context.executor.connection, tokens.slice(from + 1)))) return
  // DuckDB rewrites every row, also those that this transaction's snapshot is too old to show.
  if (context.transaction.startSeq < context.lastSeq) {
    throw new SqlError('40001', 'rows have changed since this transaction began', { hint: 'roll back and try again' })
  }
  const after = await context.catalog.table(
    context.executor.connection,
    [context.catalog.name, before.table.schema, before.table.name],
    '',
    false,
  )
  const retyped = tokens[from]?.text === 'using' ? lowerCase(alteredColumn(tokens)) : undefined
  const isNew = (column: string) => lowerCase(column) === retyped || !before.table.columns.some((old) => old.name === column)
  const changed = after.table.columns.flatMap((column, i) => (isNew(column.name) ? [i] : []))
  if (changed.length === 0) return
  const rows = await context.executor.run(`SELECT * FROM ${after.path}`, [], { stream: true })
  await addChanges(context.transaction, rows.chunks(), (chunk, more) => {
    if (after.table.primaryKey.length > 0) return { kind: 'update', table: after.table, rows: imagesOf(after, chunk), changed, more }
    throw new SqlError('55000', `${name.join('.')} has no primary key: values that are not the same each time could not be replayed`, {
      hint: 'give the table a primary key, or use a constant',
    })
  })
}

/** `ALTER TABLE t ALTER [COLUMN] name …` */
function alteredColumn(tokens: readonly Token[]): string {
  const at = tokens.findIndex((token, i) => i > 0 && token.kind === 'word' && token.text === 'alter')
  return tokens[tokens[at + 1]?.text === 'column' ? at + 2 : at + 1]?.text ?? ''
}

async function find(context: SchemaContext, statement: SchemaStatement): Promise<TableInfo | undefined> {
  try {
    return await context.catalog.table(context.executor.connection, statement.name, context.searchPath, false)
  } catch (error) {
    // DuckDB says it, or IF EXISTS forgives it.
    if (error instanceof SqlError && error.code === '42P01') return undefined
    throw error
  }
}

/** `memory.main.x`, `temp.x`, …: it would succeed and be lost. */
function refuseOtherCatalogs({ object, name, on }: SchemaStatement, catalog: string): void {
  for (const parts of [object === 'COLUMN' ? name.slice(0, -1) : name, on ?? []]) {
    const first = lowerCase(parts[0] ?? '')
    if (parts.length < 2) continue
    if (parts.length === 3 ? first !== lowerCase(catalog) : ['memory', 'system', 'temp'].includes(first)) throw otherCatalog(first)
  }
}

/** A permanent view, default or the like on something temporary could not be replayed. */
async function refuseTemporaryParts(context: SchemaContext, { tokens }: SchemaStatement): Promise<void> {
  if (!context.temporary) return
  const names = await context.catalog.temporaryNames(context.executor.connection)
  const used = tokens.find((token) => (token.kind === 'word' || token.kind === 'quoted') && names.has(lowerCase(token.text)))
  if (used !== undefined)
    throw new SqlError('0A000', `${used.text} is temporary: what depends on it could not be replayed`, { hint: 'use permanent objects' })
}

/** nextval where a mere SELECT would draw: in a view, a macro, a generated column. */
function refuseHiddenDraws({ tokens, object, asQuery }: SchemaStatement): void {
  if (asQuery !== undefined) return
  const hidden: boolean[] = []
  tokens.forEach((token, i) => {
    if (token.text === '(' && token.kind === 'symbol') hidden.push((hidden.at(-1) ?? false) || tokens[i - 1]?.text === 'as')
    else if (token.text === ')' && token.kind === 'symbol') hidden.pop()
    else if (lowerCase(token.text) === 'nextval' && (object !== 'TABLE' || hidden.at(-1))) {
      throw new SqlError('0A000', 'nextval() in a view, a macro or a generated column is not supported', {
        hint: 'use it in a DEFAULT, or in the statement itself',
      })
    }
  })
}

function pathOf({ schema, name }: Pick<Table, 'schema' | 'name'>): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`
}
