/** Between DuckDB's types and values and those of the journal: ColumnType and Cell (agent/journal/types.ts). */

import * as api from '@duckdb/node-api'
import {
  DuckDBArrayType,
  DuckDBArrayValue,
  DuckDBBitValue,
  DuckDBBlobValue,
  DuckDBDateValue,
  DuckDBDecimalType,
  DuckDBDecimalValue,
  DuckDBEnumType,
  DuckDBIntervalValue,
  DuckDBListType,
  DuckDBListValue,
  DuckDBMapType,
  DuckDBMapValue,
  DuckDBStructType,
  DuckDBStructValue,
  DuckDBTimeNSValue,
  DuckDBTimestampMillisecondsValue,
  DuckDBTimestampNanosecondsValue,
  DuckDBTimestampSecondsValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
  DuckDBTimeTZValue,
  DuckDBTimeValue,
  type DuckDBType,
  DuckDBTypeId,
  DuckDBUnionType,
  DuckDBUnionValue,
  DuckDBUUIDValue,
  type DuckDBValue,
} from '@duckdb/node-api'
import type { Cell, ColumnType, Interval, MapEntries, ScalarKind, UnionCell } from '../journal/types.ts'

/** Rows that DuckDB takes and gives at a time. */
export const chunkRows = 2048

const scalarKinds = new Map<DuckDBTypeId, ScalarKind>([
  [DuckDBTypeId.BOOLEAN, 'BOOLEAN'],
  [DuckDBTypeId.TINYINT, 'TINYINT'],
  [DuckDBTypeId.SMALLINT, 'SMALLINT'],
  [DuckDBTypeId.INTEGER, 'INTEGER'],
  [DuckDBTypeId.BIGINT, 'BIGINT'],
  [DuckDBTypeId.UTINYINT, 'UTINYINT'],
  [DuckDBTypeId.USMALLINT, 'USMALLINT'],
  [DuckDBTypeId.UINTEGER, 'UINTEGER'],
  [DuckDBTypeId.UBIGINT, 'UBIGINT'],
  [DuckDBTypeId.FLOAT, 'FLOAT'],
  [DuckDBTypeId.DOUBLE, 'DOUBLE'],
  [DuckDBTypeId.TIMESTAMP, 'TIMESTAMP'],
  [DuckDBTypeId.DATE, 'DATE'],
  [DuckDBTypeId.TIME, 'TIME'],
  [DuckDBTypeId.INTERVAL, 'INTERVAL'],
  [DuckDBTypeId.HUGEINT, 'HUGEINT'],
  [DuckDBTypeId.UHUGEINT, 'UHUGEINT'],
  [DuckDBTypeId.VARCHAR, 'VARCHAR'],
  [DuckDBTypeId.BLOB, 'BLOB'],
  [DuckDBTypeId.TIMESTAMP_S, 'TIMESTAMP_S'],
  [DuckDBTypeId.TIMESTAMP_MS, 'TIMESTAMP_MS'],
  [DuckDBTypeId.TIMESTAMP_NS, 'TIMESTAMP_NS'],
  [DuckDBTypeId.UUID, 'UUID'],
  [DuckDBTypeId.BIT, 'BIT'],
  [DuckDBTypeId.TIME_TZ, 'TIMETZ'],
  [DuckDBTypeId.TIMESTAMP_TZ, 'TIMESTAMPTZ'],
  [DuckDBTypeId.BIGNUM, 'BIGNUM'],
  [DuckDBTypeId.SQLNULL, 'SQLNULL'],
  [DuckDBTypeId.TIME_NS, 'TIME_NS'],
])

/** DuckDB's type as a tree. Throws for types that the journal does not carry (VARIANT, GEOMETRY). */
export function columnType(type: DuckDBType): ColumnType {
  if (type instanceof DuckDBDecimalType) return { kind: 'DECIMAL', width: type.width, scale: type.scale }
  if (type instanceof DuckDBEnumType) return { kind: 'ENUM', values: type.values }
  if (type instanceof DuckDBListType) return { kind: 'LIST', child: columnType(type.valueType) }
  if (type instanceof DuckDBArrayType) return { kind: 'ARRAY', child: columnType(type.valueType), size: type.length }
  // The binding hands out a STRUCT as an object, which has no place for such a field.
  if (type instanceof DuckDBStructType && type.entryNames.includes('__proto__'))
    throw new Error('Not implemented Error: a STRUCT field cannot be named "__proto__" here')
  if (type instanceof DuckDBStructType)
    return { kind: 'STRUCT', fields: type.entryNames.map((name, i) => [name, columnType(type.entryTypes[i] as DuckDBType)]) }
  if (type instanceof DuckDBMapType) return { kind: 'MAP', key: columnType(type.keyType), value: columnType(type.valueType) }
  if (type instanceof DuckDBUnionType)
    return { kind: 'UNION', members: type.memberTags.map((name, i) => [name, columnType(type.memberTypes[i] as DuckDBType)]) }
  const kind = scalarKinds.get(type.typeId)
  if (kind === undefined) throw new Error(`Not implemented Error: the type ${String(type)} is not supported`)
  return { kind }
}

