/**
 * UPDATEs of one row by its key whose result is known without DuckDB, from the row before: each column gets a value, or is a column of its own type to which a
 * number is added or from which it is taken, in types where both sides count alike (whole numbers, IEEE 754 doubles). DuckDB gets the same typed values.
 * What it refuses (overflow, constraints) it has refused before anybody asks for the row.
 *
 * Where the result is known beforehand, DuckDB can be given it in place of the expressions: it plans each UPDATE anew, of which binding them is a fifth.
 */

import type { Cell, ColumnType } from '../journal/types.ts'
import { columnIndex, type TableInfo } from './catalog.ts'
import { cellOf } from './certain-cells.ts'
import { isInRange } from './certain-numbers.ts'
import { cellFromText } from './certain-texts.ts'
import type { Parameter } from './pgwire/backend.ts'
import { cellText } from './row-conflicts.ts'
import { updateOfOne } from './row-updater.ts'
import type { Statement } from './sql/statement.ts'
import { separated, type Token, tokensOf } from './sql/tokens.ts'

type Update = Extract<Statement, { kind: 'update' }>

/** A parameter (from 0), or a whole number as written. */
type Constant = { readonly parameter: number } | { readonly text: string }

interface Assignment {
  /** Index in `table.columns`, as the following. */
  readonly column: number
  /** The column that the value is added to. */
  readonly base: number | undefined
  readonly negative: boolean
  readonly value: Constant
}

interface Plan {
  readonly key: Constant
  readonly assignments: readonly Assignment[]
  /** The statement with a parameter for each value, and one for the key; undefined where it is no small one, or more than one row may have the key. */
  readonly outright: string | undefined
}

export interface SimpleUpdate {
  /** Text of the row's key (row-conflicts.ts). */
  readonly key: string
  /** The same as a parameter. */
  readonly keyValue: Parameter
  /** Whether `outright` knows how, for values in range. */
  readonly canBeOutright: boolean
  /** The client's, typed. */
  readonly parameters: readonly Parameter[]
  /** The row after, of all columns. */
  apply(before: readonly Cell[]): readonly Cell[]
  /** What sets the row to this one. Undefined: the statement itself has to do it, or to say why not. */
  outright(after: readonly Cell[]): { readonly sql: string; readonly parameters: readonly Parameter[] } | undefined
}

/** A statement that sets more takes its time to be planned. */
const mostOutright = 100
const counted = new Set<ColumnType['kind']>(['INTEGER', 'BIGINT', 'DOUBLE'])
const plans = new WeakMap<Update, { readonly info: TableInfo; readonly plan: Plan | undefined }>()

/** Undefined for any other statement, and where a value is not beyond doubt. */
export function simpleUpdate(statement: Update, info: TableInfo, parameters: readonly Parameter[]): SimpleUpdate | undefined {
  let known = plans.get(statement)
  if (known?.info !== info) {
    known = { info, plan: planOf(statement, info) }
    plans.set(statement, known)
  }
  const { plan } = known
  if (plan === undefined) return undefined
  const { columns, primaryKey } = info.table
  const typed: Parameter[] = [...parameters]
  const meant = (value: Constant, index: number): Cell | undefined => {
    const column = columns[index] as (typeof columns)[number]
    if ('text' in value) return cellFromText(column.type, column.sqlType, value.text)
    const cell = cellOf(column, parameters[value.parameter])
    if (cell !== undefined) typed[value.parameter] = cell === null ? null : { type: column.type, cell }
    return cell
  }
  const key = meant(plan.key, primaryKey[0] as number)
  if (key === undefined || key === null) return undefined
  const values: Cell[] = []
  for (const { column, value } of plan.assignments) {
    const cell = meant(value, column)
    if (cell === undefined) return undefined
    values.push(cell)
  }
  const keyValue = { type: columns[primaryKey[0] as number]!.type, cell: key }
  // What has parameters DuckDB has read itself (Parse), reserved words and all.
  const canBeOutright = plan.outright !== undefined && parameters.length > 0
  return {
    key: cellText(key),
    keyValue,
    canBeOutright,
    parameters: typed,
    apply(before) {
      const after = [...before]
      for (const [i, { column, base, negative }] of plan.assignments.entries())
        after[column] = base === undefined ? (values[i] as Cell) : sum(before[base] as Cell, values[i] as Cell, negative)
      return after
    },
    outright(after) {
      const sql = plan.outright
      const set = plan.assignments.map(({ column }) => ({ type: columns[column]!.type, cell: after[column] as Cell }))
      // It refuses a sum that is not in range.
      if (sql === undefined || !canBeOutright || !set.every(({ type, cell }) => isInRange(type, cell))) return undefined
      return { sql, parameters: [...set, keyValue] }
    },
  }
}

