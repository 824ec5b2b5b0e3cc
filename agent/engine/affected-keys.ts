/**
 * Which rows an UPDATE or DELETE will change, by key, before it changes them: its WHERE may be volatile and is evaluated once. The keys go into
 * a temporary table, which DuckDB can spill; where the WHERE names whole keys (`id = 5`), so that few can be meant, they stay here and cost neither a table nor a scan.
 */

import type { Cell, Rows } from '../journal/types.ts'
import { tableName } from '../journal/types.ts'
import type { TableInfo } from './catalog.ts'
import type { Result } from './duckdb.ts'
import type { Executor } from './executor.ts'
import type { Parameter } from './pgwire/backend.ts'
import type { Statement } from './sql/statement.ts'
import { lowerCase, quoteIdentifier, type Token, tokensOf } from './sql/tokens.ts'

type Update = Extract<Statement, { kind: 'update' }>
/** Of a DELETE, USING is what FROM is of an UPDATE. */
type Changing = Pick<Update, 'text' | 'tokens' | 'prefix' | 'targetText' | 'qualifier' | 'from' | 'where'>

export interface AffectedRows {
  /** The condition that a row is one of them; its columns under `qualifier`, as written. */
  condition(qualifier?: string): string
  /** Runs a statement that has the client's parameters and the condition in it. */
  run(sql: string, options?: { stream: boolean }): Promise<Result>
}

export interface AffectedKeys extends AffectedRows {
  rows(): AsyncIterable<Rows>
}

/** More keys than this are not worth a condition of their own. */
const mostListed = 64

export async function affectedKeys(
  executor: Executor,
  statement: Changing,
  info: TableInfo,
  parameters: readonly Parameter[],
): Promise<AffectedKeys> {
  const { text, where, from } = statement
  const sources = from === undefined ? statement.targetText : `${statement.targetText}, ${text.slice(from.start, from.end)}`
  const wanted = where === undefined ? '' : ` WHERE ${text.slice(where.start, where.end)}`
  const names = keyNames(info)
  // A join may meet a row twice.
  const distinct = from === undefined ? '' : 'DISTINCT '
  const select = `SELECT ${distinct}${names.map((name) => `${statement.qualifier}.${name}`).join(', ')} FROM ${sources}${wanted}`
  if (namesKeys(statement, info)) {
    const rows = await (await executor.run(`${statement.prefix}${select}`, parameters)).rest()
    if (rows.count <= mostListed) return listed(executor, info, rows, parameters)
  }
  const path = `temp.main.${quoteIdentifier(`daemonguard_keys ${tableName(info.table)}`)}`
  const columns = keyColumns(info).map((column) => `${quoteIdentifier(column.name)} ${column.sqlType}`)
  await executor.run(`CREATE OR REPLACE TEMPORARY TABLE ${path} (${columns.join(', ')})`)
  await executor.run(`${statement.prefix}INSERT INTO ${path} ${select}`, parameters)
  return {
    condition(qualifier) {
      const own = names.map((name) => (qualifier === undefined ? name : `${qualifier}.${name}`))
      return names.length === 1 ? `${own[0]} IN (SELECT ${names[0]} FROM ${path})` : `(${own}) IN (SELECT (${names}) FROM ${path})`
    },
    run: (sql, options) => executor.run(sql, parameters, options),
    rows: async function* () {
      yield* (await executor.run(`SELECT * FROM ${path}`, [], { stream: true })).chunks()
    },
  }
}

/**
 * Where the WHERE is `column = constant` for every column of the key and nothing else, it names the row by itself, and the same one however often it
 * is evaluated. Not for a statement that changes the key.
 */
export function namedRow(
  executor: Executor,
  statement: Changing,
  info: TableInfo,
  parameters: readonly Parameter[],
): AffectedRows | undefined {
  const { text, where, from, qualifier } = statement
  if (where === undefined || from !== undefined) return undefined
  const written = ({ start, end }: Token) => lowerCase(text.slice(start, end))
  const named: string[] = []
  const condition = tokensOf(statement.tokens, where)
  for (let at = 0; at < condition.length; ) {
    // Before the point may stand a struct as well, whose field has the key's name.
    if (condition[at + 1]?.text === '.' && written(condition[at] as Token) === lowerCase(qualifier)) at += 2
    if (!equality(condition, at)) return undefined
    named.push(lowerCase((condition[at] as Token).text))
    at += 4
  }
  const keys = keyColumns(info).map(({ name }) => lowerCase(name))
  if (named.length !== keys.length || !keys.every((key) => named.includes(key))) return undefined
  const brief = isBrief(statement, info)
  return {
    condition: () => text.slice(where.start, where.end),
    run: (sql) => executor.run(sql, parameters, { brief }),
  }
}

