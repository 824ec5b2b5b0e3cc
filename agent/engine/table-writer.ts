/**
 * Puts rows into one table for the write buffer; each call is one statement that DuckDB commits by itself, which saves it BEGIN and COMMIT.
 * One row goes through a prepared INSERT, whose plan DuckDB keeps: half the work of the appender, which plans every flush anew but costs little
 * more for 64 rows than for one.
 */

import type { Cell, Rows } from '../journal/types.ts'
import type { TableInfo } from './catalog.ts'
import type { Appender, Connection, PreparedStatement } from './duckdb.ts'

/** Rows that an appender takes for sure before it flushes by itself, and so commits a part. */
export const mostRows = 100_000

export class TableWriter {
  #columns: TableInfo['table']['columns']
  #appender: Appender
  #insert: PreparedStatement

  private constructor(columns: TableInfo['table']['columns'], appender: Appender, insert: PreparedStatement) {
    this.#columns = columns
    this.#appender = appender
    this.#insert = insert
  }

  static async open(connection: Connection, { table, path }: TableInfo, catalog: string): Promise<TableWriter> {
    const parameters = table.columns.map((_, i) => `$${i + 1}`)
    const insert = await connection.prepare(`INSERT INTO ${path} VALUES (${parameters.join(', ')})`)
    return new TableWriter(table.columns, await connection.appender(table.schema, table.name, catalog), insert)
  }

  /** At most `mostRows`, all columns in order. After an error it must be closed. */
  async write(rows: Rows): Promise<void> {
    if (rows.count > 1) {
      this.#appender.append(rows)
      this.#appender.flush()
      return
    }
    for (const [i, { type }] of this.#columns.entries()) {
      const cell = rows.columns[i]?.[0] as Cell
      if (cell === null) this.#insert.bindNull(i)
      else this.#insert.bindCell(i, type, cell)
    }
    await this.#insert.execute()
  }

  /** Rows whose write has failed do not come back. */
  close(): void {
    this.#appender.close()
    this.#insert.close()
  }
}
