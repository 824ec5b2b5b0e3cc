/**
 * Puts rows into one table for the write buffer; each call is one statement that DuckDB commits by itself, which saves it BEGIN and COMMIT.
 * Few rows go through a prepared INSERT of as many rows: DuckDB keeps its plan, and runs it beside the event loop. The appender plans every
 * flush anew, which costs as much as 32 rows do, and little more for 100 rows than for one.
 */

import type { Cell, Rows } from '../journal/types.ts'
import type { TableInfo } from './catalog.ts'
import type { Appender, Connection, PreparedStatement } from './duckdb.ts'

/** Rows that an appender takes for sure before it flushes by itself, and so commits a part. */
export const mostRows = 100_000
/** Rows up to which a prepared INSERT costs less than the appender. */
const fewRows = 32

export class TableWriter {
  #connection: Connection
  #info: TableInfo
  #appender: Appender
  /** By the number of their rows. */
  #inserts = new Map<number, PreparedStatement>()

  private constructor(connection: Connection, info: TableInfo, appender: Appender) {
    this.#connection = connection
    this.#info = info
    this.#appender = appender
  }

  static async open(connection: Connection, info: TableInfo, catalog: string): Promise<TableWriter> {
    const { schema, name } = info.table
    return new TableWriter(connection, info, await connection.appender(schema, name, catalog))
  }

  /** What writes these rows, made ready: at most `mostRows`, all columns in order. After an error of it this must be closed. */
  async statementFor(rows: Rows): Promise<() => Promise<void>> {
    if (rows.count > fewRows) {
      return async () => {
        this.#appender.append(rows)
        this.#appender.flush()
      }
    }
    const insert = this.#inserts.get(rows.count) ?? (await this.#prepare(rows.count))
    let parameter = 0
    for (let row = 0; row < rows.count; row++) {
      for (const [i, { type }] of this.#info.table.columns.entries()) {
        const cell = rows.columns[i]?.[row] as Cell
        if (cell === null) insert.bindNull(parameter++)
        else insert.bindCell(parameter++, type, cell)
      }
    }
    return () => insert.execute()
  }

  /** Rows whose write has failed do not come back. */
  close(): void {
    this.#appender.close()
    for (const insert of this.#inserts.values()) insert.close()
    this.#inserts.clear()
  }

  async #prepare(count: number): Promise<PreparedStatement> {
    const { path, table } = this.#info
    const width = table.columns.length
    const row = (at: number) => `(${table.columns.map((_, i) => `$${at * width + i + 1}`).join(', ')})`
    const insert = await this.#connection.prepare(
      `INSERT INTO ${path} VALUES ${Array.from({ length: count }, (_, at) => row(at)).join(', ')}`,
    )
    this.#inserts.set(count, insert)
    return insert
  }
}
