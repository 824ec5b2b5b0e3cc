/**
 * The rows that statements of a transaction add to a table, read afterwards by their numbers: RETURNING would hold all of them in memory, beyond
 * DuckDB's limit. DuckDB numbers what is not committed yet in order of addition, from a number on that no committed row has.
 */

import { bytesOf } from '../journal/types.ts'
import { addChanges, imagesOf } from './capture.ts'
import type { TableInfo } from './catalog.ts'
import type { Executor } from './executor.ts'
import type { Transaction } from './transaction.ts'

/** MAX_ROW_ID in DuckDB's source. */
const firstAddedRow = 36_028_797_018_960_000n
/** Rows that are read first, to see how large they are; and as many as it makes no sense to read apart. */
const fewRows = 64
export const manyRows = 2048
/** Bytes that are read at a time, about, where rows are large. */
const togetherBytes = 8 << 20

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

  /** The last statement has added `count` rows which are journaled already. */
  skip(count: number): void {
    this.#next += BigInt(count)
  }

  /**
   * Journals the rows that the last statement has added, `count` by DuckDB's own count. Large ones are read a few at a time: of 2,048 rows,
   * which DuckDB hands over otherwise, it does not count the values. `together`: rows that are known to be small enough to be read in one go.
   */
  async journal(count: number, together = fewRows): Promise<void> {
    const { table, path } = this.#info
    const end = this.#next + BigInt(count)
    while (this.#next < end) {
      const last = together >= manyRows || this.#next + BigInt(together) > end ? end : this.#next + BigInt(together)
      const wanted = Number(last - this.#next)
      const sql = `SELECT * FROM ${path} WHERE rowid >= ${this.#next}${last === end ? '' : ` AND rowid < ${last}`}`
      const found = await this.#executor.run(sql, [], { stream: true })
      let bytes = 0
      const journaled = await addChanges(this.#transaction, found.chunks(), (rows) => {
        const images = imagesOf(this.#info, rows)
        bytes += bytesOf(images)
        return { kind: 'insert', table, rows: images }
      })
      if (journaled !== wanted) throw new Error(`${wanted} rows were added to ${path}, ${journaled} were found`)
      this.#next = last
      together = Math.max(1, Math.min(manyRows, 4 * wanted, Math.floor((togetherBytes * wanted) / bytes)))
    }
  }
}
