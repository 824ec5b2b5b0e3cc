/** INSERT … ON CONFLICT DO UPDATE on a table that foreign keys reference: DuckDB refuses it together with RETURNING, so it is tried on a copy first. */

import { type CaptureContext, type Captured, imagesOf } from './capture.ts'
import type { TableInfo } from './catalog.ts'
import type { Parameter } from './pgwire/backend.ts'
import type { Statement } from './sql/statement.ts'
import { quoteIdentifier, type Token } from './sql/tokens.ts'
import { applyCopy, copyOf, emptyCopy, inKeys, isUnique, keyColumns, keyTable, keyText, pick, shapeOf } from './table-copy.ts'
import { quotedList, type TableShape } from './table-shape.ts'

type Insert = Extract<Statement, { kind: 'insert' }>

/**
 * `changed`: the columns that it sets on a conflict, without the key. What it proposes is evaluated once, into a table of its own; the copy has
 * the rows that could be in conflict with that.
 */
export async function captureUpsertOfParent(
  context: CaptureContext,
  statement: Insert,
  info: TableInfo,
  parameters: readonly Parameter[],
  changed: readonly number[],
): Promise<Captured> {
  const { executor, transaction } = context
  const { table } = info
  const { proposal, resolution, alias } = partsOf(statement, info)
  const shape = await shapeOf(context, info)
  const proposed = await emptyCopy(context, shape, 'daemonguard proposed', [])
  await executor.run(proposal(proposed), parameters)
  const copy = await copyOf(context, info, shape, { unique: true, rows: inConflict(shape, proposed) })
  const names = quotedList(table.columns.map(({ name }) => name))
  const result = await executor.run(resolution(`${copy} AS ${alias} (${names}) SELECT ${names} FROM ${proposed}`), parameters)
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
  await executor.connection.run(`DROP TABLE ${proposed}`)
  transaction.add({ kind: 'update', table, rows: imagesOf(info, pick(images, updated)), changed })
  transaction.add({ kind: 'insert', table, rows: imagesOf(info, done.inserted) })
  if (statement.returning === undefined) return { count: all.count, returned: undefined }
  return {
    count: all.count,
    returned: { fields: result.columns.slice(width), rows: { count: all.count, columns: all.columns.slice(width) } },
  }
}

/** The INSERT in two: what it proposes, into another table; and what becomes of it. */
function partsOf({ text, tokens, conflict, targetText, returning }: Insert, info: TableInfo) {
  const verb = tokens.findLast(({ kind, text: word, start }) => kind === 'word' && word === 'insert' && start < targetText[0])?.start ?? 0
  const on = tokens.find(
    ({ text: word, depth, start }, i) => depth === 0 && word === 'on' && tokens[i + 1]?.text === 'conflict' && start > targetText[1],
  )
  const end = returning?.keyword ?? text.length
  const [as, name] = tokens.filter(({ start }) => start >= targetText[1]).slice(0, 2) as (Token | undefined)[]
  const wanted = returning === undefined ? '' : `, ${text.slice(returning.start, returning.end)}`
  const replacing = conflict.action === 'replace' && on === undefined ? 'OR REPLACE ' : ''
  return {
    proposal: (into: string) => `${text.slice(0, verb)}INSERT INTO ${into}${text.slice(targetText[1], on?.start ?? end)}`,
    resolution: (into: string) =>
      `INSERT ${replacing}INTO ${into} ${on === undefined ? '' : text.slice(on.start, end)} RETURNING *${wanted}`,
    alias: as?.text === 'as' ? text.slice(name?.start, name?.end) : quoteIdentifier(info.table.name),
  }
}

/** Which rows have a unique value in common with the proposed ones; undefined: any may, because of a unique index. */
function inConflict({ constraints, indexes }: TableShape, proposed: string): string | undefined {
  if (indexes.some(isUnique)) return undefined
  const keys = constraints.filter(({ type }) => type === 'PRIMARY KEY' || type === 'UNIQUE').map(({ columns }) => quotedList(columns))
  return keys.map((list) => `(${list}) IN (SELECT ${list.includes(',') ? `(${list})` : list} FROM ${proposed})`).join(' OR ')
}
