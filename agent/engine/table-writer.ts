/**
 * Puts rows into one table for the write buffer; each call is one statement that DuckDB commits by itself, which saves it BEGIN and COMMIT. One row goes
 * through a prepared INSERT of values, more through one that takes a column in each parameter (column-lists.ts). DuckDB keeps the plans of both, and runs
 * them beside the event loop; an appender plans every flush anew, on the event loop.
 */

import type { Cell, Rows } from '../journal/types.ts'
import type { TableInfo } from './catalog.ts'
import { type ColumnList, columnList } from './column-lists.ts'
import type { Connection, PreparedStatement } from './duckdb.ts'

/** Rows up to which nobody is waiting, most likely: the event loop has nothing better to do. */
const veryFewRows = 4

export class TableWriter {
  #connection: Connection
  #info: TableInfo
  #lists: readonly ColumnList[]
  #one: PreparedStatement | undefined
  #many: PreparedStatement | undefined

  constructor(connection: Connection, info: TableInfo) {
    this.#connection = connection
    this.#info = info
    this.#lists = info.table.columns.map(columnList)
  }

  /** What writes these rows, made ready: all columns in order. After an error of it this must be closed. */
  async statementFor(rows: Rows): Promise<() => Promise<void>> {
    const insert = rows.count === 1 ? await this.#ofOne() : await this.#ofMany()
    for (const [i, { type }] of this.#info.table.columns.entries()) {
      const cells = rows.columns[i] as readonly Cell[]
      if (rows.count > 1) (this.#lists[i] as ColumnList).bind(insert, i, cells)
      else if (cells[0] === null) insert.bindNull(i)
      else insert.bindCell(i, type, cells[0] as Cell)
    }
    return () => insert.execute(rows.count <= veryFewRows)
  }

  /** Rows whose write has failed do not come back. */
  close(): void {
    this.#one?.close()
    this.#many?.close()
    this.#one = undefined
    this.#many = undefined
  }

  async #ofOne(): Promise<PreparedStatement> {
    this.#one ??= await this.#connection.prepare(`INSERT INTO ${this.#info.path} VALUES (${this.#lists.map((_, i) => `$${i + 1}`)})`)
    return this.#one
  }

  async #ofMany(): Promise<PreparedStatement> {
    if (this.#many === undefined) {
      const columns = this.#lists.map(({ apart }, i) => `${apart(`$${i + 1}`)} AS c${i}`)
      const values = this.#lists.map((list, i) => list.values(`c${i}`))
      this.#many = await this.#connection.prepare(`INSERT INTO ${this.#info.path} SELECT ${values} FROM (SELECT ${columns})`)
    }
    return this.#many
  }
}
