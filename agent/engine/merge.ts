/**
 * MERGE: captured from its RETURNING merge_action. That makes an update a delete and an insert, which DuckDB refuses for rows that foreign keys
 * reference: there it runs on a temporary copy of the table, and what it did is done to the table by key.
 */

import type { Rows } from '../journal/types.ts'
import { type CaptureContext, type Captured, columnIndexes, imagesOf, keyless, lockReferenced } from './capture.ts'
import type { TableInfo } from './catalog.ts'
import type { Parameter } from './pgwire/backend.ts'
import { type MergeStatement, pins } from './sql/merge.ts'
import { SqlError } from './sql-error.ts'
import { applyCopy, copyOf, type Done, inKeys, keyColumns, keyTable, keyText, pick, shapeOf } from './table-copy.ts'

export async function captureMerge(
  context: CaptureContext,
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
  lockReferenced(context, info, deletes ? info.referencedColumns : changed)

  const onCopy = info.referenced && updates.length > 0
  const target = onCopy
    ? `${await copyOf(context, info, await shapeOf(context, info), { unique: false })} AS ${statement.qualifier}`
    : text.slice(...targetText)
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

/** Sorts rows of `merge_action, *`. Throws 21000 for a row that was both updated and deleted. */
function byAction(info: TableInfo, all: Rows): Done {
  const [actions = [], ...columns] = all.columns
  const images = columns.slice(0, info.image.length)
  const keys = keyColumns(info, images)
  const rows = { DELETE: new Map<string, number>(), UPDATE: new Map<string, number>(), INSERT: [] as number[] }
  for (let row = 0; row < all.count; row++) {
    const action = actions[row] as 'DELETE' | 'UPDATE' | 'INSERT'
    if (action === 'INSERT') rows.INSERT.push(row)
    else rows[action].set(keyText(keys, row), row)
  }
  for (const key of rows.DELETE.keys()) {
    if (rows.UPDATE.has(key))
      throw new SqlError('21000', 'MERGE command cannot affect row a second time', {
        hint: 'make each row of the source match another row',
      })
  }
  return {
    deleted: pick(keys, [...rows.DELETE.values()]),
    updated: pick(keys, [...rows.UPDATE.values()]),
    inserted: pick(images, rows.INSERT),
  }
}
