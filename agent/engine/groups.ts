/**
 * How large the groups of the write buffer are. Clients that wait for an fsync send nothing: if all shared one group, DuckDB would do nothing while the
 * journal and the clients work, and they nothing while DuckDB does. So many clients are parted into two groups, which take turns. Few share one, since a group
 * of two costs DuckDB as much as one of ten: who has just been answered is waited for, if such clients mostly come again at once (returns.ts).
 */

import { Returns } from './returns.ts'

/** Rows below which groups are not parted: about twice as many as cost a group of DuckDB's as much as its statement does by itself. */
const leastParted = 28
/** Part of few clients that is as good as all. */
const nearlyAll = 0.95
/** How fast clients that have left are forgotten: within ten groups or so. */
const decay = 0.8

export class Groups {
  #most: number
  /** Rows that DuckDB has and the disk not yet. */
  #afloat = 0
  /** Rows that have waited in one place or the other at a time, lately: as many clients. */
  #crowd = 0
  #returns = new Returns()

  /** `most`: rows of a group. */
  constructor(most: number) {
    this.#most = most
  }

  get areMany(): boolean {
    return this.#crowd >= leastParted
  }

  /** Those who were answered a moment ago are worth waiting for. */
  get areComing(): boolean {
    return this.areMany || this.#returns.areUsual
  }

  /** One more waits. */
  came(caller: object): void {
    if (!this.areMany) this.#returns.came(caller)
  }

  /**
   * Whether a group closes, though others may come: as many wait as would come back from the flush that is under way, and a good part of all.
   * A row by itself costs as much as a group of several.
   */
  isDue(waiting: number): boolean {
    return waiting >= Math.min(this.#most, Math.max(this.#crowd * this.#part, this.#afloat))
  }

  get #part(): number {
    if (this.areMany) return 1 / 4
    return this.#returns.areUsual ? nearlyAll : 1 / 2
  }

  /** Others were waited for in vain: of few, they are forgotten at once. */
  gaveUp(waiting: number): void {
    if (!this.areMany) this.#crowd = waiting + this.#afloat
  }

  /** How many of those that wait the next group takes. */
  share(waiting: number): number {
    this.#crowd = Math.max(this.#crowd * decay, waiting + this.#afloat)
    return this.areMany ? Math.min(this.#most, Math.ceil(this.#crowd / 2)) : this.#most
  }

  /** A row of each of them was committed; `durable` settles with their fsync. */
  committed(callers: readonly object[], durable: Promise<void>): void {
    this.#afloat += callers.length
    const done = () => {
      this.#afloat -= callers.length
      if (!this.areMany) this.#returns.answered(callers)
    }
    durable.then(done, done)
  }
}
