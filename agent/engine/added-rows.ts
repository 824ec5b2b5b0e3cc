/**
 * The rows that statements of a transaction add to a table, read afterwards by their numbers: RETURNING would hold all of them in memory, beyond
 * DuckDB's limit. DuckDB numbers what is not committed yet in order of addition, from a number on that no committed row has.
 */

import { addChanges, imagesOf } from './capture.ts'
import type { TableInfo } from './catalog.ts'
import type { Executor } from './executor.ts'
import type { Transaction } from './transaction.ts'

/** MAX_ROW_ID in DuckDB's source. */
const firstAddedRow = 36_028_797_018_960_000n

export class AddedRows {
  #executor: Executor
  #transaction: Transaction
  #info: TableInfo
  #next = firstAddedRow

  private constructor(executor: Executor, transaction: Transaction, info: TableInfo) {
    this.#executor = executor
    this.#transaction = transaction
    this.#info = info
  }

  /** To be called before the first of the statements. Undefined for a table whose own column hides the numbers. */
  static async of(executor: Executor, transaction: Transaction, info: TableInfo): Promise<AddedRows | undefined> {
    if (info.table.columns.some(({ name }) => name.toLowerCase() === 'rowid')) return undefined
    const added = new AddedRows(executor, transaction, info)
    if (transaction.hasChanges) {
      const found = await (await executor.run(`SELECT max(rowid) FROM ${info.path} WHERE rowid >= ${firstAddedRow}`)).rest()
      const last = found.columns[0]?.[0]
      if (typeof last === 'bigint') added.#next = last + 1n
    }
    return added
  }

  /** Journals the rows that the last statement has added, `count` by DuckDB's own count. */
  async journal(count: number): Promise<void> {
    if (count === 0) return
    const { table, path } = this.#info
    const found = await this.#executor.run(`SELECT * FROM ${path} WHERE rowid >= ${this.#next}`, [], { stream: true })
    const journaled = await addChanges(this.#transaction, found.chunks(), (rows) => ({
      kind: 'insert',
      table,
      rows: imagesOf(this.#info, rows),
    }))
    if (journaled !== count) throw new Error(`${count} rows were added to ${path}, ${journaled} were found`)
    this.#next += BigInt(count)
  }
}
