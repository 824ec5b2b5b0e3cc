/**
 * Whether memory is short because of what only a checkpoint gives back: the old versions of updated rows, for as long as a snapshot may want them, and the new ones
 * until they are in the file. DuckDB can evict neither, counts them as ALLOCATOR and TRANSACTION, and fails statements and COMMITs when
 * they fill its limit. Everything else that it holds (blocks of the file, rows that were inserted) makes room when it must.
 */

import type { Connection } from './duckdb.ts'

/** Part of DuckDB's limit from which on it is short. */
const shortage = 0.75
/** ms between looks, and after one that was to no avail */
const interval = 250
const pause = 5_000

const held = "SELECT coalesce(sum(memory_usage_bytes), 0) FROM duckdb_memory() WHERE tag IN ('ALLOCATOR', 'TRANSACTION')"

export interface MemoryWatchOptions {
  /** What DuckDB may take, bytes. */
  readonly limit: number
  connect(): Promise<Connection>
}

export class MemoryWatch {
  #options: MemoryWatchOptions
  #connection: Promise<Connection> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(options: MemoryWatchOptions) {
    this.#options = options
  }

  async short(): Promise<boolean> {
    const least = this.#options.limit * shortage
    // What DuckDB holds is a part of that, and it costs nothing to know.
    if (process.memoryUsage.rss() < least) return false
    this.#connection ??= this.#options.connect()
    const [row] = await (await this.#connection).all(held)
    return Number(row?.[0]) >= least
  }

  /** Looks again and again while `wanted()`, and calls `onShort` whenever memory is short. One at a time: a second call goes on with the first. */
  during(wanted: () => boolean, onShort: () => Promise<unknown>, after = interval): void {
    this.#timer ??= setTimeout(async () => {
      const isShort = wanted() && (await this.short().catch(() => false))
      if (isShort) await onShort().catch(() => {})
      this.#timer = undefined
      if (wanted()) this.during(wanted, onShort, isShort ? pause : interval)
    }, after).unref()
  }
}
