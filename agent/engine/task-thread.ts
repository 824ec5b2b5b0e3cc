/**
 * A thread that works for queries, or the one that writes (duckdb-thread.ts), as the event loop sees it: it gets orders about DuckDB's own objects, by their
 * addresses, and reports. Whoever gives an order keeps the objects until it is reported on.
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
  /** A statement (duckdb_prepared_statement), of whose answer only the number of changed rows is asked. */
  | { readonly do: 'execute'; readonly statement: bigint }

/** As the order was. */
export interface Report {
  /** work: `taskState` */
  readonly state: number
  /** fetch: rows of the chunk; 0 at the end. execute: rows that were changed. */
  readonly rows: number
  /** fetch: why there are none. execute: why it has failed. */
  readonly error: string | null
  /** Time that it took, ms. */
  readonly ms: number
}

/** duckdb_pending_state */
export const taskState = { ready: 0, notReady: 1, error: 2, noTasks: 3 } as const

/** What a thread is for. */
export interface ThreadRole {
  /** How it is called in `top -H`; 15 characters at most. */
  readonly name: string
  /** Only those for queries have it, and let all other threads go first: `[0]` says how many of their orders wait, and may change at any time. */
  readonly waiting?: Int32Array
}

export const threadNames = { query: 'query', write: 'write' } as const

/** What Analysts and WriteThread need of a thread. */
export interface Laborer {
  /** Resolves when it can take orders. Rejects when it never will. */
  readonly started: Promise<void>
  /** Resolves when it is gone, with the reason. */
  readonly ended: Promise<Error>
  /** One at a time. Rejects when the thread is gone. */
  obey(order: Order): Promise<Report>
}

export class TaskThread implements Laborer {
  readonly started: Promise<void>
  readonly ended: Promise<Error>
  #worker: Worker
  #waiting: PromiseWithResolvers<Report> | undefined
  #failure: Error | undefined

  constructor(role: ThreadRole) {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.started = promise
    const end = Promise.withResolvers<Error>()
    this.ended = end.promise
    this.#worker = startThread(role)
    this.#worker.once('message', () => {
      resolve()
      this.#worker.on('message', (report: Report) => this.#waiting?.resolve(report))
      // To listen to it is to wait for it: it keeps no process alive.
      this.#worker.unref()
    })
    const gone = (error: Error) => {
      this.#failure ??= error
      this.#waiting?.reject(this.#failure)
      reject(this.#failure)
      end.resolve(this.#failure)
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
