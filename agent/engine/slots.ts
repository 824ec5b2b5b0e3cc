/**
 * How many statements run at once. DuckDB's calls occupy threads of libuv's pool, where fsyncs and COMMITs run as well: queries that are not for
 * the threads of analysts.ts, and those that fill temporary tables, may have half of them and statements that write a quarter, so that the committing path finds a free
 * one. Whoever comes later waits, in order. A statement counts until its first rows: what a stream of the pool's reads after that does not, nor does a spill's fsync.
 */

export class Slots {
  #count: number
  #free: number
  #waiting: (() => void)[] = []

  constructor(count: number) {
    this.#count = count
    this.#free = count
  }

  /** Something runs. */
  get isUsed(): boolean {
    return this.#free < this.#count
  }

  /** Runs `work` when there is a slot. Throws the signal's reason when it aborts before that. */
  async run<T>(work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    signal?.throwIfAborted()
    if (this.#free > 0) this.#free--
    else await this.#turn(signal)
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free++
      else next()
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const giveUp = () => {
        this.#waiting = this.#waiting.filter((other) => other !== admit)
        reject(signal?.reason)
      }
      const admit = () => {
        signal?.removeEventListener('abort', giveUp)
        resolve()
      }
      signal?.addEventListener('abort', giveUp, { once: true })
      this.#waiting.push(admit)
    })
  }
}

export interface StatementSlots {
  readonly queries: Slots
  readonly writes: Slots
  readonly temporaries: Slots
}

/** For a pool of `threads`, which is libuv's own 4 unless UV_THREADPOOL_SIZE says otherwise. */
export function statementSlots(threads = Number(process.env.UV_THREADPOOL_SIZE ?? 4)): StatementSlots {
  const part = (of: number) => Math.max(1, Math.floor(threads / of))
  const temporaries = part(8)
  return { queries: new Slots(Math.max(1, part(2) - temporaries)), writes: new Slots(part(4)), temporaries: new Slots(temporaries) }
}
