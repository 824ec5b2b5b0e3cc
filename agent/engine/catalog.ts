/**
 * What the engine must know of a table to capture its changes: columns in the order of an image, key, foreign keys. Read from DuckDB's
 * catalog through the asking connection (it sees its own uncommitted schema changes) and cached until a schema change commits.
 */

import type { Column, ColumnType, Table } from '../journal/types.ts'
import { type ColumnDefault, columnDefault, makers } from './column-defaults.ts'
import type { Connection } from './duckdb.ts'
import { folded, WrittenNames } from './foreign-keys.ts'
import type { QualifiedName } from './sql/statement.ts'
import { lowerCase, pathEntries, quoteIdentifier, quoteString, tokenize } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

/** The schema of the engine's own tables. Clients may not name it. */
export const ownSchema = 'daemonguard'

export interface TableInfo {
  readonly table: Table
  readonly temporary: boolean
  /** Every column of `SELECT *`, generated ones included; `image[i]` is the index in `table.columns` or -1 for a generated one. */
  readonly image: readonly number[]
  /** By index in `table.columns`: its DEFAULT. */
  readonly defaults: readonly (ColumnDefault | undefined)[]
  /** `schema.name` of the tables that its foreign keys reference. */
  readonly parents: readonly string[]
  /** The same foreign keys' own columns: indexes in `table.columns`. */
  readonly foreignKeys: readonly (readonly number[])[]
  /** A row may be refused for more than its primary key, its foreign keys and NOT NULL: CHECK, UNIQUE, a unique index. */
  readonly checked: boolean
  /** It has indexes of its own (CREATE INDEX). */
  readonly indexed: boolean
  /** True when other tables' foreign keys reference it. */
  readonly referenced: boolean
  /** Indexes in `table.columns` of the columns that those reference. */
  readonly referencedColumns: readonly number[]
  /** `"schema"."name"`, or the temporary table's path. */
  readonly path: string
}

/** Index in `table.columns` of the column that a name means to DuckDB, which folds the case of ASCII letters alone; -1: there is none. */
export function columnIndex({ columns }: Table, name: string): number {
  const wanted = lowerCase(name)
  return columns.findIndex((column) => lowerCase(column.name) === wanted)
}

/** Indexes in `table.columns` of those that are not of the primary key. */
export function besideKey({ columns, primaryKey }: Table): number[] {
  return [...columns.keys()].filter((i) => !primaryKey.includes(i))
}

/** Kinds of what has a name, as DuckDB's functions are called that list them. */
const objectKinds = ['table', 'view', 'sequence', 'index', 'type', 'function'] as const
export type ObjectKind = (typeof objectKinds)[number]

export class Catalog {
  readonly name: string
  #version = 0
  #cache = new Map<string, TableInfo>()

  constructor(name: string) {
    this.name = name
  }

  /** Rises with every committed schema change. */
  get version(): number {
    return this.#version
  }

  /** A schema change has committed: nothing that was read before counts any more. */
  changed(): void {
    this.#version++
    this.#cache.clear()
  }

