/**
 * How large the groups of the write buffer are. Clients that wait for an fsync send nothing: if all shared one group, DuckDB would do nothing while the
 * journal and the clients work, and they nothing while DuckDB does. So many clients are parted into two groups, which take turns.
 */

/** Rows, about as many as cost a group of DuckDB's as much as its statement does by itself, below which groups are not parted. */
const leastParted = 16
/** How fast clients that have left are forgotten: within thirty groups or so. */
const decay = 0.95

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

  /**
   * Whether a group closes, though others may come: as many wait as would come back from the flush that is under way, and of many clients a good part.
   * A row costs a group as much as it costs by itself.
   */
  isDue(waiting: number): boolean {
    const part = this.#crowd < leastParted ? 1 : this.#crowd / 4
    return waiting >= Math.min(this.#most, Math.max(part, this.#afloat))
  }

  /** How many of those that wait the next group takes. */
  share(waiting: number): number {
    this.#crowd = Math.max(this.#crowd * decay, waiting + this.#afloat)
    return this.#crowd < leastParted ? this.#most : Math.min(this.#most, Math.ceil(this.#crowd / 2))
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
