/**
 * Runs statements that change rows, and captures what they changed as row images (R6), chunk by chunk: only what the client itself wants
 * returned is held in memory. INSERT, and a DELETE of few rows, answer with the images through RETURNING. UPDATE … RETURNING is not transparent in
 * DuckDB (duckdb.md 3.7): there the affected keys are selected first, into a temporary table, so that a volatile WHERE is evaluated once; those
 * rows are changed; the new rows are read by key. A DELETE of many rows goes the same way: with RETURNING it takes DuckDB 0.1 ms for each.
 * All in the same transaction.
 */

import type { Cell, Change, Rows } from '../journal/types.ts'
import { asRows, tableName } from '../journal/types.ts'
import { AddedRows } from './added-rows.ts'
import { type AffectedRows, affectedKeys, namedRow, namesKeys } from './affected-keys.ts'
import { columnIndex, type TableInfo } from './catalog.ts'
import type { Result } from './duckdb.ts'
import { evaluatedUpdate } from './evaluated-update.ts'
import type { Executor } from './executor.ts'
import type { ParentLocks } from './parent-locks.ts'
import type { Field, Parameter } from './pgwire/backend.ts'
import { cellText, keyedName } from './row-conflicts.ts'
import type { RowImages } from './row-images.ts'
import { type SimpleUpdate, simpleUpdate } from './simple-update.ts'
import type { DeleteStatement } from './sql/delete.ts'
import type { Clause, Statement } from './sql/statement.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import type { Transaction } from './transaction.ts'
import { captureUpsertOfParent } from './upsert.ts'

/** What a changing statement answers: how many rows, and the rows of the client's own RETURNING. */
export interface Captured {
  readonly count: number
  readonly returned: { readonly fields: readonly Field[]; readonly rows: Rows } | undefined
}

export interface CaptureContext {
  readonly executor: Executor
  readonly transaction: Transaction
  readonly locks: ParentLocks
  readonly images: RowImages
  /** Name of the guarded database. */
  readonly catalog: string
}

type Insert = Extract<Statement, { kind: 'insert' }>
type Update = Extract<Statement, { kind: 'update' }>

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
  const changed = action === 'update' || action === 'replace' ? columnsOnConflict(statement, info) : undefined
  if (changed !== undefined) lockReferenced(context, info, changed)
  if (changed !== undefined && info.referenced) return captureUpsertOfParent(context, statement, info, parameters, changed)
  const added = isQueried(statement) ? await AddedRows.of(context.executor, context.transaction, info) : undefined
  if (added !== undefined) {
    const { rowsChanged } = await context.executor.run(statement.text, parameters)
    await added.journal(rowsChanged)
    return { count: rowsChanged, returned: undefined }
  }
  const result = await context.executor.run(insertSql(statement), parameters)
  return drain(context.transaction, result, info.image.length, (rows) => {
    const images = imagesOf(info, rows)
    return changed === undefined ? { kind: 'insert', table, rows: images } : { kind: 'upsert', table, rows: images, changed }
  })
}

/** An INSERT of one row whose values are known beforehand, as DuckDB gets them in `parameters`: it need not be asked for them. */
export async function capturePlainInsert(
  context: CaptureContext,
  statement: Insert,
  info: TableInfo,
  cells: readonly Cell[],
  parameters: readonly Parameter[],
): Promise<void> {
  context.locks.referring(info.parents, context.transaction)
  await context.executor.run(statement.text, parameters, { brief: true })
  context.transaction.add({ kind: 'insert', table: info.table, rows: asRows(cells) })
  context.transaction.notePlainRow(info, cells)
}

/** The columns that an INSERT sets on a conflict, without the key. */
function columnsOnConflict({ conflict }: Insert, info: TableInfo): number[] {
  const { columns, primaryKey } = info.table
  const assigned = conflict.action === 'update' ? columnIndexes(info, conflict.assigned) : columns.map((_, i) => i)
  if (conflict.action === 'update' && assigned.some((i) => primaryKey.includes(i))) {
    throw new SqlError('0A000', 'ON CONFLICT DO UPDATE cannot change the primary key', { hint: 'DELETE the row and INSERT the new one' })
  }
  return assigned.filter((i) => !primaryKey.includes(i))
}

/** A change of columns that foreign keys reference is as good as a DELETE for those who write children. */
export function lockReferenced({ locks, transaction }: CaptureContext, info: TableInfo, changed: readonly number[]): void {
  if (changed.some((i) => info.referencedColumns.includes(i))) locks.deleting(tableName(info.table), transaction)
}

