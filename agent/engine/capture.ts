/**
 * Runs statements that change rows, and captures what they changed as row images (R6). INSERT and DELETE answer with the images through
 * RETURNING. UPDATE … RETURNING is not transparent in DuckDB (duckdb.md 3.7): there the affected keys are selected first, into a temporary
 * table, so that a volatile WHERE is evaluated once; those rows are changed; the new rows are read by key. All in the same transaction.
 */

import type { Cell, Rows } from '../journal/types.ts'
import { tableName } from '../journal/types.ts'
import { type AffectedKeys, affectedKeys } from './affected-keys.ts'
import type { TableInfo } from './catalog.ts'
import type { Result } from './duckdb.ts'
import type { Executor } from './executor.ts'
import type { ParentLocks } from './parent-locks.ts'
import type { Field, Parameter } from './pgwire/backend.ts'
import type { Clause, Statement } from './sql/statement.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import type { Transaction } from './transaction.ts'

/** What a changing statement answers: how many rows, and the rows of the client's own RETURNING. */
export interface Captured {
  readonly count: number
  readonly returned: { readonly fields: readonly Field[]; readonly rows: Rows } | undefined
}

export interface CaptureContext {
  readonly executor: Executor
  readonly transaction: Transaction
  readonly locks: ParentLocks
}

type Insert = Extract<Statement, { kind: 'insert' }>
type Update = Extract<Statement, { kind: 'update' }>
type Delete = Extract<Statement, { kind: 'delete' }>

export async function captureInsert(
  context: CaptureContext,
  statement: Insert,
  info: TableInfo,
  parameters: readonly Parameter[],
): Promise<Captured> {
  const { table } = info
  const { action } = statement.conflict
  const keyed = table.primaryKey.length > 0
  if ((action === 'update' || action === 'replace') && !keyed) throw keyless('INSERT … ON CONFLICT DO UPDATE', info)
  context.locks.referring(info.parents, context.transaction)
  const result = await context.executor.run(insertSql(statement), parameters)
  return drain(result, info.image.length, (rows) => {
    const images = imagesOf(info, rows)
    if (action === 'update' || action === 'replace') {
      const assigned =
        statement.conflict.action === 'update' ? columnIndexes(info, statement.conflict.assigned) : table.columns.map((_, i) => i)
      if (statement.conflict.action === 'update' && assigned.some((i) => table.primaryKey.includes(i))) {
        throw new SqlError('0A000', 'ON CONFLICT DO UPDATE cannot change the primary key', {
          hint: 'DELETE the row and INSERT the new one',
        })
      }
      context.transaction.add({ kind: 'upsert', table, rows: images, changed: assigned.filter((i) => !table.primaryKey.includes(i)) })
    } else context.transaction.add({ kind: 'insert', table, rows: images })
  })
}

/** The INSERT with its images asked for, before what the client itself wants returned. */
function insertSql(statement: Insert): string {
  const { text, returning } = statement
  return returning === undefined
    ? `${text} RETURNING *`
    : `${text.slice(0, returning.keyword)} RETURNING *, ${text.slice(returning.start, returning.end)}`
}

export async function captureDelete(
  context: CaptureContext,
  statement: Delete,
  info: TableInfo,
  parameters: readonly Parameter[],
): Promise<Captured> {
  const { table } = info
  if (table.primaryKey.length === 0) throw keyless('DELETE', info)
  if (info.referenced) context.locks.deleting(tableName(table), context.transaction)
  const { text, returning } = statement
  const keys = keyNames(info).join(', ')
  const sql =
    returning === undefined
      ? `${text} RETURNING ${keys}`
      : `${text.slice(0, returning.keyword)} RETURNING ${keys}, ${text.slice(returning.start, returning.end)}`
  const result = await context.executor.run(sql, parameters)
  const all = await result.rest()
  const width = table.primaryKey.length
  context.transaction.add({ kind: 'delete', table, rows: { count: all.count, columns: all.columns.slice(0, width) } })
  return { count: all.count, returned: returning === undefined ? undefined : tail(result, all, width) }
}

export async function captureTruncate(context: CaptureContext, targetText: string, info: TableInfo): Promise<Captured> {
  // Without a key only an empty table can be truncated: nothing changes.
  if (info.table.primaryKey.length === 0) {
    const found = await (await context.executor.run(`SELECT 1 FROM ${info.path} LIMIT 1`)).rest()
    if (found.count === 0) return { count: 0, returned: undefined }
  }
  const text = `DELETE FROM ${targetText}`
  return captureDelete(context, { text, tokens: [], kind: 'delete', target: [], returning: undefined }, info, [])
}

