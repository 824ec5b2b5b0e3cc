/**
 * DuckDB's types as Postgres clients know them: OIDs of pg_type, which are fixed in every Postgres.
 * What Postgres has no type for is announced as the next wider one (HUGEINT as numeric) or as json or text.
 */

import type { ColumnType, ScalarKind } from '../../journal/types.ts'

export const Oid = {
  bool: 16,
  bytea: 17,
  name: 19,
  int8: 20,
  int2: 21,
  int4: 23,
  text: 25,
  oid: 26,
  json: 114,
  float4: 700,
  float8: 701,
  unknown: 705,
  bpchar: 1042,
  varchar: 1043,
  date: 1082,
  time: 1083,
  timestamp: 1114,
  timestamptz: 1184,
  interval: 1186,
  timetz: 1266,
  varbit: 1562,
  numeric: 1700,
  uuid: 2950,
  jsonb: 3802,
} as const

const scalarOids: Record<ScalarKind, number> = {
  BOOLEAN: Oid.bool,
  TINYINT: Oid.int2,
  SMALLINT: Oid.int2,
  INTEGER: Oid.int4,
  BIGINT: Oid.int8,
  HUGEINT: Oid.numeric,
  UTINYINT: Oid.int2,
  USMALLINT: Oid.int4,
  UINTEGER: Oid.int8,
  UBIGINT: Oid.numeric,
  UHUGEINT: Oid.numeric,
  BIGNUM: Oid.numeric,
  FLOAT: Oid.float4,
  DOUBLE: Oid.float8,
  VARCHAR: Oid.text,
  BLOB: Oid.bytea,
  BIT: Oid.varbit,
  UUID: Oid.uuid,
  DATE: Oid.date,
  TIME: Oid.time,
  TIME_NS: Oid.time,
  TIMETZ: Oid.timetz,
  TIMESTAMP: Oid.timestamp,
  TIMESTAMP_S: Oid.timestamp,
  TIMESTAMP_MS: Oid.timestamp,
  TIMESTAMP_NS: Oid.timestamp,
  TIMESTAMPTZ: Oid.timestamptz,
  INTERVAL: Oid.interval,
  SQLNULL: Oid.text,
}

/** Element OID to array OID. */
const arrayOids = new Map<number, number>([
  [Oid.bool, 1000],
  [Oid.bytea, 1001],
  [Oid.int2, 1005],
  [Oid.int4, 1007],
  [Oid.text, 1009],
  [Oid.int8, 1016],
  [Oid.float4, 1021],
  [Oid.float8, 1022],
  [Oid.timestamp, 1115],
  [Oid.date, 1182],
  [Oid.time, 1183],
  [Oid.timestamptz, 1185],
  [Oid.interval, 1187],
  [Oid.numeric, 1231],
  [Oid.timetz, 1270],
  [Oid.varbit, 1563],
  [Oid.uuid, 2951],
])

const elementOids = new Map<number, number>([...[...arrayOids].map(([element, array]) => [array, element] as const), [1015, Oid.varchar]])

/** pg_type.typlen; -1 (not listed): variable. */
const sizes = new Map<number, number>([
  [Oid.bool, 1],
  [Oid.int2, 2],
  [Oid.int4, 4],
  [Oid.int8, 8],
  [Oid.float4, 4],
  [Oid.float8, 8],
  [Oid.date, 4],
  [Oid.time, 8],
  [Oid.timetz, 12],
  [Oid.timestamp, 8],
  [Oid.timestamptz, 8],
  [Oid.interval, 16],
  [Oid.uuid, 16],
])

/** What a declared parameter OID means to the engine. */
const typesByOid = new Map<number, ColumnType>([
  [Oid.bool, { kind: 'BOOLEAN' }],
  [Oid.int2, { kind: 'SMALLINT' }],
  [Oid.int4, { kind: 'INTEGER' }],
  [Oid.int8, { kind: 'BIGINT' }],
  [Oid.oid, { kind: 'UINTEGER' }],
  [Oid.float4, { kind: 'FLOAT' }],
  [Oid.float8, { kind: 'DOUBLE' }],
  [Oid.bytea, { kind: 'BLOB' }],
  [Oid.text, { kind: 'VARCHAR' }],
  [Oid.varchar, { kind: 'VARCHAR' }],
  [Oid.bpchar, { kind: 'VARCHAR' }],
  [Oid.name, { kind: 'VARCHAR' }],
  [Oid.json, { kind: 'VARCHAR' }],
  [Oid.jsonb, { kind: 'VARCHAR' }],
  [Oid.date, { kind: 'DATE' }],
  [Oid.time, { kind: 'TIME' }],
  [Oid.timetz, { kind: 'TIMETZ' }],
  [Oid.timestamp, { kind: 'TIMESTAMP' }],
  [Oid.timestamptz, { kind: 'TIMESTAMPTZ' }],
  [Oid.interval, { kind: 'INTERVAL' }],
  [Oid.varbit, { kind: 'BIT' }],
  [Oid.uuid, { kind: 'UUID' }],
])

