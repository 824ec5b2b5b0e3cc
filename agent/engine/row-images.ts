/**
 * The last images of rows that were changed by key: with the one before an UPDATE, the one after it need not be read from DuckDB, where the expressions
 * are simple (simple-update.ts). An UPDATE changes the row as it was committed last, or its transaction is refused (row-conflicts.ts); so it is enough to keep
 * the images of that, in the order of the commits, and to forget whatever else was changed.
 */

import { asRows, bytesOf, type Cell, type Change, type Table } from '../journal/types.ts'
import { keyedName, keyOf } from './row-conflicts.ts'
import type { Transaction } from './transaction.ts'

/** Rows that are kept of a table, and their largest size, bytes: 10 MB for a table. */
const mostRows = 10_000
const mostBytes = 1_000
const mostTables = 16

/** More rows of a change are not looked for one by one. */
const fewRows = 64

/** By table and key; a key's text is that of row-conflicts.ts. */
export class KnownRows {
  #tables = new Map<string, Map<string, readonly Cell[]>>()

  get(table: string, key: string): readonly Cell[] | undefined {
    return this.#tables.get(table)?.get(key)
  }

  /** Larger ones are not kept. */
  set(table: string, key: string, image: readonly Cell[]): void {
    this.forget(table, key)
    if (bytesOf(asRows(image)) > mostBytes) return
    let rows = this.#tables.get(table)
    if (rows === undefined) {
      if (this.#tables.size === mostTables) this.#tables.clear()
      rows = new Map()
      this.#tables.set(table, rows)
    }
    rows.set(key, image)
    const [oldest] = rows.keys()
    if (rows.size > mostRows && oldest !== undefined) rows.delete(oldest)
  }

  /** `key` undefined: all of the table. */
  forget(table: string, key?: string): void {
    if (key === undefined) this.#tables.delete(table)
    else this.#tables.get(table)?.delete(key)
  }

  /** What a change has made of its rows is not known from it. */
  forgetChanged(change: Change): void {
    if (this.#tables.size === 0 || !('table' in change) || change.kind === 'insert') return
    const name = keyedName(change.table)
    const { rows } = change
    if (rows.count > fewRows) this.forget(name)
    else for (let row = 0; row < rows.count; row++) this.forget(name, keyOf(change, row))
  }

  clear(): void {
    this.#tables.clear()
  }

  *entries(): Generator<readonly [string, string, readonly Cell[]]> {
    for (const [table, rows] of this.#tables) for (const [key, image] of rows) yield [table, key, image]
  }
}

export class RowImages {
  #committed = new KnownRows()
  /** Of the last commit that left an image of the row, by the image. */
  #seqs = new WeakMap<readonly Cell[], number>()

  /** The row as this transaction would change it, all columns of the table; undefined where that is not known. */
  before(transaction: Transaction, table: Table, key: string): readonly Cell[] | undefined {
    // The columns are others, and nothing that was committed says what is in them.
    if (transaction.schemaChanged) return undefined
    const name = keyedName(table)
    const own = transaction.known.get(name, key)
    if (own !== undefined || transaction.written.has(name, key)) return own
    const image = this.#committed.get(name, key)
    // A row that this transaction does not see is not the one that it changes.
    return image !== undefined && (this.#seqs.get(image) as number) <= transaction.startSeq ? image : undefined
  }

  /** Seq of the commit that left this image; 0 for one of a transaction's own. */
  seqOf(image: readonly Cell[]): number {
    return this.#seqs.get(image) ?? 0
  }

  /** In the order of commits, and before the next one. */
  committed(transaction: Transaction, seq: number): void {
    if (transaction.schemaChanged) {
      this.#committed.clear()
      return
    }
    for (const [table, keys] of transaction.written.tables) {
      if (keys === 'all') this.#committed.forget(table)
      else for (const key of keys) this.#committed.forget(table, key)
    }
    for (const [table, key, image] of transaction.known.entries()) {
      this.#committed.set(table, key, image)
      this.#seqs.set(image, seq)
    }
  }
}