export async function captureUpdate(
  context: CaptureContext,
  statement: Update,
  info: TableInfo,
  parameters: readonly Parameter[],
): Promise<Captured> {
  const { table } = info
  if (table.primaryKey.length === 0) throw keyless('UPDATE', info)
  const changed = columnIndexes(info, statement.assigned)
  if (info.parents.length > 0) context.locks.referring(info.parents, context.transaction)
  const keys = await affectedKeys(context.executor, statement, info, parameters)
  const movesKey = changed.some((i) => table.primaryKey.includes(i))
  if (movesKey && info.referenced) context.locks.deleting(tableName(table), context.transaction)
  const restricted = restrictedUpdate(statement, keys)
  if (movesKey) return updateKeys(context.transaction, statement, info, keys, restricted)

  await keys.run(restricted)
  const changedRows = await keys.run(`SELECT * FROM ${info.path} WHERE ${keys.condition()}`)
  const images = imagesOf(info, await changedRows.rest())
  context.transaction.add({ kind: 'update', table, rows: images, changed })
  return { count: images.count, returned: await returnedByKey(statement, keys) }
}

/** An UPDATE that changes the key is a delete plus an insert. */
async function updateKeys(
  transaction: Transaction,
  statement: Update,
  info: TableInfo,
  keys: AffectedKeys,
  restricted: string,
): Promise<Captured> {
  const { table } = info
  const old = await keys.rows()
  const wanted = statement.returning
  const own = wanted === undefined ? '' : `, ${statement.text.slice(wanted.start, wanted.end)}`
  const result = await keys.run(`${restricted} RETURNING *${own}`)
  const all = await result.rest()
  transaction.add({ kind: 'delete', table, rows: old })
  transaction.add({ kind: 'insert', table, rows: imagesOf(info, all) })
  return { count: all.count, returned: wanted === undefined ? undefined : tail(result, all, info.image.length) }
}

/** The client's UPDATE, restricted to the selected keys instead of by its WHERE; with FROM the WHERE stays, since it joins. */
function restrictedUpdate(statement: Update, keys: AffectedKeys): string {
  const { text, set, from, where } = statement
  const head = `${text.slice(0, set.end)}${from === undefined ? '' : ` FROM ${text.slice(from.start, from.end)}`}`
  const restriction = keys.condition(statement.qualifier)
  if (from === undefined || where === undefined) return `${head} WHERE ${restriction}`
  return `${head} WHERE (${text.slice(where.start, where.end)}) AND ${restriction}`
}

async function returnedByKey(statement: Update, keys: AffectedKeys) {
  const wanted: Clause | undefined = statement.returning
  if (wanted === undefined) return undefined
  if (statement.from !== undefined)
    throw new SqlError('0A000', 'UPDATE … FROM … RETURNING is not supported', { hint: 'SELECT the rows after the UPDATE' })
  const list = statement.text.slice(wanted.start, wanted.end)
  const sql = `SELECT ${list} FROM ${statement.targetText} WHERE ${keys.condition(statement.qualifier)}`
  const result = await keys.run(sql)
  return { fields: result.columns, rows: await result.rest() }
}

/** Images of all columns of rows that were read with `SELECT *` or `RETURNING *`: generated columns are left out. */
export function imagesOf(info: TableInfo, rows: Rows): Rows {
  const columns: (readonly Cell[])[] = []
  info.image.forEach((to, from) => {
    if (to !== -1) columns[to] = rows.columns[from] as readonly Cell[]
  })
  return { count: rows.count, columns }
}

/** Hands the chunks of a RETURNING result to `change` one by one; keeps only what the client wants returned. */
async function drain(result: Result, width: number, change: (rows: Rows) => void): Promise<Captured> {
  const returned: Cell[][] = result.columns.slice(width).map(() => [])
  let count = 0
  for (;;) {
    const chunk = await result.next()
    if (chunk === null) break
    count += chunk.count
    change({ count: chunk.count, columns: chunk.columns.slice(0, width) })
    returned.forEach((column, i) => {
      for (const cell of chunk.columns[width + i] as readonly Cell[]) column.push(cell)
    })
  }
  if (returned.length === 0) return { count, returned: undefined }
  return { count, returned: { fields: result.columns.slice(width), rows: { count, columns: returned } } }
}

function tail(result: Result, all: Rows, width: number) {
  return { fields: result.columns.slice(width), rows: { count: all.count, columns: all.columns.slice(width) } }
}

export function keyNames(info: TableInfo): string[] {
  return info.table.primaryKey.map((i) => quoteIdentifier(info.table.columns[i]?.name ?? ''))
}

export function columnIndexes(info: TableInfo, names: readonly string[]): number[] {
  return names.map((name) => {
    const index = info.table.columns.findIndex((column) => column.name.toLowerCase() === name.toLowerCase())
    if (index === -1) throw new SqlError('42703', `column "${name}" of ${tableName(info.table)} does not exist or is generated`)
    return index
  })
}

export function keyless(what: string, info: TableInfo): SqlError {
  return new SqlError('55000', `${what} on ${tableName(info.table)}, which has no primary key, could not be replayed`, {
    hint: `ALTER TABLE ${tableName(info.table)} ADD PRIMARY KEY (…)`,
  })
}
