/**
 * Puts rows into one table for the write buffer; each call is one statement that DuckDB commits by itself, which saves it BEGIN and COMMIT.
 * Few rows go through a prepared INSERT of as many rows: DuckDB keeps its plan, and runs it beside the event loop. The appender plans every
 * flush anew, on the event loop, which costs as much as 32 rows do, and little more for 100 rows than for one.
 */

import type { Cell, Rows } from '../journal/types.ts'
import type { TableInfo } from './catalog.ts'
import type { Connection, PreparedStatement } from './duckdb.ts'
import type { Appender } from './duckdb-appender.ts'

/** Rows that an appender takes for sure before it flushes by itself, and so commits a part. */
export const mostRows = 100_000
/** Rows up to which a prepared INSERT costs no more than the appender, which runs on the event loop. */
const fewRows = 64
/** Rows up to which nobody is waiting, most likely: the event loop has nothing better to do. */
const veryFewRows = 4
/** Parameters of the prepared INSERTs that are kept: a kilobyte each, about. */
const mostParameters = 16_384

export class TableWriter {
  #connection: Connection
  #info: TableInfo
  #appender: Appender
  /** By the number of their rows, the one used last at the end. */
  #inserts = new Map<number, PreparedStatement>()
  #parameters = 0

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
    if (rows.count > fewRows || rows.count * this.#width > mostParameters) {
      return async () => {
        this.#appender.append(rows)
        this.#appender.flush()
      }
    }
    const insert = await this.#insert(rows.count)
    let parameter = 0
    const { columns } = this.#info.table
    for (let row = 0; row < rows.count; row++) {
      for (let i = 0; i < columns.length; i++) {
        const cell = rows.columns[i]?.[row] as Cell
        if (cell === null) insert.bindNull(parameter++)
        else insert.bindCell(parameter++, (columns[i] as (typeof columns)[number]).type, cell)
      }
    }
    return () => insert.execute(rows.count <= veryFewRows)
  }

  /** Rows whose write has failed do not come back. */
  close(): void {
    this.#appender.close()
    for (const insert of this.#inserts.values()) insert.close()
    this.#inserts.clear()
    this.#parameters = 0
  }

  async #insert(count: number): Promise<PreparedStatement> {
    const known = this.#inserts.get(count)
    if (known !== undefined) this.#inserts.delete(count)
    const insert = known ?? (await this.#prepare(count))
    this.#inserts.set(count, insert)
    for (const [rows, oldest] of this.#inserts) {
      if (this.#parameters <= mostParameters || oldest === insert) break
      this.#inserts.delete(rows)
      this.#parameters -= rows * this.#width
      oldest.close()
    }
    return insert
  }

  async #prepare(count: number): Promise<PreparedStatement> {
    const row = (at: number) => `(${Array.from({ length: this.#width }, (_, i) => `$${at * this.#width + i + 1}`).join(', ')})`
    const rows = Array.from({ length: count }, (_, at) => row(at)).join(', ')
    const insert = await this.#connection.prepare(`INSERT INTO ${this.#info.path} VALUES ${rows}`)
    this.#parameters += count * this.#width
    return insert
  }

  get #width(): number {
    return this.#info.table.columns.length
  }
}
