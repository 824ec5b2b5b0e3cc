/**
 * The vocabulary of a journaled change, free of DuckDB and of any destination: what the engine captures, what
 * recovery replays, and what consumers read.
 */

/** DuckDB's logical types as a tree. `kind` is DuckDB's own type name. */
export type ColumnType =
  | { kind: ScalarKind }
  | { kind: 'DECIMAL'; width: number; scale: number }
  | { kind: 'ENUM'; values: readonly string[] }
  | { kind: 'LIST'; child: ColumnType }
  | { kind: 'ARRAY'; child: ColumnType; size: number }
  | { kind: 'STRUCT'; fields: readonly (readonly [name: string, type: ColumnType])[] }
  | { kind: 'MAP'; key: ColumnType; value: ColumnType }
  | { kind: 'UNION'; members: readonly (readonly [name: string, type: ColumnType])[] }

export type ScalarKind =
  | 'BOOLEAN'
  | 'TINYINT'
  | 'SMALLINT'
  | 'INTEGER'
  | 'BIGINT'
  | 'HUGEINT'
  | 'UTINYINT'
  | 'USMALLINT'
  | 'UINTEGER'
  | 'UBIGINT'
  | 'UHUGEINT'
  | 'BIGNUM'
  | 'FLOAT'
  | 'DOUBLE'
  | 'VARCHAR'
  | 'BLOB'
  | 'BIT'
  | 'UUID'
  | 'DATE'
  | 'TIME'
  | 'TIME_NS'
  | 'TIMETZ'
  | 'TIMESTAMP'
  | 'TIMESTAMP_S'
  | 'TIMESTAMP_MS'
  | 'TIMESTAMP_NS'
  | 'TIMESTAMPTZ'
  | 'INTERVAL'
  | 'SQLNULL'

/**
 * One value in memory, by type:
 * BOOLEAN boolean · TINYINT…INTEGER, UTINYINT…UINTEGER number · BIGINT, HUGEINT, UBIGINT, UHUGEINT, BIGNUM bigint ·
 * FLOAT, DOUBLE number (NaN and ±Infinity included) · DECIMAL bigint, unscaled (12.34 at scale 2 is 1234n) ·
 * VARCHAR (JSON too), ENUM string · UUID string (36 characters) · BLOB Uint8Array · BIT string of '0' and '1' ·
 * DATE number (days since 1970-01-01; ±2147483647 is ±infinity) · TIME bigint µs · TIME_NS bigint ns ·
 * TIMETZ bigint (DuckDB's packed µs and offset) · TIMESTAMP, TIMESTAMPTZ bigint µs since 1970 · _S, _MS, _NS bigint in that unit
 * (±9223372036854775807n is ±infinity) · INTERVAL Interval · LIST, ARRAY Cell[] · STRUCT Cell[] in field order ·
 * MAP MapEntries · UNION UnionCell.
 */
export type Cell = null | boolean | number | bigint | string | Uint8Array | Interval | UnionCell | MapEntries | Cell[]

export interface Interval {
  readonly months: number
  readonly days: number
  readonly micros: bigint
}
export interface UnionCell {
  readonly tag: string
  readonly value: Cell
}
export interface MapEntries {
  readonly entries: readonly (readonly [Cell, Cell])[]
}

export interface Column {
  readonly name: string
  readonly type: ColumnType
  /** DuckDB's spelling of the type, `JSON` and other aliases included. */
  readonly sqlType: string
  readonly nullable: boolean
}

/** A table as a change saw it. Generated columns are not among `columns`: they are derived, never journaled. */
export interface Table {
  readonly schema: string
  readonly name: string
  readonly columns: readonly Column[]
  /** Indexes into `columns`, in key order; empty for a keyless table. */
  readonly primaryKey: readonly number[]
}

/** Rows by column: `columns[c][r]`. Which columns of the table they are is said by `Change`. */
export interface Rows {
  readonly count: number
  readonly columns: readonly (readonly Cell[])[]
}

