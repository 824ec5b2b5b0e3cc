/**
 * DuckDB's types in ClickHouse, and cells as JSONEachRow text: nothing may be lost or rounded on the way.
 *
 *   BOOLEAN Bool (UInt8 on old servers) · TINYINT … BIGINT, U… the same Int/UInt · HUGEINT, UHUGEINT Int128, UInt128 · FLOAT, DOUBLE Float32/64 ·
 *   DECIMAL(w,s) Decimal(w, s) · UUID UUID · DATE Date32 · TIMESTAMP, TIMESTAMPTZ DateTime64(6), _S (0), _MS (3), _NS (9), all UTC · VARCHAR, ENUM String ·
 *   BLOB String (the bytes) · BIGNUM, BIT, TIME, TIME_NS, TIMETZ, INTERVAL, UNION String (text of cell-text.ts)
 *   LIST and ARRAY Array(Nullable(T)), MAP Map(K, Nullable(V)), STRUCT Tuple(…), where the column is NOT NULL and the contents are scalars;
 *   else String (JSON), since ClickHouse has no NULL for these and would make it an empty one.
 *
 * A type that the server does not know becomes String too: on 18.16 dates and timestamps (its Date begins in 1970, its DateTime has no fractions), Int128,
 * and decimals of more than 18 digits (18.16 has them, but prints garbage over its own answer).
 * A date or time outside the range of ClickHouse's type is refused for its row (UnfitValue), not bent into range as the server would.
 * A column of an existing table that is String gets text whatever DuckDB's type is.
 */

import { dateDays } from '../../agent/calendar.ts'
import { cellText, decimalText, timestampDigits } from '../../agent/cell-text.ts'
import type { Cell, ColumnType, MapEntries } from '../../agent/journal/types.ts'

/** A value that the target's type cannot hold without change. */
export class UnfitValue extends Error {}

/** The type of a new column. `known`: whether the server has a type of that name. */
export function targetType(type: ColumnType, nullable: boolean, known: (name: string) => boolean): string {
  if (!nullable) {
    const nested = nestedType(type, known)
    if (nested !== undefined) return nested
  }
  const base = scalarType(type, known)
  return nullable ? `Nullable(${base})` : base
}

function scalarType(type: ColumnType, known: (name: string) => boolean): string {
  const orString = (name: string, written = name) => (known(name) ? written : 'String')
  switch (type.kind) {
    case 'BOOLEAN':
      return known('Bool') ? 'Bool' : 'UInt8'
    case 'TINYINT':
      return 'Int8'
    case 'SMALLINT':
      return 'Int16'
    case 'INTEGER':
      return 'Int32'
    case 'BIGINT':
      return 'Int64'
    case 'HUGEINT':
      return orString('Int128')
    case 'UTINYINT':
      return 'UInt8'
    case 'USMALLINT':
      return 'UInt16'
    case 'UINTEGER':
      return 'UInt32'
    case 'UBIGINT':
      return 'UInt64'
    case 'UHUGEINT':
      return orString('UInt128')
    case 'FLOAT':
      return 'Float32'
    case 'DOUBLE':
      return 'Float64'
    case 'DECIMAL':
      return type.width <= 18 || known('Int128') ? `Decimal(${type.width}, ${type.scale})` : 'String'
    case 'UUID':
      return 'UUID'
    case 'DATE':
      return orString('Date32')
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ':
    case 'TIMESTAMP_S':
    case 'TIMESTAMP_MS':
    case 'TIMESTAMP_NS':
      return orString('DateTime64', `DateTime64(${timestampDigits[type.kind]}, 'UTC')`)
    default:
      return 'String'
  }
}

function isScalar(type: ColumnType): boolean {
  return !['LIST', 'ARRAY', 'STRUCT', 'MAP', 'UNION'].includes(type.kind)
}

function nestedType(type: ColumnType, known: (name: string) => boolean): string | undefined {
  const inner = (child: ColumnType) => `Nullable(${scalarType(child, known)})`
  switch (type.kind) {
    case 'LIST':
    case 'ARRAY':
      return isScalar(type.child) ? `Array(${inner(type.child)})` : undefined
    case 'MAP':
      return known('Map') && mapKeys.has(type.key.kind) && isScalar(type.value)
        ? `Map(${scalarType(type.key, known)}, ${inner(type.value)})`
        : undefined
    case 'STRUCT': {
      const names = type.fields.map(([name]) => name)
      const plain =
        known('Map') &&
        names.every((name) => name !== '') &&
        new Set(names).size === names.length &&
        type.fields.every(([, field]) => isScalar(field))
      return plain ? `Tuple(${type.fields.map(([name, field]) => `${identifier(name)} ${inner(field)}`).join(', ')})` : undefined
    }
    default:
      return undefined
  }
}

const mapKeys = new Set<string>([
  'VARCHAR',
  'ENUM',
  'TINYINT',
  'SMALLINT',
  'INTEGER',
  'BIGINT',
  'UTINYINT',
  'USMALLINT',
  'UINTEGER',
  'UBIGINT',
])

/** A name as ClickHouse reads it. */
export function identifier(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``
}

