/**
 * Sets the same columns of rows of one table to given values, by their keys (one whole number each). One row goes through an UPDATE of its own; more through one
 * that takes a column in each parameter (column-lists.ts): DuckDB plans each UPDATE anew, which costs more than all of its rows.
 */

import type { Cell } from '../journal/types.ts'
import type { TableInfo } from './catalog.ts'
import { ColumnLists } from './column-lists.ts'
import type { Connection, PreparedStatement } from './duckdb.ts'
import { quoteIdentifier } from './sql/tokens.ts'

/** Rows up to which an UPDATE of each costs less. */
const veryFewRows = 2

/** An UPDATE of one row: a parameter for each column (indexes in `table.columns`), and one for the key. */
export function updateOfOne({ table, path }: TableInfo, changed: readonly number[]): string {
  const name = (column: number) => quoteIdentifier(table.columns[column]!.name)
  const sets = changed.map((column, i) => `${name(column)} = $${i + 1}`)
  return `UPDATE ${path} SET ${sets.join(', ')} WHERE ${name(table.primaryKey[0] as number)} = $${changed.length + 1}`
}

export class RowUpdater {
  #connection: Connection
  #info: TableInfo
  /** Indexes in `table.columns`: what is set, then the key. */
  #columns: readonly number[]
  /** Of those. */
  #lists: ColumnLists
  #one: PreparedStatement | undefined
  #many: PreparedStatement | undefined

  constructor(connection: Connection, info: TableInfo, changed: readonly number[]) {
    this.#connection = connection
    this.#info = info
    this.#columns = [...changed, info.table.primaryKey[0] as number]
    this.#lists = new ColumnLists(this.#columns.map((column) => info.table.columns[column]!))
  }

  /** `rows`: all columns of the table, each row another one. `alone`: nobody waits for the event loop. Resolves with how many were found. After an error this must be closed. */
  async update(rows: readonly (readonly Cell[])[], alone: boolean): Promise<number> {
    if (rows.length > veryFewRows) return this.#updateMany(rows)
    let found = 0
    for (const cells of rows) found += await this.#updateOne(cells, alone)
    return found
  }

  close(): void {
    this.#one?.close()
    this.#many?.close()
    this.#one = undefined
    this.#many = undefined
  }

  async #updateOne(cells: readonly Cell[], alone: boolean): Promise<number> {
    const { columns } = this.#info.table
    this.#one ??= await this.#connection.prepare(updateOfOne(this.#info, this.#columns.slice(0, -1)))
    for (const [i, column] of this.#columns.entries()) this.#one.bindCell(i, columns[column]!.type, cells[column] as Cell)
    return alone ? (await this.#one.runBriefly()).rowsChanged : this.#one.change()
  }

  async #updateMany(rows: readonly (readonly Cell[])[]): Promise<number> {
    const { table, path } = this.#info
    if (this.#many === undefined) {
      const name = (column: number) => quoteIdentifier(table.columns[column]!.name)
      const sets = this.#columns.slice(0, -1).map((column, i) => `${name(column)} = given.v${i}`)
      const key = `changing.${name(table.primaryKey[0] as number)} = given.v${sets.length}`
      this.#many = await this.#connection.prepare(
        `UPDATE ${path} AS changing SET ${sets.join(', ')} FROM (${this.#lists.query}) AS given WHERE ${key}`,
      )
    }
    this.#lists.bind(
      this.#many,
      this.#columns.map((column) => rows.map((cells) => cells[column] as Cell)),
    )
    return this.#many.change()
  }
}