/** An INSERT of what a query gives, however much it is. */
function isQueried({ conflict, returning, tokens }: Insert): boolean {
  if (returning !== undefined || conflict.action === 'update' || conflict.action === 'replace') return false
  return tokens.some(({ kind, text }) => kind === 'word' && (text === 'select' || text === 'from' || text === 'table'))
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
  statement: DeleteStatement,
  info: TableInfo,
  parameters: readonly Parameter[],
): Promise<Captured> {
  const { table } = info
  if (table.primaryKey.length === 0) throw keyless('DELETE', info)
  if (info.referenced) context.locks.deleting(tableName(table), context.transaction)
  const { text, returning, targetText, using: from } = statement
  if (returning === undefined && !namesKeys({ ...statement, from }, info)) {
    const affected = await affectedKeys(context.executor, { ...statement, from }, info, parameters)
    await addChanges(context.transaction, affected.rows(), (rows, more) => ({ kind: 'delete', table, rows, more }))
    const { rowsChanged } = await affected.run(`DELETE FROM ${targetText} WHERE ${affected.condition(statement.qualifier)}`)
    return { count: rowsChanged, returned: undefined }
  }
  const keys = keyNames(info).join(', ')
  const sql =
    returning === undefined
      ? `${text} RETURNING ${keys}`
      : `${text.slice(0, returning.keyword)} RETURNING ${keys}, ${text.slice(returning.start, returning.end)}`
  const result = await context.executor.run(sql, parameters)
  return drain(context.transaction, result, table.primaryKey.length, (rows, more) => ({ kind: 'delete', table, rows, more }))
}

export async function captureTruncate(context: CaptureContext, targetText: string, info: TableInfo): Promise<Captured> {
  // Without a key only an empty table can be truncated: nothing changes.
  if (info.table.primaryKey.length === 0) {
    const found = await (await context.executor.run(`SELECT 1 FROM ${info.path} LIMIT 1`)).rest()
    if (found.count === 0) return { count: 0, returned: undefined }
  }
  const none = { tokens: [], target: [], prefix: '', using: undefined, where: undefined, returning: undefined }
  return captureDelete(context, { ...none, kind: 'delete', text: '', targetText, qualifier: quoteIdentifier(info.table.name) }, info, [])
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
  const simple = simpleUpdate(statement, info, parameters)
  const after = await applySimply(context, statement, info, changed, simple)
  if (after !== undefined) return after
  const movesKey = changed.some((i) => table.primaryKey.includes(i))
  const evaluates = movesKey || statement.from !== undefined
  const evaluated = evaluates ? await evaluatedUpdate(context, statement, info, parameters, changed) : undefined
  const affected =
    evaluated ??
    namedRow(context.executor, statement, info, parameters) ??
    (await affectedKeys(context.executor, statement, info, parameters))
  lockReferenced(context, info, movesKey ? [...changed, ...info.referencedColumns] : changed)
  // A row whose key changes is another row.
  if (movesKey && evaluated !== undefined)
    await addChanges(context.transaction, evaluated.keysBefore(), (rows, more) => ({ kind: 'delete', table, rows, more }))
  if (evaluated !== undefined) await evaluated.update()
  else await affected.run(restrictedUpdate(statement, affected))
  const { count, last } = await journalChanged(context, statement, info, affected, changed, movesKey)
  if (simple !== undefined && last !== undefined) remember(context, info, simple, last)
  return { count, returned: await returnedByKey(statement, affected) }
}

/** Reads the rows that an UPDATE has changed, for the journal; with the image of the only one. */
async function journalChanged(
  { transaction }: CaptureContext,
  statement: Update,
  info: TableInfo,
  affected: AffectedRows,
  changed: readonly number[],
  movesKey: boolean,
): Promise<{ count: number; last: readonly Cell[] | undefined }> {
  const { table } = info
  const found = await affected.run(`SELECT * FROM ${statement.targetText} WHERE ${affected.condition(statement.qualifier)}`, {
    stream: true,
  })
  let last: Rows | undefined
  const count = await addChanges(transaction, found.chunks(), (rows, more) => {
    last = imagesOf(info, rows)
    return movesKey ? { kind: 'insert', table, rows: last } : { kind: 'update', table, rows: last, changed, more }
  })
  return { count, last: count === 1 ? last?.columns.map(([cell]) => cell as Cell) : undefined }
}