const scalarTypes: Record<ScalarKind, DuckDBType> = {
  BOOLEAN: api.BOOLEAN,
  TINYINT: api.TINYINT,
  SMALLINT: api.SMALLINT,
  INTEGER: api.INTEGER,
  BIGINT: api.BIGINT,
  HUGEINT: api.HUGEINT,
  UTINYINT: api.UTINYINT,
  USMALLINT: api.USMALLINT,
  UINTEGER: api.UINTEGER,
  UBIGINT: api.UBIGINT,
  UHUGEINT: api.UHUGEINT,
  BIGNUM: api.BIGNUM,
  FLOAT: api.FLOAT,
  DOUBLE: api.DOUBLE,
  VARCHAR: api.VARCHAR,
  BLOB: api.BLOB,
  BIT: api.BIT,
  UUID: api.UUID,
  DATE: api.DATE,
  TIME: api.TIME,
  TIME_NS: api.TIME_NS,
  TIMETZ: api.TIMETZ,
  TIMESTAMP: api.TIMESTAMP,
  TIMESTAMP_S: api.TIMESTAMP_S,
  TIMESTAMP_MS: api.TIMESTAMP_MS,
  TIMESTAMP_NS: api.TIMESTAMP_NS,
  TIMESTAMPTZ: api.TIMESTAMPTZ,
  INTERVAL: api.INTERVAL,
  SQLNULL: api.SQLNULL,
}

/** The way back. */
export function duckdbType(type: ColumnType): DuckDBType {
  switch (type.kind) {
    case 'DECIMAL':
      return new DuckDBDecimalType(type.width, type.scale)
    case 'ENUM':
      return new DuckDBEnumType([...type.values], DuckDBTypeId.UTINYINT)
    case 'LIST':
      return new DuckDBListType(duckdbType(type.child))
    case 'ARRAY':
      return new DuckDBArrayType(duckdbType(type.child), type.size)
    case 'STRUCT':
      return new DuckDBStructType(
        type.fields.map(([name]) => name),
        type.fields.map(([, field]) => duckdbType(field)),
      )
    case 'MAP':
      return new DuckDBMapType(duckdbType(type.key), duckdbType(type.value))
    case 'UNION':
      return new DuckDBUnionType(
        type.members.map(([name]) => name),
        type.members.map(([, member]) => duckdbType(member)),
      )
    default:
      return scalarTypes[type.kind]
  }
}

/** Readers and writers that have nothing to do are this very function. */
// biome-ignore lint/suspicious/noExplicitAny: both sides are the same primitive at run time
export const identity = (value: any): any => value

/** A function from DuckDB's value (never NULL) to its Cell. */
export function cellReader(type: ColumnType): (value: DuckDBValue) => Cell {
  switch (type.kind) {
    case 'DECIMAL':
      return (value) => (value as DuckDBDecimalValue).value
    case 'BLOB':
      // The bytes are DuckDB's memory: copy them before the chunk goes.
      return (value) => Buffer.from((value as DuckDBBlobValue).bytes)
    case 'BIT':
    case 'UUID':
      return (value) => String(value)
    case 'DATE':
      return (value) => (value as DuckDBDateValue).days
    case 'TIME':
      return (value) => (value as DuckDBTimeValue).micros
    case 'TIME_NS':
      return (value) => (value as DuckDBTimeNSValue).nanos
    case 'TIMETZ':
      return (value) => (value as DuckDBTimeTZValue).bits
    case 'TIMESTAMP':
      return (value) => (value as DuckDBTimestampValue).micros
    case 'TIMESTAMPTZ':
      return (value) => (value as DuckDBTimestampTZValue).micros
    case 'TIMESTAMP_S':
      return (value) => (value as DuckDBTimestampSecondsValue).seconds
    case 'TIMESTAMP_MS':
      return (value) => (value as DuckDBTimestampMillisecondsValue).millis
    case 'TIMESTAMP_NS':
      return (value) => (value as DuckDBTimestampNanosecondsValue).nanos
    case 'INTERVAL':
      return (value) => {
        const { months, days, micros } = value as DuckDBIntervalValue
        return { months, days, micros }
      }
    case 'LIST':
    case 'ARRAY': {
      const read = nullable(cellReader(type.child))
      return (value) => (value as DuckDBListValue | DuckDBArrayValue).items.map(read)
    }
    case 'STRUCT': {
      const fields = type.fields.map(([name, field]) => [name, nullable(cellReader(field))] as const)
      return (value) => fields.map(([name, read]) => read((value as DuckDBStructValue).entries[name] as DuckDBValue))
    }
    case 'MAP': {
      const key = nullable(cellReader(type.key))
      const item = nullable(cellReader(type.value))
      return (value) => ({ entries: (value as DuckDBMapValue).entries.map((entry) => [key(entry.key), item(entry.value)] as const) })
    }
    case 'UNION': {
      const members = new Map(type.members.map(([name, member]) => [name, nullable(cellReader(member))]))
      return (value) => {
        const { tag, value: inner } = value as DuckDBUnionValue
        return { tag, value: (members.get(tag) as (value: DuckDBValue) => Cell)(inner) }
      }
    }
    default:
      return identity
  }
}

