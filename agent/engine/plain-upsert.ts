/**
 * Plain upserts: one row of bound parameters that takes the place of the row with its key, if there is one: `INSERT INTO t (…) VALUES ($1, …) ON CONFLICT (key) DO UPDATE
 * SET a = excluded.a, …` of all columns but the key's, or INSERT OR REPLACE. The row after it is the one that was given, whatever was there.
 */

import type { ColumnType } from '../journal/types.ts'
import { besideKey, columnIndex, type TableInfo } from './catalog.ts'
import { type InsertPlan, namesIn, planInsert, type WrittenRow, writtenRow } from './plain-insert.ts'
import type { Statement } from './sql/statement.ts'
import { quoteIdentifier, separated } from './sql/tokens.ts'

export interface PlainUpsert {
  readonly row: WrittenRow
  /** Names of the columns of `ON CONFLICT (…)`, if it has any. */
  readonly target: readonly string[] | undefined
  /** Names of the columns that it sets; 'row': those of the row but the key's. */
  readonly assigned: readonly string[] | 'row'
}

export function plainUpsert(statement: Statement): PlainUpsert | undefined {
  if (statement.kind !== 'insert' || statement.tokens[0]?.text !== 'insert') return undefined
  const verbs = statement.tokens.slice(1, 4).map(({ text }) => text)
  if (verbs.join(' ') === 'or replace into') {
    const found = writtenRow(statement, 4)
    return found?.rest.length === 0 ? { row: found.row, target: undefined, assigned: 'row' } : undefined
  }
  const found = verbs[0] === 'into' ? writtenRow(statement, 2) : undefined
  if (found === undefined || found.rest[0]?.text !== 'on' || found.rest[1]?.text !== 'conflict') return undefined
  const target = namesIn(found.rest, 2)
  const [act, update, set, ...items] = found.rest.slice(target === undefined ? 2 : 3 + 2 * target.length)
  if (act?.text !== 'do' || update?.text !== 'update' || set?.text !== 'set') return undefined
  const assigned: string[] = []
  for (const [column, equals, excluded, point, same, ...more] of separated(items, 0)) {
    const isSame = column !== undefined && isName(column.kind) && isName(same?.kind) && column.text === same?.text
    if (!isSame || equals?.text !== '=' || excluded?.text !== 'excluded' || point?.text !== '.' || more.length > 0) return undefined
    assigned.push(column.text)
  }
  return { row: found.row, target, assigned }
}

function isName(kind: string | undefined): boolean {
  return kind === 'word' || kind === 'quoted'
}

/** Types in which two keys are the same row's where they are the same value. */
const keyKinds = new Set<ColumnType['kind']>([
  'SMALLINT',
  'INTEGER',
  'BIGINT',
  'VARCHAR',
  'ENUM',
  'UUID',
  'DATE',
  'TIMESTAMP',
  'TIMESTAMPTZ',
])
const plans = new WeakMap<PlainUpsert, { readonly info: TableInfo; readonly plan: InsertPlan | undefined }>()

/** How it fills the row, or undefined where DuckDB has more to say than which key the row has: other constraints, indexes, columns that stay as they are. */
export function planUpsert(upsert: PlainUpsert, info: TableInfo): InsertPlan | undefined {
  let known = plans.get(upsert)
  if (known?.info !== info) {
    known = { info, plan: isWhole(upsert, info) ? planInsert(upsert.row, info) : undefined }
    plans.set(upsert, known)
  }
  return known.plan
}

function isWhole({ row, target, assigned }: PlainUpsert, info: TableInfo): boolean {
  const { table, checked, indexed, referenced, parents } = info
  const { columns, primaryKey } = table
  if (checked || indexed || referenced || parents.length > 0 || primaryKey.length === 0 || primaryKey.length === columns.length)
    return false
  const rest = besideKey(table)
  const has = (names: readonly string[], wanted: readonly number[]) =>
    wanted.every((i) => names.some((name) => columnIndex(table, name) === i))
  const isKey = target === undefined || (target.length === primaryKey.length && has(target, primaryKey))
  // A column that OR REPLACE does not name stays as it is.
  const setsAll =
    assigned === 'row' ? row.columns === undefined || has(row.columns, rest) : assigned.length === rest.length && has(assigned, rest)
  return isKey && setsAll && primaryKey.every((i) => keyKinds.has(columns[i]!.type.kind))
}

/** What stands behind the rows of an INSERT that are such. */
export function conflictClause({ table }: TableInfo): string {
  const name = (i: number) => quoteIdentifier(table.columns[i]!.name)
  const sets = besideKey(table).map((i) => `${name(i)} = excluded.${name(i)}`)
  return `ON CONFLICT (${table.primaryKey.map(name)}) DO UPDATE SET ${sets}`
}