/**
 * Whether a statement that names its row is as small as it looks: DuckDB finds the row by the index, which it does for keys of one column alone, compared with a
 * value of the column's own type; and its expressions are arithmetic: no subquery, no list, and no function but a few, since any may take for ever.
 */
function isBrief({ tokens }: Changing, info: TableInfo): boolean {
  if (info.table.primaryKey.length !== 1 || tokens.length > mostTokens) return false
  return !tokens.some(({ kind, text }, i) => {
    if (kind === 'number') return /[.e]/i.test(text)
    if (kind === 'symbol') return text === '[' || text === '{'
    const called = (kind === 'word' || kind === 'quoted') && tokens[i + 1]?.text === '('
    return (called && !beforeParenthesis.has(text)) || (kind === 'word' && queryWords.has(text))
  })
}

/** A longer statement takes its time to be planned. */
const mostTokens = 500
/** Keywords, types, and functions that take no time. */
const beforeParenthesis = new Set(
  'and or not in when then else set cast try_cast decimal numeric varchar abs ceil coalesce floor greatest least mod nullif now round sign'.split(
    ' ',
  ),
)
const queryWords = new Set(['select', 'from', 'table', 'values', 'for'])

function listed(executor: Executor, info: TableInfo, rows: Rows, parameters: readonly Parameter[]): AffectedKeys {
  const columns = keyColumns(info)
  const cells = Array.from({ length: rows.count }, (_, row) => columns.map((_, i) => rows.columns[i]?.[row] as Cell))
  const all = [...parameters, ...cells.flatMap((row) => row.map((cell, i) => ({ type: columns[i]!.type, cell })))]
  return {
    condition(qualifier) {
      if (cells.length === 0) return 'false'
      let next = parameters.length
      const ofRow = () =>
        columns.map(({ name }) => `${qualifier === undefined ? '' : `${qualifier}.`}${quoteIdentifier(name)} = $${++next}`).join(' AND ')
      return `(${cells.map(ofRow).join(' OR ')})`
    },
    run: (sql) => executor.run(sql, all, { keep: parameters.length > 0 }),
    rows: async function* () {
      if (rows.count > 0) yield rows
    },
  }
}

/** Whether the WHERE says `column = constant` for every column of the key, beside other conditions: one row, as a rule. */
export function namesKeys({ tokens, where, from }: Pick<Changing, 'tokens' | 'where' | 'from'>, info: TableInfo): boolean {
  if (where === undefined || from !== undefined) return false
  const condition = tokensOf(tokens, where)
  if (condition.some(({ kind, text, depth }) => kind === 'word' && text === 'or' && depth === 0)) return false
  const named = new Set(condition.flatMap((_, i) => (equality(condition, i) ? [lowerCase((condition[i] as Token).text)] : [])))
  return keyColumns(info).every(({ name }) => named.has(lowerCase(name)))
}

/** Whether `column = constant` begins at `at`, alone or between ANDs. Which table the column is of does not matter: it only has to be likely. */
function equality(tokens: readonly Token[], at: number): boolean {
  const [name, equals, constant, after] = tokens.slice(at)
  const before = tokens[at - 1]
  const isName = name?.depth === 0 && (name.kind === 'word' || name.kind === 'quoted')
  const isConstant = constant?.kind === 'number' || constant?.kind === 'string' || constant?.kind === 'parameter'
  const begins = before === undefined || before.text === 'and' || before.text === '.'
  return isName && equals?.text === '=' && isConstant && begins && (after === undefined || after.text === 'and')
}

function keyColumns(info: TableInfo) {
  return info.table.primaryKey.map((i) => info.table.columns[i]!)
}

function keyNames(info: TableInfo): string[] {
  return keyColumns(info).map(({ name }) => quoteIdentifier(name))
}
