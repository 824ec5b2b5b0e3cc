/**
 * Plain inserts of one row of bound parameters: their types are known beforehand, so the same typed values are appended to DuckDB and
 * journaled, without running SQL. Text becomes a value here only where its meaning is beyond doubt; anything else takes the ordinary way,
 * where DuckDB casts it.
 */

import type { Cell, ColumnType } from '../journal/types.ts'
import type { TableInfo } from './catalog.ts'
import type { Parameter } from './pgwire/backend.ts'
import type { Statement } from './sql/statement.ts'
import { lowerCase } from './sql/tokens.ts'

/** For each column of the table the parameter (from 0) that it takes, or -1 for NULL. */
export type InsertPlan = readonly number[]

/** The names and parameters of `INSERT INTO t [(a, b)] VALUES ($1, $2)`, or undefined for any other shape. */
export function plainInsert(statement: Statement): { columns: readonly string[] | undefined; parameters: readonly number[] } | undefined {
  if (statement.kind !== 'insert' || statement.conflict.action !== 'error' || statement.returning !== undefined) return undefined
  const { tokens } = statement
  if (tokens[0]?.text !== 'insert' || tokens[1]?.text !== 'into') return undefined
  let at = 2 + statement.target.length * 2 - 1
  let columns: string[] | undefined
  const list = (): string[] | undefined => {
    if (tokens[at]?.text !== '(') return undefined
    const items: string[] = []
    for (at++; ; at += 2) {
      const item = tokens[at]
      if (item === undefined || item.kind === 'symbol' || item.kind === 'string' || item.kind === 'number') return undefined
      items.push(item.text)
      if (tokens[at + 1]?.text === ')') break
      if (tokens[at + 1]?.text !== ',') return undefined
    }
    at += 2
    return items
  }
  if (tokens[at]?.text === '(') {
    columns = list()
    if (columns === undefined) return undefined
  }
  if (tokens[at]?.text !== 'values') return undefined
  at++
  const values = list()
  if (values === undefined || at !== tokens.length || values.some((value) => !/^\$[1-9]\d*$/.test(value))) return undefined
  return { columns, parameters: values.map((value) => Number(value.slice(1)) - 1) }
}

/** How a plain insert fills its table, or undefined where DuckDB has more to do: defaults, generated columns, other types. */
export function planInsert(shape: NonNullable<ReturnType<typeof plainInsert>>, info: TableInfo): InsertPlan | undefined {
  const { table } = info
  if (info.temporary || info.image.includes(-1) || table.columns.some(({ type }) => !understood.has(type.kind))) return undefined
  const names = shape.columns ?? table.columns.map((column) => column.name)
  if (names.length !== shape.parameters.length) return undefined
  const plan: number[] = new Array(table.columns.length).fill(-1)
  for (const [i, name] of names.entries()) {
    const column = table.columns.findIndex((candidate) => lowerCase(candidate.name) === lowerCase(name))
    if (column === -1 || plan[column] !== -1) return undefined
    plan[column] = shape.parameters[i] as number
  }
  const needsDefault = plan.some((parameter, column) => parameter === -1 && (info.defaults[column] || !table.columns[column]?.nullable))
  return needsDefault ? undefined : plan
}

/** The row's values, or undefined where one of them is not beyond doubt. */
export function cellsOf(plan: InsertPlan, info: TableInfo, parameters: readonly Parameter[]): Cell[] | undefined {
  const cells: Cell[] = []
  const { columns } = info.table
  for (let i = 0; i < columns.length; i++) {
    const { type, sqlType, nullable } = columns[i] as (typeof columns)[number]
    const from = plan[i] as number
    const parameter = from === -1 ? null : parameters[from]
    if (parameter === null) {
      if (!nullable) return undefined
      cells.push(null)
      continue
    }
    if (parameter === undefined) return undefined
    const cell =
      typeof parameter === 'string' ? cellFromText(type, sqlType, parameter) : sameType(type, parameter.type) ? parameter.cell : undefined
    if (cell === undefined) return undefined
    cells.push(cell)
  }
  return cells
}

/** The client's parameters as typed values, for its own statement; undefined where one of them fills two columns. */
export function typedParameters(plan: InsertPlan, info: TableInfo, cells: readonly Cell[]): Parameter[] | undefined {
  const parameters: Parameter[] = []
  for (const [column, from] of plan.entries()) {
    if (from === -1) continue
    if (parameters[from] !== undefined) return undefined
    const cell = cells[column] as Cell
    parameters[from] = cell === null ? null : { type: info.table.columns[column]!.type, cell }
  }
  return parameters
}

