/**
 * One cell as text, and back: lossless for every type of the journal. Redis hashes, dead letters and ClickHouse columns that
 * have no better type hold this text. Scalars read as DuckDB prints them (and casts them back); nested values are JSON whose
 * leaves are null, booleans, small numbers, or strings of the scalar text. NULL has no text: callers mark it.
 */

import { dateDays, dateText, timestampText, timestampValue, timeText, timeValue } from './calendar.ts'
import type { Cell, ColumnType, Interval, MapEntries, ScalarKind, UnionCell } from './journal/types.ts'

const infiniteDate = 2_147_483_647
const infiniteTimestamp = 9_223_372_036_854_775_807n
/** TIMETZ keeps 57599 minus the offset in its low 24 bits, so that earlier instants compare smaller (DuckDB's dtime_tz_t). */
const timeZoneBase = 57_599

/** Decimal digits of a second that each timestamp type keeps. */
export const timestampDigits: Partial<Record<ScalarKind | string, number>> = {
  TIMESTAMP: 6,
  TIMESTAMPTZ: 6,
  TIMESTAMP_S: 0,
  TIMESTAMP_MS: 3,
  TIMESTAMP_NS: 9,
}

/** The text of a cell that is not NULL. Throws when the cell is not of the type. */
export function cellText(cell: Exclude<Cell, null>, type: ColumnType): string {
  switch (type.kind) {
    case 'LIST':
    case 'ARRAY':
    case 'STRUCT':
    case 'MAP':
    case 'UNION':
      return nestedJson(cell, type)
    case 'DECIMAL':
      return decimalText(cell as bigint, type.scale)
    case 'FLOAT':
    case 'DOUBLE':
      return Object.is(cell, -0) ? '-0' : String(cell)
    case 'BLOB':
      return Buffer.from(cell as Uint8Array).toString('hex')
    case 'DATE':
      return cell === infiniteDate ? 'infinity' : cell === -infiniteDate ? '-infinity' : dateText(cell as number)
    case 'TIME':
      return timeText(cell as bigint, 6)
    case 'TIME_NS':
      return timeText(cell as bigint, 9)
    case 'TIMETZ':
      return zonedTimeText(cell as bigint)
    case 'TIMESTAMP':
    case 'TIMESTAMP_S':
    case 'TIMESTAMP_MS':
    case 'TIMESTAMP_NS':
    case 'TIMESTAMPTZ': {
      if (cell === infiniteTimestamp) return 'infinity'
      if (cell === -infiniteTimestamp) return '-infinity'
      return timestampText(cell as bigint, timestampDigits[type.kind]!) + (type.kind === 'TIMESTAMPTZ' ? '+00' : '')
    }
    case 'INTERVAL': {
      const { months, days, micros } = cell as Interval
      return `${months} months ${days} days ${micros} microseconds`
    }
    default:
      return String(cell)
  }
}

/** The inverse of cellText. Throws on text that is not of the type. */
export function parseCell(text: string, type: ColumnType): Cell {
  switch (type.kind) {
    case 'LIST':
    case 'ARRAY':
    case 'STRUCT':
    case 'MAP':
    case 'UNION':
      return cellOfJson(JSON.parse(text), type)
    case 'SQLNULL':
      return null
    case 'BOOLEAN':
      if (text !== 'true' && text !== 'false') throw new Error(`not a boolean: ${text}`)
      return text === 'true'
    case 'TINYINT':
    case 'SMALLINT':
    case 'INTEGER':
    case 'UTINYINT':
    case 'USMALLINT':
    case 'UINTEGER':
      if (!/^-?\d+$/.test(text)) throw new Error(`not an integer: ${text}`)
      return Number(text)
    case 'BIGINT':
    case 'HUGEINT':
    case 'UBIGINT':
    case 'UHUGEINT':
    case 'BIGNUM':
      return BigInt(text)
    case 'FLOAT':
    case 'DOUBLE':
      if (Number.isNaN(Number(text)) && text !== 'NaN') throw new Error(`not a number: ${text}`)
      return Number(text)
    case 'DECIMAL':
      return decimalUnits(text, type.scale)
    case 'BLOB':
      return new Uint8Array(Buffer.from(text, 'hex'))
    case 'DATE':
      return text === 'infinity' ? infiniteDate : text === '-infinity' ? -infiniteDate : dateDays(text)
    case 'TIME':
      return timeValue(text, 6)
    case 'TIME_NS':
      return timeValue(text, 9)
    case 'TIMETZ':
      return zonedTimeValue(text)
    case 'TIMESTAMP':
    case 'TIMESTAMP_S':
    case 'TIMESTAMP_MS':
    case 'TIMESTAMP_NS':
    case 'TIMESTAMPTZ':
      if (text === 'infinity') return infiniteTimestamp
      if (text === '-infinity') return -infiniteTimestamp
      return timestampValue(type.kind === 'TIMESTAMPTZ' ? text.replace(/\+00$/, '') : text, timestampDigits[type.kind]!)
    case 'INTERVAL': {
      const match = /^(-?\d+) months (-?\d+) days (-?\d+) microseconds$/.exec(text)
      if (match === null) throw new Error(`not an interval: ${text}`)
      return { months: Number(match[1]), days: Number(match[2]), micros: BigInt(match[3]!) }
    }
    default:
      return text
  }
}

