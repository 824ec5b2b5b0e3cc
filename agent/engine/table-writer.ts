/**
 * Puts rows into one table for the write buffer; each call is one statement that DuckDB commits by itself, which saves it BEGIN and COMMIT. One row goes
 * through a prepared INSERT of values, more through one that takes a column in each parameter (column-lists.ts). DuckDB keeps the plans of both, and runs
 * them beside the event loop; an appender plans every flush anew, on the event loop.
 */

import { messageOf } from '../errors.ts'
import type { Cell, Rows } from '../journal/types.ts'
import type { TableInfo } from './catalog.ts'
import { ColumnLists } from './column-lists.ts'
import type { Connection, PreparedStatement } from './duckdb.ts'
import { SqlError } from './sql-error.ts'

/** Rows up to which nobody is waiting, most likely: the event loop has nothing better to do. */
const veryFewRows = 4

export class TableWriter {
  #connection: Connection
  #info: TableInfo
  #conflict: string
  #lists: ColumnLists
  #one: PreparedStatement | undefined
  #many: PreparedStatement | undefined

  /** `conflict`: what becomes of rows whose key is there already, as SQL. */
  constructor(connection: Connection, info: TableInfo, conflict = '') {
    this.#conflict = conflict
    this.#connection = connection
    this.#info = info
    this.#lists = new ColumnLists(info.table.columns)
  }

  /** What writes these rows, made ready: all columns in order. `alone`: nobody waits for the event loop. After an error of it this must be closed. */
  async statementFor(rows: Rows, alone = rows.count <= veryFewRows): Promise<() => Promise<void>> {
    if (rows.count === 1) {
      const insert = await this.#ofOne()
      // Its values are bound when it runs: the disk, if it has the row already, works meanwhile.
      return () => {
        this.#bindRow(insert, rows)
        return insert.execute(alone)
      }
    }
    const insert = await this.#ofMany()
    this.#lists.bind(insert, rows.columns)
    return () => insert.execute(alone)
  }

  /** Throws SqlError for a value that DuckDB does not take: its statement has not run. */
  #bindRow(insert: PreparedStatement, rows: Rows): void {
    try {
      for (const [i, { type }] of this.#info.table.columns.entries()) insert.bindCell(i, type, rows.columns[i]?.[0] as Cell)
    } catch (error) {
      throw new SqlError('22000', messageOf(error), { cause: error })
    }
  }

  /** Rows whose write has failed do not come back. */
  close(): void {
    this.#one?.close()
    this.#many?.close()
    this.#one = undefined
    this.#many = undefined
  }

  async #ofOne(): Promise<PreparedStatement> {
    this.#one ??= await this.#connection.prepare(
      `INSERT INTO ${this.#info.path} VALUES (${this.#info.table.columns.map((_, i) => `$${i + 1}`)}) ${this.#conflict}`,
    )
    return this.#one
  }

  async #ofMany(): Promise<PreparedStatement> {
    this.#many ??= await this.#connection.prepare(`INSERT INTO ${this.#info.path} ${this.#lists.query} ${this.#conflict}`)
    return this.#many
  }
}