/** Where the row before is known, so is the row after: it is changed, and not read. Undefined: it is not known. */
async function applySimply(
  context: CaptureContext,
  statement: Update,
  info: TableInfo,
  changed: readonly number[],
  simple: SimpleUpdate | undefined,
): Promise<Captured | undefined> {
  const { transaction, images } = context
  const before = simple === undefined ? undefined : images.before(transaction, info.table, simple.key)
  if (simple === undefined || before === undefined) return undefined
  const after = simple.apply(before)
  const way = simple.outright(after) ?? namedRow(context.executor, statement, info, simple.parameters)
  if (way === undefined) return undefined
  lockReferenced(context, info, changed)
  const { rowsChanged } = await ('sql' in way
    ? context.executor.run(way.sql, way.parameters, { brief: true })
    : way.run(restrictedUpdate(statement, way)))
  if (rowsChanged === 0) return { count: 0, returned: undefined }
  // The key's column may find others as well: a collation, a comparison of numbers.
  if (rowsChanged > 1 && !('sql' in way)) {
    const { count } = await journalChanged(context, statement, info, way, changed, false)
    return { count, returned: undefined }
  }
  transaction.add({ kind: 'update', table: info.table, rows: asRows(after), changed })
  remember(context, info, simple, after)
  return { count: 1, returned: undefined }
}

/** Under its own key: a collation may find it by another one. */
function remember({ transaction }: CaptureContext, { table }: TableInfo, { key }: SimpleUpdate, image: readonly Cell[]): void {
  const own = cellText(image[table.primaryKey[0] as number] as Cell)
  if (own === key) transaction.known.set(keyedName(table), key, image)
}

/** The client's UPDATE, restricted to the selected keys instead of by its WHERE. */
function restrictedUpdate({ text, set, qualifier }: Update, keys: AffectedRows): string {
  return `${text.slice(0, set.end)} WHERE ${keys.condition(qualifier)}`
}

async function returnedByKey(statement: Update, keys: AffectedRows) {
  const wanted: Clause | undefined = statement.returning
  if (wanted === undefined) return undefined
  // Columns of FROM are not among those that DuckDB's own RETURNING knows.
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

/** Adds the rows of one statement as they come; resolves with how many. `more`: it is not the last change of the statement. */
export async function addChanges(
  transaction: Transaction,
  chunks: AsyncIterable<Rows>,
  change: (rows: Rows, more: boolean) => Change,
): Promise<number> {
  let count = 0
  let held: Rows | undefined
  for await (const chunk of chunks) {
    if (held !== undefined) transaction.add(change(held, true))
    await transaction.keepUp()
    count += chunk.count
    held = chunk
  }
  if (held !== undefined) transaction.add(change(held, false))
  return count
}

/** Adds the first `width` columns of a RETURNING result; keeps the others, which the client wants returned. */
async function drain(
  transaction: Transaction,
  result: Result,
  width: number,
  change: (rows: Rows, more: boolean) => Change,
): Promise<Captured> {
  const fields = result.columns.slice(width)
  const returned: Cell[][] = fields.map(() => [])
  async function* images(): AsyncGenerator<Rows> {
    for await (const { count, columns } of result.chunks()) {
      returned.forEach((column, i) => {
        for (const cell of columns[width + i] as readonly Cell[]) column.push(cell)
      })
      yield { count, columns: columns.slice(0, width) }
    }
  }
  const count = await addChanges(transaction, images(), change)
  return { count, returned: fields.length === 0 ? undefined : { fields, rows: { count, columns: returned } } }
}

export function keyNames(info: TableInfo): string[] {
  return info.table.primaryKey.map((i) => quoteIdentifier(info.table.columns[i]?.name ?? ''))
}

export function columnIndexes(info: TableInfo, names: readonly string[]): number[] {
  return names.map((name) => {
    const index = columnIndex(info.table, name)
    if (index === -1) throw new SqlError('42703', `column "${name}" of ${tableName(info.table)} does not exist or is generated`)
    return index
  })
}

export function keyless(what: string, info: TableInfo): SqlError {
  return new SqlError('55000', `${what} on ${tableName(info.table)}, which has no primary key, could not be replayed`, {
    hint: `ALTER TABLE ${tableName(info.table)} ADD PRIMARY KEY (…)`,
  })
}
