/** Texts whose meaning is beyond doubt: what DuckDB's own cast into a column would make of them is known here. */

import { dateExists, daysOf } from '../calendar.ts'
import { type Cell, type ColumnType, uuidCell } from '../journal/types.ts'
import { isWhole, nearestFloat, wholeCell } from './certain-numbers.ts'

type Enum = Extract<ColumnType, { kind: 'ENUM' }>

/** The value that text means beyond doubt, as DuckDB would cast it; undefined where that is for DuckDB to decide. */
export function cellFromText(type: ColumnType, sqlType: string, text: string): Cell | undefined {
  if (isWhole(type.kind)) return /^-?\d{1,40}$/.test(text) ? wholeCell(type, BigInt(text)) : undefined
  switch (type.kind) {
    case 'BOOLEAN':
      return text === 't' || text === 'true' ? true : text === 'f' || text === 'false' ? false : undefined
    case 'DOUBLE':
      return double(text)
    case 'FLOAT': {
      const value = double(text)
      return value === undefined ? undefined : nearestFloat(value)
    }
    case 'DECIMAL':
      return decimal(type, text)
    case 'VARCHAR':
      // A zero byte is for DuckDB to refuse; aliases have checks of their own.
      if (text.includes('\0')) return undefined
      return sqlType === 'VARCHAR' || (sqlType === 'JSON' && isJsonText(text)) ? text : undefined
    case 'ENUM':
      return labelsOf(type).has(text) ? text : undefined
    case 'UUID':
      return uuid(text)
    case 'DATE': {
      const micros = /^\d{4}-\d\d-\d\d$/.test(text) ? instant(text, '00:00:00', '', 0) : undefined
      return micros === undefined ? undefined : Number(micros / 86_400_000_000n)
    }
    case 'TIME': {
      const match = /^(\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?$/.exec(text)
      return match === null ? undefined : instant('1970-01-01', match[1] as string, match[2] ?? '', 0)
    }
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ': {
      const match = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d(?::?\d\d)?)?$/.exec(text)
      if (match === null) return undefined
      const [, date, time, fraction = '', zone] = match
      // Without a zone a TIMESTAMPTZ depends on the session; a TIMESTAMP takes no notice of one.
      const isZoned = type.kind === 'TIMESTAMPTZ'
      if (isZoned && zone === undefined) return undefined
      return instant(date as string, time as string, fraction, isZoned ? offsetMinutes(zone) : 0)
    }
    default:
      return undefined
  }
}

function double(text: string): number | undefined {
  return /^-?\d{1,17}(\.\d{1,17})?(e[+-]?\d{1,2})?$/.test(text) ? Number(text) : undefined
}

/** Unscaled value of a decimal number that fits without rounding. */
function decimal({ width, scale }: { width: number; scale: number }, text: string): bigint | undefined {
  const match = /^(-?)(\d{1,38})(?:\.(\d{1,38}))?$/.exec(text)
  if (match === null) return undefined
  const [, sign, whole = '', fraction = ''] = match
  if (fraction.length > scale || (whole.length > width - scale && whole.replace(/^0+/, '').length > width - scale)) return undefined
  const value = BigInt(whole + fraction.padEnd(scale, '0'))
  return sign === '-' ? -value : value
}

/** What JSON allows, and no reader sees otherwise: escaped surrogates may be halves, and numbers too large. */
function isJsonText(text: string): boolean {
  if (/\\u|\d[eE]|\d{300}/.test(text)) return false
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

const labels = new WeakMap<Enum, ReadonlySet<string>>()

function labelsOf(type: Enum): ReadonlySet<string> {
  let known = labels.get(type)
  if (known === undefined) {
    known = new Set(type.values)
    labels.set(type, known)
  }
  return known
}

/** With its dashes, or without any, as some drivers print it. */
function uuid(text: string): string | undefined {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return text.toLowerCase()
  return /^[0-9a-f]{32}$/i.test(text) ? uuidCell(text.toLowerCase()) : undefined
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
