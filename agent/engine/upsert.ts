/** INSERT … ON CONFLICT DO UPDATE on a table that foreign keys reference: DuckDB refuses it together with RETURNING, so it is tried on a copy first. */

import { type CaptureContext, type Captured, imagesOf } from './capture.ts'
import type { TableInfo } from './catalog.ts'
import type { Parameter } from './pgwire/backend.ts'
import type { Statement } from './sql/statement.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { applyCopy, inKeys, keyColumns, keyTable, keyText, makeCopy, pick } from './table-copy.ts'

type Insert = Extract<Statement, { kind: 'insert' }>

/** `changed`: the columns that it sets on a conflict, without the key. */
export async function captureUpsertOfParent(
  context: CaptureContext,
  statement: Insert,
  info: TableInfo,
  parameters: readonly Parameter[],
  changed: readonly number[],
): Promise<Captured> {
  const { executor, transaction } = context
  const { table } = info
  const { text, targetText, returning } = statement
  const copy = await makeCopy(context, info, true)
  const alias = /^\s*as\b/i.test(text.slice(targetText[1])) ? '' : ` AS ${quoteIdentifier(table.name)}`
  const wanted = returning === undefined ? '' : `, ${text.slice(returning.start, returning.end)}`
  const sql = `${text.slice(0, targetText[0])}${copy}${alias}${text.slice(targetText[1], returning?.keyword)} RETURNING *${wanted}`
  const result = await executor.run(sql, parameters)
  const all = await result.rest()

  const width = info.image.length
  const images = all.columns.slice(0, width)
  const keys = keyColumns(info, images)
  const written = await keyTable(context, info, { count: all.count, columns: keys })
  const there = await (await executor.run(`SELECT * FROM ${info.path} WHERE ${inKeys(info, written)}`)).rest()
  const before = new Set(Array.from({ length: there.count }, (_, row) => keyText(keyColumns(info, there.columns), row)))
  const updated: number[] = []
  const inserted: number[] = []
  for (let row = 0; row < all.count; row++) (before.has(keyText(keys, row)) ? updated : inserted).push(row)

  const done = { deleted: { count: 0, columns: [] }, updated: pick(keys, updated), inserted: pick(images, inserted) }
  await applyCopy(context, info, done, changed)
  transaction.add({ kind: 'update', table, rows: imagesOf(info, pick(images, updated)), changed })
  transaction.add({ kind: 'insert', table, rows: imagesOf(info, done.inserted) })
  if (returning === undefined) return { count: all.count, returned: undefined }
  return {
    count: all.count,
    returned: { fields: result.columns.slice(width), rows: { count: all.count, columns: all.columns.slice(width) } },
  }
}
