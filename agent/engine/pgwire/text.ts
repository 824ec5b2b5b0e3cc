/** Values as text, the way Postgres prints them. One function per type is built once per result, not chosen per value. */

import type { Cell, ColumnType, Interval, MapEntries, UnionCell } from '../../journal/types.ts'
import { dateText, intervalText, timeNanosText, timestampNanosText, timestampText, timeText, timeTzText } from './temporal.ts'
import { isJson } from './types.ts'

/** Never called with null: the caller knows how its container spells that. */
export type Printer = (cell: Cell) => string

/** How values of a type print. */
export function printerOf(type: ColumnType): Printer {
  if (isJson(type)) return jsonPrinterOf(type)
  switch (type.kind) {
    case 'BOOLEAN':
      return (cell) => (cell ? 't' : 'f')
    case 'FLOAT':
      return (cell) => floatText(cell as number)
    case 'DOUBLE':
      return (cell) => doubleText(cell as number)
    case 'DECIMAL':
      return type.scale === 0 ? String : (cell) => decimalText(cell as bigint, type.scale)
    case 'BLOB':
      return (cell) => `\\x${asBuffer(cell as Uint8Array).toString('hex')}`
    case 'DATE':
      return (cell) => dateText(cell as number)
    case 'TIME':
      return (cell) => timeText(cell as bigint)
    case 'TIME_NS':
      return (cell) => timeNanosText(cell as bigint)
    case 'TIMETZ':
      return (cell) => timeTzText(cell as bigint)
    case 'TIMESTAMP':
      return (cell) => timestampText(cell as bigint)
    case 'TIMESTAMPTZ':
      return (cell) => timestampText(cell as bigint, '+00')
    case 'TIMESTAMP_S':
      return (cell) => timestampText(scaled(cell as bigint, 1_000_000n))
    case 'TIMESTAMP_MS':
      return (cell) => timestampText(scaled(cell as bigint, 1000n))
    case 'TIMESTAMP_NS':
      return (cell) => timestampNanosText(cell as bigint)
    case 'INTERVAL':
      return (cell) => intervalText(cell as Interval)
    case 'LIST':
    case 'ARRAY':
      return arrayPrinterOf(type.child)
    default:
      return String
  }
}

const infinite = 9223372036854775807n

/** To a finer unit; infinities stay. */
export function scaled(value: bigint, by: bigint): bigint {
  return value === infinite || value === -infinite ? value : value * by
}

export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** An unscaled integer with its point: (-5n, 2) is '-0.05'. */
export function decimalText(unscaled: bigint, scale: number): string {
  const negative = unscaled < 0n
  const digits = (negative ? -unscaled : unscaled).toString().padStart(scale + 1, '0')
  const text = scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`
  return negative ? `-${text}` : text
}

/** float8out: the shortest text that reads back the same; an exponent from 1e15 and below 1e-4. */
function doubleText(value: number): string {
  const magnitude = Math.abs(value)
  return magnitude >= 1e-4 && magnitude < 1e15 ? String(value) : printFloat(value, String(value), 15)
}

/** float4out: the shortest text that reads back the same float4; an exponent from 1e6. */
function floatText(value: number): string {
  let shortest = String(value)
  if (Number.isFinite(value)) {
    // Six digits always suffice to tell normal floats of six digits apart; subnormal ones have fewer.
    for (let digits = Math.abs(value) < 1.18e-38 ? 1 : 6; digits < 10; digits++) {
      const candidate = Number(value.toPrecision(digits))
      if (Math.fround(candidate) === Math.fround(value)) {
        shortest = String(candidate)
        break
      }
    }
  }
  return printFloat(value, shortest, 6)
}

function printFloat(value: number, shortest: string, digits: number): string {
  if (!Number.isFinite(value)) return shortest // NaN, Infinity, -Infinity: the same words in both
  if (value === 0) return Object.is(value, -0) ? '-0' : '0'
  const magnitude = Math.abs(Number(shortest))
  if (magnitude >= 1e-4 && magnitude < 10 ** digits) return shortest
  const [mantissa, exponent] = Number(shortest).toExponential().split('e') as [string, string]
  return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`
}

/** array_out: '{1,NULL,"a b"}'; nested lists as '{{1},{2,3}}'. */
function arrayPrinterOf(child: ColumnType): Printer {
  const print = printerOf(child)
  const nested = child.kind === 'LIST' || child.kind === 'ARRAY'
  const element = (cell: Cell) => (cell === null ? 'NULL' : nested ? print(cell) : quoted(print(cell)))
  return (cell) => `{${(cell as Cell[]).map(element).join(',')}}`
}

function quoted(text: string): string {
  return /^$|^null$|[{}",\\\s]/i.test(text) ? `"${text.replace(/["\\]/g, '\\$&')}"` : text
}

/** As DuckDB's to_json, but always valid JSON: NaN and infinities are strings. */
function jsonPrinterOf(type: ColumnType): Printer {
  switch (type.kind) {
    case 'LIST':
    case 'ARRAY': {
      const print = orNull(jsonPrinterOf(type.child))
      return (cell) => `[${(cell as Cell[]).map(print).join(',')}]`
    }
    case 'STRUCT': {
      const fields = type.fields.map(
        ([name, field], i) => [JSON.stringify(name === '' ? `f${i + 1}` : name), orNull(jsonPrinterOf(field))] as const,
      )
      return (cell) => `{${fields.map(([name, print], i) => `${name}:${print((cell as Cell[])[i] ?? null)}`).join(',')}}`
    }
    case 'MAP': {
      const key = printerOf(type.key)
      const value = orNull(jsonPrinterOf(type.value))
      return (cell) =>
        `{${(cell as MapEntries).entries.map(([k, v]) => `${JSON.stringify(k === null ? 'NULL' : key(k))}:${value(v)}`).join(',')}}`
    }
    case 'UNION': {
      const members = new Map(type.members.map(([tag, member]) => [tag, orNull(jsonPrinterOf(member))]))
      return (cell) => {
        const { tag, value } = cell as UnionCell
        return `{${JSON.stringify(tag)}:${members.get(tag)?.(value) ?? 'null'}}`
      }
    }
    case 'BOOLEAN':
      return (cell) => (cell ? 'true' : 'false')
    case 'FLOAT':
    case 'DOUBLE':
    case 'DECIMAL': {
      const print = printerOf(type)
      return (cell) => (typeof cell === 'number' && !Number.isFinite(cell) ? `"${cell}"` : print(cell))
    }
    case 'TINYINT':
    case 'SMALLINT':
    case 'INTEGER':
    case 'BIGINT':
    case 'HUGEINT':
    case 'UTINYINT':
    case 'USMALLINT':
    case 'UINTEGER':
    case 'UBIGINT':
    case 'UHUGEINT':
    case 'BIGNUM':
      return String
    default: {
      const print = printerOf(type)
      return (cell) => JSON.stringify(print(cell))
    }
  }
}

function orNull(print: Printer): Printer {
  return (cell) => (cell === null ? 'null' : print(cell))
}
