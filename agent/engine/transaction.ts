/** One client transaction while it is open: its changes so far, its pass at the gate, and what it saw of the database. */

import { TransactionEncoder } from '../journal/record.ts'
import type { Change } from '../journal/types.ts'
import type { Pass } from './gate.ts'
import { WrittenRows } from './row-conflicts.ts'

export class Transaction {
  readonly pass: Pass = { mode: 'none' }
  /** True for BEGIN … COMMIT; false for one that a single statement or an extended-query cycle needs. */
  explicit: boolean
  schemaChanged = false
  /** Sequence positions that it journals, by `schema.name`. */
  readonly drawn = new Map<string, bigint>()
  /** Rows that it changed or deleted. */
  readonly written = new WrittenRows()
  #seen: { readonly seq: number; readonly catalogVersion: number } | undefined
  #encoder: TransactionEncoder | undefined

  constructor(explicit: boolean) {
    this.explicit = explicit
  }

  /** DuckDB takes a transaction's snapshot at its first look at the database: what had been committed then. Later calls change nothing. */
  see(seq: number, catalogVersion: number): void {
    this.#seen ??= { seq, catalogVersion }
  }

  /** Every seq up to this one is in its snapshot. */
  get startSeq(): number {
    return this.#seen?.seq ?? 0
  }

  /** Version of the schema in its snapshot; -1 before there is one. */
  get catalogVersion(): number {
    return this.#seen?.catalogVersion ?? -1
  }

  get hasChanges(): boolean {
    return this.#encoder !== undefined
  }

  add(change: Change): void {
    if ('rows' in change && change.rows.count === 0) return
    this.#encoder ??= new TransactionEncoder()
    this.#encoder.add(change)
    this.written.add(change)
  }

  finish() {
    return (this.#encoder ?? new TransactionEncoder()).finish()
  }
}