/** 1234n at scale 2 is `12.34`. */
export function decimalText(units: bigint, scale: number): string {
  if (scale === 0) return String(units)
  const digits = String(units < 0n ? -units : units).padStart(scale + 1, '0')
  return `${units < 0n ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`
}

function decimalUnits(text: string, scale: number): bigint {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text)
  if (match === null || (match[3] ?? '').length > scale) throw new Error(`not a decimal of scale ${scale}: ${text}`)
  const units = BigInt(match[2]! + (match[3] ?? '').padEnd(scale, '0'))
  return match[1] === '-' ? -units : units
}

function zonedTimeText(packed: bigint): string {
  const offset = timeZoneBase - Number(packed & 0xffffffn)
  return `${timeText(packed >> 24n, 6)}${offset < 0 ? '-' : '+'}${timeText(BigInt(Math.abs(offset)), 0)}`
}

function zonedTimeValue(text: string): bigint {
  const match = /^(.+)([+-])(\d\d:\d\d:\d\d)$/.exec(text)
  if (match === null) throw new Error(`not a time with time zone: ${text}`)
  const seconds = Number(timeValue(match[3]!, 0))
  return (timeValue(match[1]!, 6) << 24n) | BigInt(timeZoneBase - (match[2] === '-' ? -seconds : seconds))
}

/** Fields with names that are given, different and not empty make an object; others (`row(1, 2)`) an array. */
function isNamed(fields: readonly (readonly [string, ColumnType])[]): boolean {
  return fields.every(([name]) => name !== '') && new Set(fields.map(([name]) => name)).size === fields.length
}

/** A value inside a nested one as JSON text. */
export function nestedJson(cell: Cell, type: ColumnType): string {
  if (cell === null) return 'null'
  switch (type.kind) {
    case 'LIST':
    case 'ARRAY':
      return `[${(cell as Cell[]).map((item) => nestedJson(item, type.child)).join(',')}]`
    case 'STRUCT': {
      const values = type.fields.map(([, fieldType], i) => nestedJson((cell as Cell[])[i] ?? null, fieldType))
      return isNamed(type.fields)
        ? `{${type.fields.map(([name], i) => `${JSON.stringify(name)}:${values[i]}`).join(',')}}`
        : `[${values.join(',')}]`
    }
    case 'MAP':
      return `[${(cell as MapEntries).entries.map(([key, value]) => `[${nestedJson(key, type.key)},${nestedJson(value, type.value)}]`).join(',')}]`
    case 'UNION': {
      const { tag, value } = cell as UnionCell
      return `{"tag":${JSON.stringify(tag)},"value":${nestedJson(value, memberType(type, tag))}}`
    }
    case 'BOOLEAN':
    case 'TINYINT':
    case 'SMALLINT':
    case 'INTEGER':
    case 'UTINYINT':
    case 'USMALLINT':
    case 'UINTEGER':
      return String(cell)
    case 'FLOAT':
    case 'DOUBLE':
      return Number.isFinite(cell) ? cellText(cell, type) : JSON.stringify(String(cell))
    default:
      return JSON.stringify(cellText(cell, type))
  }
}

function cellOfJson(json: unknown, type: ColumnType): Cell {
  if (json === null) return null
  switch (type.kind) {
    case 'LIST':
    case 'ARRAY':
      return (json as unknown[]).map((item) => cellOfJson(item, type.child))
    case 'STRUCT':
      return type.fields.map(([name, fieldType], i) =>
        cellOfJson((isNamed(type.fields) ? (json as Record<string, unknown>)[name] : (json as unknown[])[i]) ?? null, fieldType),
      )
    case 'MAP':
      return {
        entries: (json as [unknown, unknown][]).map(([key, value]) => [cellOfJson(key, type.key), cellOfJson(value, type.value)] as const),
      }
    case 'UNION': {
      const { tag, value } = json as { tag: string; value: unknown }
      return { tag, value: cellOfJson(value, memberType(type, tag)) }
    }
    case 'FLOAT':
    case 'DOUBLE':
      return typeof json === 'number' ? json : parseCell(String(json), type) // String(-0) is '0'
    default:
      return parseCell(String(json), type)
  }
}

function memberType(union: ColumnType & { kind: 'UNION' }, tag: string): ColumnType {
  const member = union.members.find(([name]) => name === tag)
  if (member === undefined) throw new Error(`the union has no member ${tag}`)
  return member[1]
}
