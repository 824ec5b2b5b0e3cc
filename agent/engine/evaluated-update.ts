/**
 * UPDATE … FROM, and an UPDATE that changes keys: its rows and their new values are evaluated once, into a temporary table, which is then written by
 * key. So a volatile condition means what it says, and of several rows that match one, one is taken (DuckDB's own UPDATE may fail on an index
 * then). With the old keys and the new ones at hand nothing has to be asked for by RETURNING, which would hold all of it in memory.
 */

import { type Rows, tableName } from '../journal/types.ts'
import type { AffectedRows } from './affected-keys.ts'
import type { CaptureContext } from './capture.ts'
import type { TableInfo } from './catalog.ts'
import { renumber } from './executor.ts'
import type { Parameter } from './pgwire/backend.ts'
import type { Statement } from './sql/statement.ts'
import { quoteIdentifier, quoteString, separated, type Token, tokensOf } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

type Update = Extract<Statement, { kind: 'update' }>

const path = 'temp.main."daemonguard evaluated"'

/** Its condition is about the rows as they are after it. */
export interface EvaluatedUpdate extends AffectedRows {
  /** The keys that the rows have before it. */
  keysBefore(): AsyncIterable<Rows>
  /** Does it. */
  update(): Promise<void>
}

/** `changed`: the columns that it sets. */
export async function evaluatedUpdate(
  { executor, catalog }: Pick<CaptureContext, 'executor' | 'catalog'>,
  statement: Update,
  info: TableInfo,
  parameters: readonly Parameter[],
  changed: readonly number[],
): Promise<EvaluatedUpdate> {
  const { text, prefix, targetText, qualifier, from, where } = statement
  // What DuckDB would not take in an UPDATE (aggregates, unnest, a column that is set twice) it may take in a SELECT: it says so now.
  const whole = await executor.connection.prepare(renumber(text).sql)
  whole.close()
  const { columns, primaryKey } = info.table
  const name = (i: number) => quoteIdentifier(columns[i]?.name ?? '')
  const values = valuesOf(statement)
  if (values.length !== changed.length) throw unreadable()
  const written: string[] = []
  for (const [at, value] of values.entries()) {
    written.push(value ?? (await defaultOf(catalog, changed[at] as number)))
  }
  const own = primaryKey.map((i) => `${qualifier}.${name(i)}`).join(', ')
  const before = primaryKey.map((_, at) => `k${at}`)
  const after = primaryKey.map((i, at) => (changed.includes(i) ? `v${changed.indexOf(i)}` : `k${at}`)).join(', ')
  const shape = [...primaryKey.map((i, at) => `${name(i)} AS k${at}`), ...changed.map((i, at) => `${name(i)} AS v${at}`)].join(', ')
  const once = from === undefined ? '' : `DISTINCT ON (${own}) `
  const sources = from === undefined ? targetText : `${targetText}, ${text.slice(from.start, from.end)}`
  const wanted = where === undefined ? '' : ` WHERE ${text.slice(where.start, where.end)}`
  await executor.run(`CREATE OR REPLACE TEMPORARY TABLE ${path} AS SELECT ${shape} FROM ${info.path} LIMIT 0`)
  await executor.run(
    `${prefix}INSERT INTO ${path} SELECT ${once}${own}, ${written.map((value) => `(${value})`).join(', ')} FROM ${sources}${wanted}`,
    parameters,
  )
  return {
    condition: (alias) =>
      `(${primaryKey.map((i) => (alias === undefined ? name(i) : `${alias}.${name(i)}`))}) IN (SELECT ${primaryKey.length === 1 ? after : `(${after})`} FROM ${path})`,
    run: (sql, options) => executor.run(sql, parameters, options),
    keysBefore: async function* () {
      yield* (await executor.run(`SELECT ${before.join(', ')} FROM ${path}`, [], { stream: true })).chunks()
    },
    async update() {
      const set = changed.map((i, at) => `${name(i)} = n.v${at}`).join(', ')
      const same = primaryKey.map((i, at) => `t.${name(i)} = n.k${at}`).join(' AND ')
      await executor.run(`UPDATE ${info.path} AS t SET ${set} FROM ${path} AS n WHERE ${same}`)
    },
  }

  async function defaultOf(database: string, column: number): Promise<string> {
    const { schema, name: table } = info.table
    const where = [
      ['database_name', database],
      ['schema_name', schema],
      ['table_name', table],
      ['column_name', columns[column]?.name ?? ''],
    ]
    const condition = where.map(([field = '', value = '']) => `${field} = ${quoteString(value)}`).join(' AND ')
    const [row] = await executor.connection.all(`SELECT column_default FROM duckdb_columns() WHERE ${condition}`)
    if (row === undefined) throw new Error(`${tableName(info.table)} has no column ${columns[column]?.name}`)
    return row[0] === null ? 'NULL' : String(row[0])
  }
}

/** The values of a SET list, one for each column, in order: `a = x, (b, c) = (y, z)`; undefined: DEFAULT. */
function valuesOf({ text, tokens, set }: Update): (string | undefined)[] {
  const inside = tokensOf(tokens, set)
  const written = (value: readonly Token[]) => {
    const [first] = value
    if (first === undefined) throw unreadable()
    return first.kind === 'word' && first.text === 'default' && value.length === 1 ? undefined : text.slice(first.start, value.at(-1)?.end)
  }
  return separated(inside, 0).flatMap((item) => {
    const equals = item.findIndex(({ kind, text: symbol, depth }) => kind === 'symbol' && symbol === '=' && depth === 0)
    if (equals < 1) throw unreadable()
    const value = item.slice(equals + 1)
    if (item[0]?.text !== '(') return [written(value)]
    const columns = separated(item.slice(1, equals - 1), 1).length
    const row = value[0]?.text === 'row' ? value.slice(1) : value
    const isRow = row[0]?.text === '(' && row.findIndex(({ depth }, i) => i > 0 && depth === 0) === row.length - 1
    const parts = isRow ? separated(row.slice(1, -1), 1) : []
    // DuckDB gives every column what is no row of several values.
    if (parts.length < 2) return Array.from({ length: columns }, () => written(value))
    return parts.slice(0, columns).map(written)
  })
}

function unreadable(): SqlError {
  return new SqlError('0A000', 'this SET list is not supported in an UPDATE that has FROM or changes a key', {
    hint: 'SET column = value, …',
  })
}
