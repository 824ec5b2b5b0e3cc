/**
 * Work of many clients that is committed together: a group closes as soon as the previous flush has ended, or as much waits as that is for (groups.ts), at the
 * latest after `rows` entries or `maxDelay` ms; a client that is alone does not wait.
 */

import { Groups } from './groups.ts'

/** ms in which clients that have been answered mostly come again. */
const coming = 1

export interface GroupEntry {
  /** Whose it is: the same for all entries of a session. */
  readonly caller: object
}

export interface GroupQueueOptions<Entry extends GroupEntry> {
  /** Most entries of a group. */
  rows: number
  /** Longest wait for a group to close, ms. */
  maxDelay: number
  /** The flush that is under way, if there is one. */
  flush: () => Promise<void> | undefined
  /** Never rejects: each entry is told by itself. */
  commit: (group: readonly Entry[]) => Promise<void>
}

export class GroupQueue<Entry extends GroupEntry> {
  #options: GroupQueueOptions<Entry>
  #entries: Entry[] = []
  #groups: Groups
  #working = false
  #close: (() => void) | undefined

  constructor(options: GroupQueueOptions<Entry>) {
    this.#options = options
    this.#groups = new Groups(options.rows)
  }

  add(entry: Entry): void {
    this.#entries.push(entry)
    this.#groups.came(entry.caller)
    if (this.#groups.isDue(this.#entries.length)) this.#close?.()
    if (!this.#working) void this.#work()
  }

  /** These were committed; `durable` settles with their fsync. */
  committed(entries: readonly Entry[], durable: Promise<void>): void {
    this.#groups.committed(entries.map(callerOf), durable, this.#entries.map(callerOf))
  }

  async #work(): Promise<void> {
    this.#working = true
    try {
      while (this.#entries.length > 0) {
        await this.#closing()
        await this.#options.commit(this.#entries.splice(0, this.#groups.share(this.#entries.length)))
      }
    } finally {
      this.#working = false
    }
  }

  /** Waits for the group to close: at once when nothing is being flushed, and nobody else is about to come. */
  async #closing(): Promise<void> {
    const { maxDelay } = this.#options
    const flush = this.#options.flush()
    const since = performance.now()
    if (flush !== undefined) await this.#untilDue(maxDelay, flush)
    if (!this.#groups.areComing) return
    await this.#untilDue(Math.min(maxDelay - (performance.now() - since), coming))
    if (!this.#groups.isDue(this.#entries.length)) this.#groups.gaveUp(this.#entries.length)
  }

  /** Waits for `longest` ms at most, and no longer than to `end`. */
  async #untilDue(longest: number, end?: Promise<void>): Promise<void> {
    if (this.#groups.isDue(this.#entries.length) || longest <= 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, longest)
      this.#close = () => {
        clearTimeout(timer)
        resolve()
      }
      end?.then(this.#close, this.#close)
    })
    this.#close = undefined
  }
}

function callerOf({ caller }: GroupEntry): object {
  return caller
}
