/** What ties the rows of a table to each other and to those of other tables: what a replay must know to merge transactions. */

import { type Table, tableName } from '../journal/types.ts'
import type { Connection } from './duckdb.ts'
import { folded, WrittenNames } from './foreign-keys.ts'
import { quoteString } from './sql/tokens.ts'

export interface TableTies {
  /**
   * Columns whose values must be unique, alone or together, in lower case; 'all' where that is said of an expression. The other constraints look
   * at one row and its parents.
   */
  readonly unique: ReadonlySet<string> | 'all'
  /** Something other than the primary key must be unique. */
  readonly hasUnique: boolean
  /** Other tables reference it. */
  readonly isParent: boolean
  /** `schema.name` of those that it references. */
  readonly parents: ReadonlySet<string>
}

const plainIndex = /^\[[a-z_]\w*(, [a-z_]\w*)*\]$/i

/** Reads them from DuckDB's catalog, and keeps them until it is told to forget. */
export class TiesOfTables {
  #connection: Connection
  #catalog: string
  #known = new Map<string, TableTies>()

  constructor(connection: Connection, catalog: string) {
    this.#connection = connection
    this.#catalog = catalog
  }

  /** After every schema change. */
  forget(): void {
    this.#known.clear()
  }

  async of(table: Table): Promise<TableTies> {
    const name = tableName(table)
    const known = this.#known.get(name) ?? (await this.#read(table))
    this.#known.set(name, known)
    return known
  }

  async #read(table: Table): Promise<TableTies> {
    const schema = `database_name = ${quoteString(this.#catalog)} AND schema_name = ${quoteString(table.schema)}`
    const where = `${schema} AND table_name = ${quoteString(table.name)}`
    const indexes = await this.#connection.all(`SELECT expressions FROM duckdb_indexes() WHERE ${where} AND is_unique`)
    const constraints = await this.#connection.all(
      `SELECT constraint_type, referenced_table, unnest(constraint_column_names) FROM duckdb_constraints()
       WHERE ${where} AND constraint_type IN ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY')`,
    )
    const children = await this.#connection.all(
      `SELECT 1 FROM duckdb_constraints() WHERE ${schema} AND constraint_type = 'FOREIGN KEY' AND ${folded('referenced_table')} = ${folded(quoteString(table.name))} LIMIT 1`,
    )
    const isPlain = indexes.every(([expressions]) => plainIndex.test(String(expressions)))
    const indexed = indexes.flatMap(([expressions]) => String(expressions).slice(1, -1).split(', '))
    const written = constraints.flatMap(([type, parent]) => (type === 'FOREIGN KEY' ? [String(parent)] : []))
    const names = written.length > 0 ? await WrittenNames.of(this.#connection, this.#catalog, table.schema) : undefined
    const parents = written.map((parent) => tableName({ ...table, name: names?.table(parent) ?? parent }))
    const keys = constraints.flatMap(([type, , column]) => (type === 'FOREIGN KEY' ? [] : [String(column)]))
    return {
      unique: isPlain ? new Set([...keys, ...indexed].map((name) => name.toLowerCase())) : 'all',
      hasUnique: constraints.some(([type]) => type === 'UNIQUE') || indexes.length > 0,
      isParent: children.length > 0,
      parents: new Set(parents),
    }
  }
}

/** Whether one of the columns must be unique. */
export function hasUniqueAmong({ unique }: TableTies, table: Table, columns: readonly number[]): boolean {
  return unique === 'all' || columns.some((i) => unique.has((table.columns[i]?.name ?? '').toLowerCase()))
}