/** Types of which text can be beyond doubt. */
export const understood = new Set<ColumnType['kind']>([
  'BOOLEAN',
  'TINYINT',
  'SMALLINT',
  'INTEGER',
  'BIGINT',
  'UTINYINT',
  'USMALLINT',
  'UINTEGER',
  'UBIGINT',
  'DOUBLE',
  'DECIMAL',
  'VARCHAR',
  'DATE',
  'TIMESTAMP',
  'TIMESTAMPTZ',
  'UUID',
])

const ranges: Partial<Record<ColumnType['kind'], readonly [bigint, bigint]>> = {
  TINYINT: [-(1n << 7n), (1n << 7n) - 1n],
  SMALLINT: [-(1n << 15n), (1n << 15n) - 1n],
  INTEGER: [-(1n << 31n), (1n << 31n) - 1n],
  BIGINT: [-(1n << 63n), (1n << 63n) - 1n],
  UTINYINT: [0n, (1n << 8n) - 1n],
  USMALLINT: [0n, (1n << 16n) - 1n],
  UINTEGER: [0n, (1n << 32n) - 1n],
  UBIGINT: [0n, (1n << 64n) - 1n],
}

export function sameType(one: ColumnType, other: ColumnType): boolean {
  // A DECIMAL in binary carries its own scale: DuckDB rescales it.
  return one.kind === other.kind && one.kind !== 'DECIMAL' && one.kind !== 'VARCHAR'
}

/** The value that text means beyond doubt, as DuckDB would cast it; undefined where that is for DuckDB to decide. */
export function cellFromText(type: ColumnType, sqlType: string, text: string): Cell | undefined {
  const range = ranges[type.kind]
  if (range !== undefined) {
    if (!/^-?\d{1,20}$/.test(text)) return undefined
    const value = BigInt(text)
    if (value < range[0] || value > range[1]) return undefined
    return type.kind === 'BIGINT' || type.kind === 'UBIGINT' ? value : Number(value)
  }
  switch (type.kind) {
    case 'BOOLEAN':
      return text === 't' || text === 'true' ? true : text === 'f' || text === 'false' ? false : undefined
    case 'DOUBLE':
      return /^-?\d{1,17}(\.\d{1,17})?(e[+-]?\d{1,2})?$/.test(text) ? Number(text) : undefined
    case 'DECIMAL':
      return decimal(type.width, type.scale, text)
    case 'VARCHAR':
      // JSON and other aliases have checks of their own; a zero byte is for DuckDB to refuse.
      return sqlType === 'VARCHAR' && !text.includes('\0') ? text : undefined
    case 'UUID':
      return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text) ? text : undefined
    case 'DATE': {
      const micros = /^\d{4}-\d\d-\d\d$/.test(text) ? instant(`${text}T00:00:00`, '', 0) : undefined
      return micros === undefined ? undefined : Number(micros / 86_400_000_000n)
    }
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ': {
      const match = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d(?::?\d\d)?)?$/.exec(text)
      if (match === null) return undefined
      const [, date, time, fraction = '', zone] = match
      // Without a zone a TIMESTAMPTZ depends on the session; with one a TIMESTAMP is converted: both are DuckDB's to decide.
      if ((type.kind === 'TIMESTAMPTZ') !== (zone !== undefined)) return undefined
      return instant(`${date}T${time}`, fraction, offsetMinutes(zone))
    }
    default:
      return undefined
  }
}

/** Unscaled value of a decimal number that fits without rounding. */
function decimal(width: number, scale: number, text: string): bigint | undefined {
  const match = /^(-?)(\d{1,38})(?:\.(\d{1,38}))?$/.exec(text)
  if (match === null) return undefined
  const [, sign, whole = '', fraction = ''] = match
  if (fraction.length > scale || whole.replace(/^0+/, '').length > width - scale) return undefined
  const value = BigInt(whole + fraction.padEnd(scale, '0'))
  return sign === '-' ? -value : value
}

/** Microseconds since 1970 of a UTC date and time that exists, from the year 1000 on. */
function instant(iso: string, fraction: string, minutesEast: number): bigint | undefined {
  const millis = Date.parse(`${iso}Z`)
  // Date.parse rolls 30 February over; DuckDB refuses it.
  if (Number.isNaN(millis) || millis < -30_610_224_000_000 || new Date(millis).toISOString().slice(0, 19) !== iso) return undefined
  return BigInt(millis) * 1000n + BigInt(fraction.padEnd(6, '0') || 0) - BigInt(minutesEast) * 60_000_000n
}

function offsetMinutes(zone: string | undefined): number {
  if (zone === undefined || zone === 'Z') return 0
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(3).replace(':', '') || 0)
  return zone.startsWith('-') ? -minutes : minutes
}
