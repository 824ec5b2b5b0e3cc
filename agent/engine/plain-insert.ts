/**
 * Plain inserts of one row of bound parameters: their types are known beforehand, so the same typed values are appended to DuckDB and
 * journaled, without running SQL. Text becomes a value here only where its meaning is beyond doubt; anything else takes the ordinary way,
 * where DuckDB casts it.
 */

import { wallMicros } from '../clock.ts'
import type { Cell } from '../journal/types.ts'
import { columnIndex, type TableInfo } from './catalog.ts'
import { cellOf } from './certain-cells.ts'
import type { ColumnDefault } from './column-defaults.ts'
import type { Parameter } from './pgwire/backend.ts'
import type { Statement } from './sql/statement.ts'
import type { Token } from './sql/tokens.ts'

/** What a column of the table takes: a parameter (from 0), or what it has where the statement does not name it. */
type Source = number | Exclude<ColumnDefault, 'unknown'>

/** For each column of the table. */
export type InsertPlan = readonly Source[]

/** The row of `INSERT INTO t [(a, b)] VALUES ($1, $2) …`. */
export interface WrittenRow {
  readonly columns: readonly string[] | undefined
  /** Parameters, from 0. */
  readonly parameters: readonly number[]
}

/** The row of an INSERT, and the tokens behind it; undefined for any other shape. `verb`: how many tokens stand before the table's name. */
export function writtenRow(
  { tokens, target }: Extract<Statement, { kind: 'insert' }>,
  verb: number,
): { row: WrittenRow; rest: readonly Token[] } | undefined {
  let at = verb + target.length * 2 - 1
  let columns: string[] | undefined
  const list = (): string[] | undefined => {
    const names = namesIn(tokens, at)
    if (names !== undefined) at += 2 * names.length + 1
    return names
  }
  if (tokens[at]?.text === '(') {
    columns = list()
    if (columns === undefined) return undefined
  }
  if (tokens[at]?.text !== 'values') return undefined
  at++
  const values = list()
  if (values === undefined || values.some((value) => !/^\$[1-9]\d*$/.test(value))) return undefined
  return { row: { columns, parameters: values.map((value) => Number(value.slice(1)) - 1) }, rest: tokens.slice(at) }
}

/** The items of the list `(a, b)` at `at`, names or parameters. */
export function namesIn(tokens: readonly Token[], at: number): string[] | undefined {
  if (tokens[at]?.text !== '(') return undefined
  const items: string[] = []
  for (let i = at + 1; ; i += 2) {
    const item = tokens[i]
    if (item === undefined || item.kind === 'symbol' || item.kind === 'string' || item.kind === 'number') return undefined
    items.push(item.text)
    if (tokens[i + 1]?.text === ')') return items
    if (tokens[i + 1]?.text !== ',') return undefined
  }
}

/** The row of an INSERT that is nothing but `INSERT INTO t [(a, b)] VALUES ($1, $2)`. */
export function plainInsert(statement: Statement): WrittenRow | undefined {
  if (statement.kind !== 'insert' || statement.tokens[0]?.text !== 'insert' || statement.tokens[1]?.text !== 'into') return undefined
  const found = writtenRow(statement, 2)
  return found?.rest.length === 0 ? found.row : undefined
}

/** How a plain insert fills its table, or undefined where DuckDB has more to do: a column that it does not name has no value known here. */
export function planInsert(shape: WrittenRow, info: TableInfo): InsertPlan | undefined {
  const { table } = info
  if (info.temporary) return undefined
  const names = shape.columns ?? table.columns.map((column) => column.name)
  if (names.length !== shape.parameters.length) return undefined
  const plan: (Source | undefined)[] = new Array(table.columns.length).fill(undefined)
  for (const [i, name] of names.entries()) {
    const column = columnIndex(table, name)
    if (column === -1 || plan[column] !== undefined) return undefined
    plan[column] = shape.parameters[i]
  }
  const whole: Source[] = []
  for (const [column, source] of plan.entries()) {
    const from = source ?? info.defaults[column] ?? { cell: null }
    if (from === 'unknown') return undefined
    whole.push(from)
  }
  return whole
}

/**
 * The row's values, or undefined where one of them is not beyond doubt. `alone`: DuckDB will be given all of them, not the statement, which would make its own of what
 * is another one each time.
 */
export function cellsOf(
  plan: InsertPlan,
  info: TableInfo,
  parameters: readonly Parameter[],
  { timeZone, alone }: { timeZone: string; alone: boolean },
): Cell[] | undefined {
  const cells: Cell[] = []
  const { columns } = info.table
  // The same for all columns, as in DuckDB, where it is when the transaction began.
  let moment: bigint | undefined
  const made = (from: Extract<Source, { make: unknown }>) => {
    if (!alone) return undefined
    moment ??= wallMicros()
    return from.make(moment, timeZone)
  }
  for (let i = 0; i < columns.length; i++) {
    const column = columns[i] as (typeof columns)[number]
    const from = plan[i] as Source
    const cell = typeof from === 'number' ? cellOf(column, parameters[from]) : 'cell' in from ? from.cell : made(from)
    if (cell === null && !column.nullable) return undefined
    if (cell === undefined) return undefined
    cells.push(cell)
  }
  return cells
}

/** The client's parameters as typed values, for its own statement; undefined where one of them fills two columns. */
export function typedParameters(plan: InsertPlan, info: TableInfo, cells: readonly Cell[]): Parameter[] | undefined {
  const parameters: Parameter[] = []
  for (const [column, from] of plan.entries()) {
    if (typeof from !== 'number') continue
    if (parameters[from] !== undefined) return undefined
    const cell = cells[column] as Cell
    parameters[from] = cell === null ? null : { type: info.table.columns[column]!.type, cell }
  }
  return parameters
}