/** The cell of a UUID of 32 hexadecimal digits. */
export function uuidCell(digits: string): string {
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/** Whole rows, each with all columns in order, by column. */
export function asRows(...rows: readonly (readonly Cell[])[]): Rows {
  return { count: rows.length, columns: (rows[0] ?? []).map((_, column) => rows.map((cells) => cells[column] as Cell)) }
}

/** What one statement did to one table, or to the schema; or a part of it, when it changed very many rows. */
export type Change =
  /** New rows, all columns. */
  | { readonly kind: 'insert'; readonly table: Table; readonly rows: Rows }
  /** Rows after INSERT … ON CONFLICT DO UPDATE, all columns; `changed`: the columns its SET names. */
  | { readonly kind: 'upsert'; readonly table: Table; readonly rows: Rows; readonly changed: readonly number[] }
  /**
   * Rows after an UPDATE that left the key alone, all columns; `changed`: the columns its SET names (replay touches no others).
   * `more`: the next change is of the same statement (a swap of unique values must be replayed in one).
   */
  | { readonly kind: 'update'; readonly table: Table; readonly rows: Rows; readonly changed: readonly number[]; readonly more?: boolean }
  /** Keys of deleted rows: `rows.columns[i]` is the column `table.primaryKey[i]`. `more`: as above. */
  | { readonly kind: 'delete'; readonly table: Table; readonly rows: Rows; readonly more?: boolean }
  /** A schema change as SQL text with what its meaning depends on. `tables`: the tables it created, changed or dropped. */
  | {
      readonly kind: 'schema'
      readonly sql: string
      /** 'CREATE', 'ALTER' or 'DROP'. */
      readonly verb: string
      readonly searchPath: string
      readonly timeZone: string
      readonly tables: readonly { readonly schema: string; readonly name: string }[]
      /** What DuckDB was told for an `sql` that it lacks (a new constraint), in order: a replay runs these. */
      readonly statements?: readonly string[]
    }
  /** The highest value that a sequence has handed out. */
  | { readonly kind: 'sequence'; readonly schema: string; readonly name: string; readonly value: bigint }

export interface Transaction {
  /** 1, 2, 3 … without gaps. */
  readonly seq: number
  /** Commit time, milliseconds since the Unix epoch. */
  readonly time: number
  readonly changes: readonly Change[] | SpilledChanges
}

/**
 * The changes of a transaction that is too large for memory: each walk reads them from its spill (agent/journal/spill.ts), a few MB at a time.
 * Throws where the spill is damaged.
 */
export interface SpilledChanges extends Iterable<Change> {
  /** Rows, schema changes and sequence values of all of them. */
  readonly items: number
  /** The tables that they change. */
  readonly tables: readonly Table[]
}

export function isSpilled(changes: Transaction['changes']): changes is SpilledChanges {
  return !Array.isArray(changes)
}

/** How many rows, schema changes and sequence values a transaction has. */
export function itemsOf({ changes }: Transaction): number {
  if (isSpilled(changes)) return changes.items
  return changes.reduce((sum, change) => sum + ('rows' in change ? change.rows.count : 1), 0)
}

/** Bytes of rows, roughly. */
export function bytesOf({ count, columns }: Rows): number {
  let bytes = 8 * count * columns.length
  for (const cells of columns) {
    // All cells of a column are of one type, or null.
    if (cells.some((cell) => typeof cell === 'object' || typeof cell === 'string')) for (const cell of cells) bytes += sizeOf(cell)
  }
  return bytes
}

/** Bytes of a value, roughly. */
export function sizeOf(cell: Cell): number {
  if (typeof cell === 'string' || cell instanceof Uint8Array) return cell.length
  if (cell === null || typeof cell !== 'object') return 8
  if (Array.isArray(cell)) return cell.reduce((sum: number, child) => sum + sizeOf(child), 8)
  if ('entries' in cell) return cell.entries.reduce((sum, [key, value]) => sum + sizeOf(key) + sizeOf(value), 8)
  return 'tag' in cell ? 8 + sizeOf(cell.value) : 16
}

/** `schema.name`, the spelling in which tables are configured and reported. */
export function tableName(table: { readonly schema: string; readonly name: string }): string {
  return `${table.schema}.${table.name}`
}