function nullable(read: (value: DuckDBValue) => Cell): (value: DuckDBValue) => Cell {
  return (value) => (value === null || value === undefined ? null : read(value))
}

/** The way back: from a Cell (never null) to DuckDB's value. */
export function cellWriter(type: ColumnType): (cell: Cell) => DuckDBValue {
  switch (type.kind) {
    case 'DECIMAL':
      return (cell) => new DuckDBDecimalValue(cell as bigint, type.width, type.scale)
    case 'BLOB':
      return (cell) => new DuckDBBlobValue(cell as Uint8Array)
    case 'BIT':
      return (cell) => DuckDBBitValue.fromString(cell as string)
    case 'UUID':
      return (cell) => DuckDBUUIDValue.fromUint128(BigInt(`0x${(cell as string).replaceAll('-', '')}`))
    case 'DATE':
      return (cell) => new DuckDBDateValue(cell as number)
    case 'TIME':
      return (cell) => new DuckDBTimeValue(cell as bigint)
    case 'TIME_NS':
      return (cell) => new DuckDBTimeNSValue(cell as bigint)
    case 'TIMETZ':
      return (cell) => DuckDBTimeTZValue.fromBits(cell as bigint)
    case 'TIMESTAMP':
      return (cell) => new DuckDBTimestampValue(cell as bigint)
    case 'TIMESTAMPTZ':
      return (cell) => new DuckDBTimestampTZValue(cell as bigint)
    case 'TIMESTAMP_S':
      return (cell) => new DuckDBTimestampSecondsValue(cell as bigint)
    case 'TIMESTAMP_MS':
      return (cell) => new DuckDBTimestampMillisecondsValue(cell as bigint)
    case 'TIMESTAMP_NS':
      return (cell) => new DuckDBTimestampNanosecondsValue(cell as bigint)
    case 'INTERVAL':
      return (cell) => {
        const { months, days, micros } = cell as Interval
        return new DuckDBIntervalValue(months, days, micros)
      }
    case 'LIST': {
      const write = orNull(cellWriter(type.child))
      return (cell) => new DuckDBListValue((cell as Cell[]).map(write))
    }
    case 'ARRAY': {
      const write = orNull(cellWriter(type.child))
      return (cell) => new DuckDBArrayValue((cell as Cell[]).map(write))
    }
    case 'STRUCT': {
      const fields = type.fields.map(([name, field]) => [name, orNull(cellWriter(field))] as const)
      return (cell) =>
        new DuckDBStructValue(Object.fromEntries(fields.map(([name, write], i) => [name, write((cell as Cell[])[i] as Cell)])))
    }
    case 'MAP': {
      const key = orNull(cellWriter(type.key))
      const item = orNull(cellWriter(type.value))
      return (cell) => new DuckDBMapValue((cell as MapEntries).entries.map(([k, v]) => ({ key: key(k), value: item(v) })))
    }
    case 'UNION': {
      const members = new Map(type.members.map(([name, member]) => [name, orNull(cellWriter(member))]))
      return (cell) => {
        const { tag, value } = cell as UnionCell
        return new DuckDBUnionValue(tag, (members.get(tag) as (cell: Cell) => DuckDBValue)(value))
      }
    }
    default:
      return identity
  }
}

function orNull(write: (cell: Cell) => DuckDBValue): (cell: Cell) => DuckDBValue {
  return (cell) => (cell === null ? null : write(cell))
}

/** One value for binding. */
export function toDuckDB(type: ColumnType, cell: Cell): DuckDBValue {
  return cell === null ? null : cellWriter(type)(cell)
}