function sum(one: Cell, other: Cell, negative: boolean): Cell {
  if (one === null || other === null) return null
  if (typeof one === 'bigint') return negative ? one - (other as bigint) : one + (other as bigint)
  return negative ? (one as number) - (other as number) : (one as number) + (other as number)
}

/** Just `UPDATE name SET … WHERE key = value`: of what stands elsewhere (an alias, a qualifier, a field of a struct), DuckDB must say what it means, or that it is wrong. */
function keyValue({ tokens, prefix, from, returning, set, where }: Update, { table }: TableInfo): readonly Token[] | undefined {
  if (table.primaryKey.length !== 1 || prefix !== '' || from !== undefined || returning !== undefined || where === undefined)
    return undefined
  const target = tokens.slice(1, tokens.findIndex(({ start }) => start >= set.start) - 1)
  const isName =
    target.length % 2 === 1 && target.every(({ kind, text }, i) => (i % 2 === 1 ? text === '.' : kind === 'word' || kind === 'quoted'))
  const [key, equals, ...value] = tokensOf(tokens, where)
  const isKey = (key?.kind === 'word' || key?.kind === 'quoted') && columnIndex(table, key.text) === table.primaryKey[0]
  return isName && isKey && equals?.text === '=' ? value : undefined
}

function planOf(statement: Update, info: TableInfo): Plan | undefined {
  const { table } = info
  const value = keyValue(statement, info)
  if (info.temporary || value === undefined) return undefined
  const used = new Set<number>()
  const once = (constant: Constant | undefined): Constant | undefined => {
    if (constant === undefined || !('parameter' in constant)) return constant
    if (used.has(constant.parameter)) return undefined
    used.add(constant.parameter)
    return constant
  }
  const key = once(constant(value))
  const assignments: Assignment[] = []
  for (const item of separated(tokensOf(statement.tokens, statement.set), 0)) {
    const column = columnOf(item[0], info)
    if (column === undefined || item[1]?.text !== '=' || table.primaryKey.includes(column)) return undefined
    const { type, sqlType } = table.columns[column] as (typeof table.columns)[number]
    const sign = item[3]?.text
    const added = sign === '+' || sign === '-'
    const base = added ? columnOf(item[2], info) : undefined
    const rest = item.slice(added ? 4 : 2)
    const assigned = once(constant(rest) ?? castParameter(rest, sqlType))
    if (assigned === undefined) return undefined
    if (added) {
      if (base === undefined || !counted.has(type.kind) || table.columns[base]?.type.kind !== type.kind) return undefined
      // A parameter of another type makes it another sum; one that is cast is of this type.
      if ('parameter' in assigned && constant(rest) !== undefined) return undefined
    } else if ('text' in assigned && !counted.has(type.kind)) return undefined
    assignments.push({ column, base, negative: sign === '-', value: assigned })
  }
  const { type } = table.columns[table.primaryKey[0] as number]!
  const whole = type.kind === 'INTEGER' || type.kind === 'BIGINT'
  // A number as written finds a text by what it means.
  if (key === undefined || ('text' in key && !whole)) return undefined
  // A text may be found by others, under a collation.
  if (!whole || assignments.length > mostOutright) return { key, assignments, outright: undefined }
  const changed = assignments.map(({ column }) => column)
  return { key, assignments, outright: updateOfOne(info, changed) }
}

function columnOf(token: Token | undefined, { table }: TableInfo): number | undefined {
  if (token?.kind !== 'word') return undefined
  const index = columnIndex(table, token.text)
  return index === -1 ? undefined : index
}

/** `$1`, or a whole number that is an INTEGER to DuckDB. */
function constant(tokens: readonly Token[]): Constant | undefined {
  const [token] = tokens
  if (tokens.length !== 1 || token === undefined) return undefined
  if (token.kind === 'parameter') return { parameter: Number(token.text.slice(1)) - 1 }
  return token.kind === 'number' && /^\d{1,9}$/.test(token.text) ? { text: token.text } : undefined
}

/** `CAST($1 AS type)`, as parameters.ts writes it. */
function castParameter(tokens: readonly Token[], sqlType: string): Constant | undefined {
  const [cast, open, parameter, as, type, close] = tokens.map(({ text }) => text)
  const isCast = tokens.length === 6 && cast === 'cast' && open === '(' && as === 'as' && close === ')'
  if (!isCast || type?.toLowerCase() !== sqlType.toLowerCase() || tokens[2]?.kind !== 'parameter') return undefined
  return { parameter: Number(parameter?.slice(1)) - 1 }
}
