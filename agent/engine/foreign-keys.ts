/**
 * What a foreign key references, by the names that the table and its columns have: DuckDB keeps them as they were written (`REFERENCES PAR (ID)`), in capitals or not.
 */

import type { Connection } from './duckdb.ts'
import { lowerCase, quoteString } from './sql/tokens.ts'

/** The tables and columns of one schema. */
export class WrittenNames {
  /** Both in lower case; the columns by theirs. */
  #tables = new Map<string, { readonly name: string; readonly columns: Map<string, string> }>()

  private constructor() {}

  static async of(connection: Connection, catalog: string, schema: string): Promise<WrittenNames> {
    const names = new WrittenNames()
    const where = `database_name = ${quoteString(catalog)} AND schema_name = ${quoteString(schema)}`
    for (const [table, column] of await connection.all(`SELECT table_name, column_name FROM duckdb_columns() WHERE ${where}`))
      names.#of(String(table)).set(lowerCase(String(column)), String(column))
    return names
  }

  table(written: string): string {
    return this.#tables.get(lowerCase(written))?.name ?? written
  }

  column(table: string, written: string): string {
    return this.#tables.get(lowerCase(table))?.columns.get(lowerCase(written)) ?? written
  }

  #of(name: string): Map<string, string> {
    const known = this.#tables.get(lowerCase(name)) ?? { name, columns: new Map<string, string>() }
    this.#tables.set(lowerCase(name), known)
    return known.columns
  }
}

/** SQL of a name as DuckDB compares it: it folds the case of ASCII letters alone. */
export const folded = (name: string): string => `translate(${name}, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')`