  /**
   * The table that `name` means to this session. Throws 42P01 when there is none, 42501 for another catalog or the engine's own schema.
   * `cacheable`: false while the session has schema changes or temporary tables of its own.
   */
  async table(connection: Connection, name: QualifiedName, searchPath: string, cacheable: boolean): Promise<TableInfo> {
    const key = `${searchPath}\0${name.join('\0')}`
    const known = cacheable ? this.#cache.get(key) : undefined
    if (known !== undefined) return known
    const version = this.#version
    const info = await this.#read(connection, name, searchPath)
    // A schema change may have committed while it was read.
    if (cacheable && !info.temporary && version === this.#version) this.#cache.set(key, info)
    return info
  }

  /** Whether `name` is a temporary object of this session, of one of `kinds`: it shadows others, and is not journaled. Those of other kinds have other names. */
  async isTemporary(connection: Connection, name: QualifiedName, kinds: readonly ObjectKind[]): Promise<boolean> {
    const [first, ...rest] = name.map(lowerCase)
    if (first === 'temp') return true
    // DuckDB looks for `main.t` among what is temporary first.
    if (rest.length > 1 || (rest.length === 1 && first !== 'main')) return false
    return kinds.length > 0 && (await this.temporaryNames(connection, kinds)).has(rest[0] ?? first ?? '')
  }

  /** Names of everything temporary in this session, in lower case; the engine's own helpers too. */
  async temporaryNames(connection: Connection, kinds: readonly ObjectKind[] = objectKinds): Promise<Set<string>> {
    const parts = kinds.map(
      (kind) =>
        `SELECT ${kind}_name FROM duckdb_${kind === 'index' ? 'indexe' : kind}s() WHERE database_name = 'temp'${kind === 'type' || kind === 'function' ? ' AND NOT internal' : ''}`,
    )
    return new Set((await connection.all(parts.join(' UNION ALL '))).map(([name]) => lowerCase(String(name))))
  }

  async #read(connection: Connection, name: QualifiedName, searchPath: string): Promise<TableInfo> {
    const { database, schema, table } = await this.#resolve(connection, name, searchPath)
    const temporary = database === 'temp'
    const where = `database_name = ${quoteString(database)} AND schema_name = ${quoteString(schema)} AND table_name = ${quoteString(table)}`
    const columns = await connection.all(
      `SELECT column_name, data_type, is_nullable, column_default FROM duckdb_columns() WHERE ${where} ORDER BY column_index`,
    )
    const path = `${quoteIdentifier(database)}.${quoteIdentifier(schema)}.${quoteIdentifier(table)}`
    const probe = await connection.prepare(`SELECT * FROM ${path}`)
    const types = probe.columns()
    probe.close()
    const [definition] = await connection.all(`SELECT sql FROM duckdb_tables() WHERE ${where}`)
    const constraints = await connection.all(
      `SELECT constraint_type, constraint_column_names, referenced_table, constraint_text FROM duckdb_constraints() WHERE ${where} ORDER BY constraint_index`,
    )
    const foreignKeys = constraints.filter(([type]) => type === 'FOREIGN KEY')
    const written = withoutForeignKeys(
      String(definition?.[0] ?? ''),
      foreignKeys.map(([, , , text]) => String(text)),
    )
    const generated = generatedColumns(written)
    const image: number[] = []
    const kept: Column[] = []
    const defaults: (ColumnDefault | undefined)[] = []
    columns.forEach(([column, sqlType, nullable, defaultText], i) => {
      if (generated.has(lowerCase(String(column)))) {
        image.push(-1)
        return
      }
      const type = types[i]?.type as ColumnType
      const own = { name: String(column), type, sqlType: String(sqlType), nullable: nullable === true }
      const hasDefault = defaultText !== null && defaultText !== 'NULL'
      defaults.push(hasDefault ? columnDefault(own, String(defaultText)) : undefined)
      image.push(kept.push(own) - 1)
    })
    const keyNames = (constraints.find(([type]) => type === 'PRIMARY KEY')?.[1] ?? []) as string[]
    const primaryKey = keyNames.map((column) => kept.findIndex((candidate) => candidate.name === column))
    const names = foreignKeys.length > 0 ? await WrittenNames.of(connection, database, schema) : undefined
    const parents = foreignKeys.map(([, , parent]) => `${schema}.${names?.table(String(parent))}`)
    const children = await connection.all(
      `SELECT DISTINCT unnest(referenced_column_names) FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY' AND database_name = ${quoteString(database)} AND schema_name = ${quoteString(schema)} AND ${folded('referenced_table')} = ${folded(quoteString(table))}`,
    )
    const indexes = await connection.all(`SELECT is_unique FROM duckdb_indexes() WHERE ${where}`)
    const own: Table = { schema, name: table, columns: kept, primaryKey }
    return {
      table: own,
      temporary,
      image,
      defaults: await this.#withoutMacros(connection, defaults),
      parents,
      foreignKeys: foreignKeys.map(([, names]) => (names as string[]).map((column) => columnIndex(own, column))),
      checked: constraints.some(([type]) => type === 'CHECK' || type === 'UNIQUE') || indexes.some(([unique]) => unique === true),
      indexed: indexes.length > 0,
      referenced: children.length > 0,
      referencedColumns: children.map(([column]) => columnIndex(own, String(column))),
      path,
    }
  }