/** A string literal. */
export function literal(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

/** `Nullable(X)` without its wrapper, `LowCardinality(X)` too. */
export function baseType(type: string): string {
  const match = /^(?:Nullable|LowCardinality)\((.*)\)$/s.exec(type)
  return match === null ? type : baseType(match[1]!)
}

export function isNullableType(type: string): boolean {
  return /^(?:LowCardinality\()?Nullable\(/.test(type)
}

/** The JSON text of a cell. The text is in latin1: each character is one byte of the body, so that BLOBs travel as they are. Throws UnfitValue. */
export type Encoder = (cell: Cell) => string

/** Encodes cells of a DuckDB type for a column whose type in ClickHouse is `actual`. */
export function encoderFor(type: ColumnType, actual: string): Encoder {
  const encode = plainEncoder(type, baseType(actual))
  return (cell) => (cell === null ? 'null' : encode(cell))
}

function plainEncoder(type: ColumnType, actual: string): (cell: Exclude<Cell, null>) => string {
  if (actual === 'String' || actual.startsWith('FixedString')) {
    if (type.kind === 'BLOB') return (cell) => JSON.stringify(Buffer.from(cell as Uint8Array).toString('latin1'))
    return (cell) => jsonBytes(cellText(cell, type))
  }
  switch (type.kind) {
    case 'BOOLEAN':
      return actual === 'Bool' ? String : (cell) => (cell ? '1' : '0')
    case 'FLOAT':
    case 'DOUBLE':
      return (cell) => floatJson(cell as number)
    case 'DECIMAL':
      return (cell) => decimalText(cell as bigint, type.scale)
    case 'TINYINT':
    case 'SMALLINT':
    case 'INTEGER':
    case 'UTINYINT':
    case 'USMALLINT':
    case 'UINTEGER':
      return String
    case 'DATE':
      return (cell) => dateJson(cell as number, type)
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ':
    case 'TIMESTAMP_S':
    case 'TIMESTAMP_MS':
    case 'TIMESTAMP_NS':
      return timestampEncoder(type)
    case 'LIST':
    case 'ARRAY': {
      const item = encoderFor(type.child, innerType(actual))
      return (cell) => `[${(cell as Cell[]).map(item).join(',')}]`
    }
    case 'MAP': {
      const value = encoderFor(type.value, innerType(actual, ','))
      const key = (cell: Cell) => jsonBytes(cellText(cell as Exclude<Cell, null>, type.key))
      return (cell) => `{${(cell as MapEntries).entries.map(([k, v]) => `${key(k)}:${value(v)}`).join(',')}}`
    }
    case 'STRUCT': {
      // The members' types follow from ours: a Tuple column is one that the shipper made.
      const fields = type.fields.map(([name, field]) => ({
        name: jsonBytes(name),
        encode: encoderFor(
          field,
          scalarType(field, () => true),
        ),
      }))
      return (cell) => `{${fields.map(({ name, encode }, i) => `${name}:${encode((cell as Cell[])[i] ?? null)}`).join(',')}}`
    }
    default:
      return (cell) => jsonBytes(cellText(cell, type))
  }
}

/** What an Array holds, or what a Map holds after its key. */
function innerType(actual: string, after?: string): string {
  const inside = /^\w+\((.*)\)$/s.exec(actual)?.[1] ?? 'String'
  return after === undefined ? inside : inside.slice(inside.indexOf(after) + 1).trim()
}

/** JSON text whose characters are the UTF-8 bytes. */
export function jsonBytes(text: string): string {
  const json = JSON.stringify(text)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is what needs no conversion
  return /^[\x00-\x7f]*$/.test(json) ? json : Buffer.from(json, 'utf8').toString('latin1')
}

/** 18.16 reads NaN and infinities of a Nullable column in quotes only. */
function floatJson(value: number): string {
  if (Number.isNaN(value)) return '"nan"'
  if (!Number.isFinite(value)) return value > 0 ? '"inf"' : '"-inf"'
  return Object.is(value, -0) ? '-0' : String(value)
}

/** Date32 and DateTime64: 1900-01-01 to 2299-12-31 (documented); with nanoseconds, 64 bits end on 2262-04-11. */
const firstDay = dateDays('1900-01-01')
const lastDay = dateDays('2299-12-31')

function dateJson(days: number, type: ColumnType): string {
  const text = cellText(days, type)
  if (days < firstDay || days > lastDay) throw new UnfitValue(`${text} is outside ClickHouse's Date32 (1900-01-01 to 2299-12-31)`)
  return `"${text}"`
}

function timestampEncoder(type: ColumnType): (cell: Exclude<Cell, null>) => string {
  const perDay = 86_400n * 10n ** BigInt(timestampDigits[type.kind]!)
  const low = BigInt(firstDay) * perDay
  const high = BigInt(lastDay + 1) * perDay
  const infinite = 9_223_372_036_854_775_807n
  return (cell) => {
    const value = cell as bigint
    const text = cellText(value, type).replace(/\+00$/, '')
    if (value < low || value >= high || value === infinite)
      throw new UnfitValue(`${text} is outside ClickHouse's DateTime64 (1900-01-01 to 2299-12-31)`)
    return `"${text}"`
  }
}
