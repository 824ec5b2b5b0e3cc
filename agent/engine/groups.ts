/**
 * How large the groups of the write buffer are. Clients that wait for an fsync send nothing: if all shared one group, DuckDB would do nothing while the
 * journal and the clients work, and they nothing while DuckDB does. So many clients are parted into two groups, which take turns.
 */

/** Rows, about as many as cost a group of DuckDB's as much as its statement does by itself, below which groups are not parted. */
const leastParted = 16
/** How fast clients that have left are forgotten: within ten groups or so. */
const decay = 0.8

export class Groups {
  #most: number
  /** Rows that DuckDB has and the disk not yet. */
  #afloat = 0
  /** Rows that have waited in one place or the other at a time, lately: as many clients. */
  #crowd = 0

  /** `most`: rows of a group. */
  constructor(most: number) {
    this.#most = most
  }

  /** Clients are so many that those who were answered a moment ago are worth waiting for. */
  get areMany(): boolean {
    return this.#crowd >= leastParted
  }

  /**
   * Whether a group closes, though others may come: as many wait as would come back from the flush that is under way, and a good part of all.
   * A row by itself costs as much as a group of several.
   */
  isDue(waiting: number): boolean {
    const part = this.areMany ? this.#crowd / 4 : this.#crowd / 2
    return waiting >= Math.min(this.#most, Math.max(part, this.#afloat))
  }

  /** How many of those that wait the next group takes. */
  share(waiting: number): number {
    this.#crowd = Math.max(this.#crowd * decay, waiting + this.#afloat)
    return this.areMany ? Math.min(this.#most, Math.ceil(this.#crowd / 2)) : this.#most
  }

  /** So many were committed; `durable` settles with their fsync. */
  committed(rows: number, durable: Promise<void>): void {
    this.#afloat += rows
    const done = () => {
      this.#afloat -= rows
    }
    durable.then(done, done)
  }
}