const integers = new Set<ColumnType['kind']>([
  ...(['TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'HUGEINT'] as const),
  ...(['UTINYINT', 'USMALLINT', 'UINTEGER', 'UBIGINT', 'UHUGEINT'] as const),
])

export function isInteger({ kind }: ColumnType): boolean {
  return integers.has(kind)
}

/** Whether the type is sent as JSON text: STRUCT, MAP, UNION and lists of them. */
export function isJson(type: ColumnType): boolean {
  if (type.kind === 'LIST' || type.kind === 'ARRAY') return isJson(type.child)
  return type.kind === 'STRUCT' || type.kind === 'MAP' || type.kind === 'UNION'
}

/** The innermost element's type of a list of lists; a type that is none is its own. */
export function elementOf(type: ColumnType): ColumnType {
  return type.kind === 'LIST' || type.kind === 'ARRAY' ? elementOf(type.child) : type
}

/** The OID under which a DuckDB type is announced. A nested list has the OID of its innermost element's array, as in Postgres. */
export function oidOf(type: ColumnType): number {
  if (isJson(type)) return Oid.json
  switch (type.kind) {
    case 'LIST':
    case 'ARRAY':
      return arrayOids.get(oidOf(elementOf(type))) ?? Oid.text
    case 'DECIMAL':
      return Oid.numeric
    case 'ENUM':
      return Oid.text
    default:
      return scalarOids[type.kind as ScalarKind]
  }
}

/** The type that a client means by a parameter OID; null: none declared (0, unknown), or one whose values say more than the OID (numeric, arrays). */
export function typeOf(oid: number): ColumnType | null {
  const element = elementOids.get(oid)
  if (element === undefined) return typesByOid.get(oid) ?? null
  return { kind: 'LIST', child: typesByOid.get(element) ?? { kind: 'VARCHAR' } }
}

/** The OID of the array type of an element's; 0: there is none. */
export function arrayOidOf(oid: number): number {
  return arrayOids.get(oid) ?? 0
}

interface CatalogType {
  readonly oid: number
  readonly name: string
  readonly size: number
  readonly category: string
  readonly element: number
  readonly array: number
}

const categories: Readonly<Record<string, string>> = {
  ...{ bool: 'B', bytea: 'U', json: 'U', jsonb: 'U', uuid: 'U', varbit: 'V', interval: 'T', unknown: 'X' },
  ...{ date: 'D', time: 'D', timetz: 'D', timestamp: 'D', timestamptz: 'D', text: 'S', varchar: 'S', bpchar: 'S', name: 'S' },
}

/** The rows of pg_type: what the wire knows, and the arrays of it. */
export function catalogTypes(): CatalogType[] {
  return Object.entries(Oid).flatMap(([name, oid]) => {
    const array = arrayOidOf(oid)
    const type = { oid, name, size: sizeOf(oid), category: categories[name] ?? 'N', element: 0, array }
    return array === 0 ? [type] : [type, { oid: array, name: `_${name}`, size: -1, category: 'A', element: oid, array: 0 }]
  })
}

/** pg_type.typlen of an OID. */
export function sizeOf(oid: number): number {
  return sizes.get(oid) ?? -1
}

/** pg_attribute.atttypmod: numeric's precision and scale, else -1. */
export function modifierOf(type: ColumnType): number {
  return type.kind === 'DECIMAL' ? ((type.width << 16) | type.scale) + 4 : -1
}

/** Name for an error message: DuckDB's spelling. */
export function typeName(type: ColumnType): string {
  if (type.kind === 'LIST') return `${typeName(type.child)}[]`
  if (type.kind === 'ARRAY') return `${typeName(type.child)}[${type.size}]`
  if (type.kind === 'DECIMAL') return `DECIMAL(${type.width},${type.scale})`
  return type.kind
}
