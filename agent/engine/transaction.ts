/** One client transaction while it is open: its changes so far, its pass at the gate, and what it did to parents and children. */

import { TransactionEncoder } from '../journal/record.ts'
import type { Change } from '../journal/types.ts'
import type { Pass } from './gate.ts'

export class Transaction {
  readonly pass: Pass = { mode: 'none' }
  /** Last seq that DuckDB had committed when this transaction began. */
  readonly startSeq: number
  /** True for BEGIN … COMMIT; false for one that a single statement or an extended-query cycle needs. */
  explicit: boolean
  schemaChanged = false
  /** Sequence positions that it journals, by `schema.name`. */
  readonly drawn = new Map<string, bigint>()
  #encoder: TransactionEncoder | undefined

  constructor(startSeq: number, explicit: boolean) {
    this.startSeq = startSeq
    this.explicit = explicit
  }

  get hasChanges(): boolean {
    return this.#encoder !== undefined
  }

  add(change: Change): void {
    if ('rows' in change && change.rows.count === 0) return
    this.#encoder ??= new TransactionEncoder()
    this.#encoder.add(change)
  }

  finish() {
    return (this.#encoder ?? new TransactionEncoder()).finish()
  }
}
