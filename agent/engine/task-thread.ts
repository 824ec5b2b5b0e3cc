/**
 * A thread that works for queries (duckdb-thread.ts), as the event loop sees it: it gets orders about DuckDB's own objects, by their addresses, and
 * reports. Whoever gives an order keeps the objects until it is reported on.
 */

import type { Worker } from 'node:worker_threads'
import { startThread } from '../runtime.ts'

export type Order =
  /** Tasks of a query that has begun (duckdb_pending_result), for `ms`, and for longer while no other order waits. */
  | { readonly do: 'work'; readonly pending: bigint; readonly ms: number }
  /** The next chunk of a streamed result (duckdb_result), to which the vectors of another (duckdb_data_chunk) will refer. */
  | { readonly do: 'fetch'; readonly result: bigint; readonly into: bigint }
  /** Tasks of whoever has some in the queue of this duckdb_database, each to its end; none is begun after `ms`. */
  | { readonly do: 'help'; readonly database: bigint; readonly ms: number }

/** As the order was. */
export interface Report {
  /** work: `taskState` */
  readonly state: number
  /** fetch: rows of the chunk; 0 at the end. */
  readonly rows: number
  /** fetch: why there are none. */
  readonly error: string | null
  /** Time that it took, ms. */
  readonly ms: number
}

/** duckdb_pending_state */
export const taskState = { ready: 0, notReady: 1, error: 2, noTasks: 3 } as const

/** How the threads are called in `top -H`; 15 characters at most. */
export const threadName = 'query'

/** What Analysts needs of a thread. */
export interface Laborer {
  /** Resolves when it can take orders. Rejects when it never will. */
  readonly started: Promise<void>
  /** One at a time. Rejects when the thread is gone. */
  obey(order: Order): Promise<Report>
}

export class TaskThread implements Laborer {
  readonly started: Promise<void>
  #worker: Worker
  #waiting: PromiseWithResolvers<Report> | undefined
  #failure: Error | undefined

  /** `waiting[0]`: how many orders wait for a thread; it may change at any time. */
  constructor(waiting: Int32Array) {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.started = promise
    this.#worker = startThread(waiting)
    this.#worker.once('message', () => {
      resolve()
      this.#worker.on('message', (report: Report) => this.#waiting?.resolve(report))
    })
    const gone = (error: Error) => {
      this.#failure ??= error
      this.#waiting?.reject(this.#failure)
      reject(this.#failure)
    }
    this.#worker.on('error', gone)
    this.#worker.on('exit', (code) => gone(new Error(`the thread ended (${code})`)))
    this.#worker.unref()
  }

  obey(order: Order): Promise<Report> {
    this.#waiting = Promise.withResolvers<Report>()
    if (this.#failure === undefined) this.#worker.postMessage(order)
    else this.#waiting.reject(this.#failure)
    return this.#waiting.promise
  }
}
