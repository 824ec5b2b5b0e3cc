/**
 * UPDATE … FROM: the join and the new values are evaluated once, into a temporary table, which is then written by key. So a volatile condition
 * means what it says, and of several rows that match one, one is taken (DuckDB's own UPDATE may fail on an index then).
 */

import type { AffectedRows } from './affected-keys.ts'
import type { TableInfo } from './catalog.ts'
import type { Executor } from './executor.ts'
import type { Parameter } from './pgwire/backend.ts'
import type { Statement } from './sql/statement.ts'
import { quoteIdentifier, type Token } from './sql/tokens.ts'

type Update = Extract<Statement, { kind: 'update' }>

const path = 'temp.main."daemonguard joined"'

export interface JoinedUpdate extends AffectedRows {
  /** Does it. */
  update(): Promise<void>
}

/** `changed`: the columns that it sets, none of the key. Undefined for one without FROM, or whose SET has more than `column = value`. */
export async function joinedUpdate(
  executor: Executor,
  statement: Update,
  info: TableInfo,
  parameters: readonly Parameter[],
  changed: readonly number[],
): Promise<JoinedUpdate | undefined> {
  const { text, prefix, targetText, qualifier, from, where } = statement
  const values = valuesOf(statement)
  if (from === undefined || values === undefined || values.length !== changed.length || new Set(changed).size < changed.length)
    return undefined
  const name = (i: number) => quoteIdentifier(info.table.columns[i]?.name ?? '')
  const keys = info.table.primaryKey.map(name)
  const columns = [...keys, ...changed.map(name)].join(', ')
  const own = keys.map((key) => `${qualifier}.${key}`).join(', ')
  const wanted = where === undefined ? '' : ` WHERE ${text.slice(where.start, where.end)}`
  await executor.run(`CREATE OR REPLACE TEMPORARY TABLE ${path} AS SELECT ${columns} FROM ${info.path} LIMIT 0`)
  await executor.run(
    `${prefix}INSERT INTO ${path} SELECT DISTINCT ON (${own}) ${own}, ${values.join(', ')} FROM ${targetText}, ${text.slice(from.start, from.end)}${wanted}`,
    parameters,
  )
  return {
    condition: (alias) =>
      `(${keys.map((key) => (alias === undefined ? key : `${alias}.${key}`))}) IN (SELECT ${keys.length === 1 ? keys[0] : `(${keys})`} FROM ${path})`,
    run: (sql, options) => executor.run(sql, parameters, options),
    async update() {
      const set = changed.map((i) => `${name(i)} = n.${name(i)}`).join(', ')
      const same = keys.map((key) => `t.${key} = n.${key}`).join(' AND ')
      await executor.run(`UPDATE ${info.path} AS t SET ${set} FROM ${path} AS n WHERE ${same}`)
    },
  }
}

/** The values of `a = x, b = y`, in order; undefined where SET is more than that. */
function valuesOf({ text, tokens, set }: Update): string[] | undefined {
  const items: Token[][] = [[]]
  for (const token of tokens.filter(({ start, end }) => start >= set.start && end <= set.end)) {
    if (token.depth === 0 && token.kind === 'symbol' && token.text === ',') items.push([])
    else items.at(-1)?.push(token)
  }
  const values: string[] = []
  for (const item of items) {
    const equals = item.findIndex(({ kind, text: symbol, depth }) => kind === 'symbol' && symbol === '=' && depth === 0)
    const value = item.slice(equals + 1)
    const [first] = value
    if (equals < 1 || item[0]?.text === '(' || first === undefined || (first.kind === 'word' && first.text === 'default')) return undefined
    values.push(text.slice(first.start, value.at(-1)?.end))
  }
  return values
}
