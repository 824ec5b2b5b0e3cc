/**
 * How large the groups of the buffers are (write-buffer.ts, transaction-buffer.ts). Clients that wait for an fsync send nothing: if all shared one group, DuckDB
 * would do nothing while the journal and the clients work, and they nothing while DuckDB does. So many clients are parted into two groups, which take turns. Few
 * share one, since a group of two costs DuckDB as much as one of ten: who was committed just now is waited for, if it mostly comes again at once (returns.ts).
 */

import { Returns } from './returns.ts'

/** Rows below which groups are not parted: about twice as many as cost a group of DuckDB's as much as its statement does by itself. */
const leastParted = 28
/** How fast clients that have left are forgotten: within ten groups or so. */
const decay = 0.8

export class Groups {
  #most: number
  /** Rows that DuckDB has and the disk not yet. */
  #afloat = 0
  /** Rows that have waited in one place or the other at a time, lately: as many clients. */
  #crowd = 0
  #returns: Returns

  /** `most`: rows of a group. */
  constructor(most: number, returns = new Returns()) {
    this.#most = most
    this.#returns = returns
  }

  /** Clients are so many that groups are parted. */
  get areMany(): boolean {
    return this.#crowd >= leastParted
  }

  /** Those who were answered a moment ago are worth waiting for. */
  get areComing(): boolean {
    return this.areMany || this.#returns.awaited > 0
  }

  /** One more waits. */
  came(caller: object): void {
    if (!this.areMany) this.#returns.came(caller)
  }

  /**
   * Whether a group closes, though others may come. Of many clients: as many wait as would come back from the flush that is under way, and a good part of all; a row
   * by itself costs as much as a group of several. Of few: half of them, and nobody else is about to come.
   */
  isDue(waiting: number): boolean {
    if (waiting >= this.#most) return true
    if (this.areMany) return waiting >= Math.max(this.#crowd / 4, this.#afloat)
    return this.#returns.awaited === 0 && waiting >= this.#crowd / 2
  }

  /** Others were waited for in vain: of few, they are forgotten at once. */
  gaveUp(waiting: number): void {
    if (this.areMany) return
    this.#returns.forget()
    this.#crowd = waiting + this.#afloat
  }

  /** How many of those that wait the next group takes. */
  share(waiting: number): number {
    this.#crowd = Math.max(this.#crowd * decay, waiting + this.#afloat)
    return this.areMany ? Math.min(this.#most, Math.ceil(this.#crowd / 2)) : this.#most
  }

  /** A row of each of `callers` was committed, while those of `waiting` wait; `durable` settles with their fsync. */
  committed(callers: readonly object[], durable: Promise<void>, waiting: readonly object[]): void {
    this.#afloat += callers.length
    // Whoever came after the group had closed waits now, and did not before.
    this.#crowd = Math.max(this.#crowd, waiting.length + this.#afloat)
    if (!this.areMany) this.#returns.committed(callers, waiting)
    else this.#returns.forget()
    const done = () => {
      this.#afloat -= callers.length
      if (!this.areMany) this.#returns.answered(callers)
    }
    durable.then(done, done)
  }
}
