/**
 * MERGE: captured from its RETURNING merge_action. That makes an update a delete and an insert, which DuckDB refuses for rows that foreign keys
 * reference: there it runs on a temporary copy of the table, and what it did is done to the table by key.
 */

import type { Cell, Rows } from '../journal/types.ts'
import { tableName } from '../journal/types.ts'
import { type CaptureContext, type Captured, columnIndexes, imagesOf, keyless, keyNames } from './capture.ts'
import type { TableInfo } from './catalog.ts'
import type { Parameter } from './pgwire/backend.ts'
import { cellText } from './row-conflicts.ts'
import { type MergeStatement, pins } from './sql/merge.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import { createTable, quotedList, readFamily, type TableShape } from './table-shape.ts'

const copy = 'temp.main."daemonguard merge"'

export async function captureMerge(
  context: CaptureContext & { readonly catalog: string },
  statement: MergeStatement,
  info: TableInfo,
  parameters: readonly Parameter[],
): Promise<Captured> {
  const { executor, transaction, locks } = context
  const { table } = info
  const { updates, deletes, text, returning, targetText } = statement
  if ((updates.length > 0 || deletes) && table.primaryKey.length === 0) throw keyless('MERGE … UPDATE or DELETE', info)
  const changed = changedColumns(statement, info)
  if (info.parents.length > 0) locks.referring(info.parents, transaction)
  if (deletes && info.referenced) locks.deleting(tableName(table), transaction)

  const onCopy = info.referenced && updates.length > 0
  if (onCopy) await makeCopy(context, info)
  const target = onCopy ? `${copy} AS ${statement.qualifier}` : text.slice(...targetText)
  const wanted = returning === undefined ? '' : `, ${text.slice(returning.start, returning.end)}`
  const sql = `${text.slice(0, targetText[0])}${target}${text.slice(targetText[1], returning?.keyword)} RETURNING merge_action, *${wanted}`
  const result = await executor.run(sql, parameters)
  const all = await result.rest()
  const done = byAction(info, all)

  if (onCopy) await applyCopy(context, info, done, changed)
  transaction.add({ kind: 'delete', table, rows: done.deleted })
  if (done.updated.count > 0) {
    // As they are now: of several source rows that match one, the last has won.
    const keys = await keyTable(context, info, done.updated)
    const now = await (await executor.run(`SELECT * FROM ${info.path} WHERE ${inKeys(info, keys)}`)).rest()
    if (now.count !== done.updated.count)
      throw new SqlError('0A000', 'this MERGE could not be captured', { hint: 'use UPDATE, DELETE and INSERT' })
    transaction.add({ kind: 'update', table, rows: imagesOf(info, now), changed })
  }
  transaction.add({ kind: 'insert', table, rows: imagesOf(info, done.inserted) })
  const width = info.image.length + 1
  if (returning === undefined) return { count: all.count, returned: undefined }
  return {
    count: all.count,
    returned: { fields: result.columns.slice(width), rows: { count: all.count, columns: all.columns.slice(width) } },
  }
}

/** The columns that its updates may change. Throws 0A000 where a key might: its old value could not be told. */
function changedColumns({ updates, condition }: MergeStatement, info: TableInfo): number[] {
  const { columns, primaryKey } = info.table
  const keys = primaryKey.map((i) => columns[i]?.name ?? '')
  const changed = new Set<number>()
  for (const { assigned, computed } of updates) {
    const own = assigned === undefined ? columns.map((_, i) => i) : columnIndexes(info, assigned)
    const moving = new Set(columnIndexes(info, computed))
    for (const key of keys) {
      const i = columns.findIndex(({ name }) => name === key)
      if (own.includes(i) && (moving.has(i) || !pins(condition, key))) {
        throw new SqlError('0A000', `MERGE … UPDATE of the primary key (${key}) is not supported`, {
          hint: `leave ${key} out of SET, or match by it: ON target.${key} = source.${key}`,
        })
      }
    }
    for (const i of own) if (!primaryKey.includes(i)) changed.add(i)
  }
  return [...changed].sort((a, b) => a - b)
}

interface Done {
  /** Keys. */
  readonly deleted: Rows
  /** Keys, each once. */
  readonly updated: Rows
  /** As RETURNING * has them. */
  readonly inserted: Rows
}