  async #withoutMacros(connection: Connection, defaults: readonly (ColumnDefault | undefined)[]) {
    const made = (each: ColumnDefault | undefined) => typeof each === 'object' && 'make' in each
    if (!defaults.some(made)) return defaults
    const names = makers.map(quoteString).join(', ')
    const macros = await connection.all(
      `SELECT 1 FROM duckdb_functions() WHERE NOT internal AND lower(function_name) IN (${names}) LIMIT 1`,
    )
    return macros.length === 0 ? defaults : defaults.map((each) => (made(each) ? 'unknown' : each))
  }

  /** Temporary tables shadow others, as in DuckDB; then the search path's schemas in order. */
  async #resolve(connection: Connection, name: QualifiedName, searchPath: string) {
    const table = name.at(-1) as string
    const qualifier = name.slice(0, -1)
    const rows = await connection.all(
      `SELECT database_name, schema_name, table_name FROM duckdb_tables() WHERE lower(table_name) = ${quoteString(table.toLowerCase())}`,
    )
    // DuckDB looks into main last, whatever the path.
    const schemas = [...pathEntries(searchPath).map(lowerCase), 'main']
    const rank = ([database, schema]: readonly unknown[]) => {
      if (qualifier.length === 0) {
        if (database === 'temp') return 0
        const at = schemas.indexOf(lowerCase(String(schema)))
        return database === this.name && at !== -1 ? at + 1 : -1
      }
      const wanted = qualifier.map(lowerCase)
      const own = [lowerCase(String(database)), lowerCase(String(schema))]
      if (wanted.length === 2) return wanted[0] === own[0] && wanted[1] === own[1] ? 0 : -1
      if (wanted[0] === own[1] && database === this.name) return 0
      return wanted[0] === own[0] && schemas.includes(own[1] ?? '') ? 1 : -1
    }
    // lower() knows more letters than DuckDB's names do.
    const alike = rows.filter((row) => lowerCase(String(row[2])) === lowerCase(table))
    const best = alike
      .map((row) => ({ row, rank: rank(row) }))
      .filter((candidate) => candidate.rank >= 0)
      .sort((a, b) => a.rank - b.rank)[0]
    if (best === undefined) throw new SqlError('42P01', `Table with name ${table} does not exist`)
    const [database, schema, found] = best.row.map(String) as [string, string, string]
    if (database !== 'temp' && database !== this.name) throw otherCatalog(database)
    if (database !== 'temp' && schema === ownSchema) throw ownSchemaDenied()
    return { database, schema, table: found }
  }
}

export function otherCatalog(database: string): SqlError {
  return new SqlError('42501', `writes to the catalog ${database} would not be kept`, {
    hint: 'write to the guarded database, or to a temporary table',
  })
}

export function ownSchemaDenied(): SqlError {
  return new SqlError('42501', `the schema ${ownSchema} belongs to DaemonGuard`)
}

/** A CREATE TABLE text as DuckDB prints it, without its foreign keys: there it quotes no names, so that the text may not be SQL. */
export function withoutForeignKeys(sql: string, texts: readonly string[]): string {
  let rest = sql
  for (const text of texts.toReversed()) {
    const at = text === '' ? -1 : rest.lastIndexOf(`, ${text}`)
    if (at !== -1) rest = rest.slice(0, at) + rest.slice(at + text.length + 2)
  }
  return rest
}

/** Names (lower case) of the generated columns in a CREATE TABLE text as DuckDB prints it: `name TYPE GENERATED ALWAYS AS(…)`. */
export function generatedColumns(sql: string): Set<string> {
  const generated = new Set<string>()
  let column: string | undefined
  let atStart = false
  for (const token of tokenize(sql)) {
    if (token.depth === 0 && token.text === '(') atStart = true
    else if (token.depth === 1 && token.text === ',' && token.kind === 'symbol') atStart = true
    else if (atStart) {
      column = lowerCase(token.text)
      atStart = false
    } else if (token.depth === 1 && token.kind === 'word' && token.text === 'generated' && column !== undefined) generated.add(column)
  }
  return generated
}
