/**
 * DuckDB lets one transaction delete a parent row while another inserts its child, and commits both. Here such a pair conflicts: by
 * parent table, between transactions that are open together, or where the other has committed since this one began. The loser gets 40001.
 */

import { SqlError } from './sql-error.ts'
import type { Transaction } from './transaction.ts'

interface ParentUse {
  /** Open transactions that deleted from the parent (or changed its keys). */
  deleters: Set<Transaction>
  /** Open transactions that wrote children of it. */
  referrers: Set<Transaction>
  lastDeleteSeq: number
  lastReferenceSeq: number
  /** How often somebody has deleted from it, committed or not. */
  deletions: number
}

export class ParentLocks {
  #parents = new Map<string, ParentUse>()

  /** `transaction` deletes rows of `parent` or changes their keys. */
  deleting(parent: string, transaction: Transaction): void {
    const use = this.#use(parent)
    const other = [...use.referrers].some((referrer) => referrer !== transaction)
    if (other || use.lastReferenceSeq > transaction.startSeq) throw conflict(parent)
    use.deleters.add(transaction)
    use.deletions++
  }

  /** `transaction` writes rows that reference `parents`. */
  referring(parents: readonly string[], transaction: Transaction): void {
    for (const parent of parents) {
      const use = this.#use(parent)
      const other = [...use.deleters].some((deleter) => deleter !== transaction)
      if (other || use.lastDeleteSeq > transaction.startSeq) throw conflict(parent)
      use.referrers.add(transaction)
    }
  }

  /** Whether it has deleted rows of one of `parents`, or changed their keys. */
  deletes(transaction: Transaction, parents: readonly string[]): boolean {
    return parents.some((parent) => this.#parents.get(parent)?.deleters.has(transaction))
  }

  /** Rises whenever somebody is about to delete rows of `parent`, or to change their keys: rows that were known to be there may be gone. */
  deletions(parent: string): number {
    return this.#parents.get(parent)?.deletions ?? 0
  }

  /** The transaction has ended; `seq` is undefined when it was rolled back. */
  release(transaction: Transaction, seq: number | undefined): void {
    for (const use of this.#parents.values()) {
      if (use.deleters.delete(transaction) && seq !== undefined) use.lastDeleteSeq = Math.max(use.lastDeleteSeq, seq)
      if (use.referrers.delete(transaction) && seq !== undefined) use.lastReferenceSeq = Math.max(use.lastReferenceSeq, seq)
    }
  }

  #use(parent: string): ParentUse {
    let use = this.#parents.get(parent)
    if (use === undefined) {
      use = { deleters: new Set(), referrers: new Set(), lastDeleteSeq: 0, lastReferenceSeq: 0, deletions: 0 }
      this.#parents.set(parent, use)
    }
    return use
  }
}

function conflict(parent: string): SqlError {
  return new SqlError('40001', `another transaction deletes from ${parent} while rows that reference it are written`, {
    hint: 'roll back and try again',
  })
}