/** Sorts rows of `merge_action, *`. Throws 21000 for a row that was both updated and deleted. */
function byAction(info: TableInfo, all: Rows): Done {
  const [actions = [], ...columns] = all.columns
  const images = columns.slice(0, info.image.length)
  const keyColumns = info.table.primaryKey.map((key) => images[info.image.indexOf(key)] as readonly Cell[])
  const rows = { DELETE: new Map<string, number>(), UPDATE: new Map<string, number>(), INSERT: [] as number[] }
  for (let row = 0; row < all.count; row++) {
    const action = actions[row] as 'DELETE' | 'UPDATE' | 'INSERT'
    if (action === 'INSERT') rows.INSERT.push(row)
    else rows[action].set(keyColumns.map((column) => cellText(column[row] as Cell)).join('\0'), row)
  }
  for (const key of rows.DELETE.keys()) {
    if (rows.UPDATE.has(key))
      throw new SqlError('21000', 'MERGE command cannot affect row a second time', {
        hint: 'make each row of the source match another row',
      })
  }
  const pick = (from: readonly (readonly Cell[])[], at: readonly number[]): Rows => ({
    count: at.length,
    columns: from.map((column) => at.map((row) => column[row] as Cell)),
  })
  return {
    deleted: pick(keyColumns, [...rows.DELETE.values()]),
    updated: pick(keyColumns, [...rows.UPDATE.values()]),
    inserted: pick(images, rows.INSERT),
  }
}

/** A temporary table of these keys; returns its path. */
async function keyTable({ executor }: CaptureContext, info: TableInfo, keys: Rows): Promise<string> {
  const name = 'daemonguard merged keys'
  const path = `temp.main.${quoteIdentifier(name)}`
  await executor.connection.run(
    `CREATE OR REPLACE TEMPORARY TABLE ${path} AS SELECT ${keyNames(info).join(', ')} FROM ${info.path} LIMIT 0`,
  )
  await executor.connection.append('main', name, 'temp', keys)
  return path
}

/** The table with its rows, defaults and generated columns, but without constraints. */
async function makeCopy({ executor, catalog }: CaptureContext & { catalog: string }, info: TableInfo): Promise<void> {
  const { connection } = executor
  const { schema, name, columns } = info.table
  const shape = (await readFamily(connection, catalog, schema, name))[0] as TableShape
  await connection.run(createTable({ ...shape, path: copy, constraints: [] }, 'CREATE OR REPLACE TEMPORARY TABLE'))
  const names = quotedList(columns.map((column) => column.name))
  await connection.run(`INSERT INTO ${copy} (${names}) SELECT ${names} FROM ${info.path}`)
}

/** Does to the table what MERGE did to the copy. */
async function applyCopy(
  context: CaptureContext & { catalog: string },
  info: TableInfo,
  done: Done,
  changed: readonly number[],
): Promise<void> {
  const { connection } = context.executor
  const { columns, primaryKey } = info.table
  const quoted = (i: number) => quoteIdentifier(columns[i]?.name ?? '')
  if (done.deleted.count > 0)
    await connection.run(`DELETE FROM ${info.path} WHERE ${inKeys(info, await keyTable(context, info, done.deleted))}`)
  if (done.updated.count > 0 && changed.length > 0) {
    const keys = await keyTable(context, info, done.updated)
    const set = changed.map((i) => `${quoted(i)} = n.${quoted(i)}`).join(', ')
    const same = primaryKey.map((i) => `t.${quoted(i)} = n.${quoted(i)}`).join(' AND ')
    await connection.run(`UPDATE ${info.path} AS t SET ${set} FROM ${copy} AS n WHERE ${same} AND ${inKeys(info, keys, 't')}`)
  }
  await connection.append(info.table.schema, info.table.name, context.catalog, imagesOf(info, done.inserted))
  await connection.run(`DROP TABLE ${copy}`)
}

/** Whether a row of the table, or of what `qualifier` names, has one of these keys. */
function inKeys(info: TableInfo, keys: string, qualifier?: string): string {
  const names = keyNames(info)
  const own = names.map((name) => (qualifier === undefined ? name : `${qualifier}.${name}`))
  return `(${own.join(', ')}) IN (SELECT ${names.length === 1 ? names[0] : `(${names.join(', ')})`} FROM ${keys})`
}
