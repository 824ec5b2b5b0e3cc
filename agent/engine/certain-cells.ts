/** Values whose meaning is beyond doubt: what DuckDB's own cast into a column would make of them is known here. */

import { dateExists, daysOf } from '../calendar.ts'
import type { Cell, Column, ColumnType } from '../journal/types.ts'
import type { Parameter } from './pgwire/backend.ts'

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

/** Whether a whole number is one of its type; values of other types are. */
export function isInRange({ kind }: ColumnType, cell: Cell): boolean {
  const range = ranges[kind]
  if (range === undefined || cell === null) return true
  const value = BigInt(cell as number | bigint)
  return value >= range[0] && value <= range[1]
}

function sameType(one: ColumnType, other: ColumnType): boolean {
  // A DECIMAL in binary carries its own scale: DuckDB rescales it.
  return one.kind === other.kind && one.kind !== 'DECIMAL' && one.kind !== 'VARCHAR'
}

/** The value that a bound parameter has beyond doubt in a column, as DuckDB would cast it; undefined where that is for DuckDB to decide, or none was bound. */
export function cellOf({ type, sqlType }: Column, parameter: Parameter | undefined): Cell | undefined {
  if (parameter === undefined || parameter === null) return parameter
  if (typeof parameter === 'string') return cellFromText(type, sqlType, parameter)
  return sameType(type, parameter.type) ? parameter.cell : undefined
}

/** The value that text means beyond doubt, as DuckDB would cast it; undefined where that is for DuckDB to decide. */
export function cellFromText(type: ColumnType, sqlType: string, text: string): Cell | undefined {
  if (ranges[type.kind] !== undefined) {
    if (!/^-?\d{1,20}$/.test(text)) return undefined
    const value = BigInt(text)
    if (!isInRange(type, value)) return undefined
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
      const micros = /^\d{4}-\d\d-\d\d$/.test(text) ? instant(text, '00:00:00', '', 0) : undefined
      return micros === undefined ? undefined : Number(micros / 86_400_000_000n)
    }
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ': {
      const match = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d(?::?\d\d)?)?$/.exec(text)
      if (match === null) return undefined
      const [, date, time, fraction = '', zone] = match
      // Without a zone a TIMESTAMPTZ depends on the session; with one a TIMESTAMP is converted: both are DuckDB's to decide.
      if ((type.kind === 'TIMESTAMPTZ') !== (zone !== undefined)) return undefined
      return instant(date as string, time as string, fraction, offsetMinutes(zone))
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

/** Microseconds since 1970 of a UTC date (YYYY-MM-DD) and time (HH:MM:SS) that exist, from the year 1000 on. */
function instant(date: string, time: string, fraction: string, minutesEast: number): bigint | undefined {
  const [year, month, day] = [number(date, 0, 4), number(date, 5, 7), number(date, 8, 10)]
  const [hour, minute, second] = [number(time, 0, 2), number(time, 3, 5), number(time, 6, 8)]
  if (year < 1000 || !dateExists(year, month, day) || hour > 23 || minute > 59 || second > 59) return undefined
  const seconds = daysOf(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - minutesEast * 60
  const micros = seconds * 1_000_000 + Number(fraction.padEnd(6, '0'))
  return Number.isSafeInteger(micros) ? BigInt(micros) : BigInt(seconds) * 1_000_000n + BigInt(fraction.padEnd(6, '0'))
}

/** The number of the digits from `start` to `end`: a text of its own for each costs more than all the rest. */
function number(text: string, start: number, end: number): number {
  let value = 0
  for (let i = start; i < end; i++) value = value * 10 + text.charCodeAt(i) - 48
  return value
}

function offsetMinutes(zone: string | undefined): number {
  if (zone === undefined || zone === 'Z') return 0
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(3).replace(':', '') || 0)
  return zone.startsWith('-') ? -minutes : minutes
}
