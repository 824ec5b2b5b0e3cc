/**
 * The one thread that has DuckDB write what many clients have gathered: a group is followed by the next one at once. In libuv's pool each would be another
 * thread's, whose stack, and whose memory to hand out again, no cache of the processor holds any more. It starts when there is something for it;
 * until then, and where it cannot, groups are written in the pool.
 */

import type { Laborer } from './task-thread.ts'

export interface WriteThreadOptions {
  start(): Laborer
  /** There is none, and will be none. */
  failed(error: Error): void
}

export class WriteThread {
  #options: WriteThreadOptions
  #begun = false
  /** It can take an order. */
  #free: Laborer | undefined

  constructor(options: WriteThreadOptions) {
    this.#options = options
  }

  /**
   * Runs a statement (duckdb_prepared_statement) of whose answer no more is asked than how many rows it has changed. Undefined: there is no thread, or it is at work.
   * Rejects as DuckDB does; also where the thread ends meanwhile, and nobody knows what DuckDB has made of it.
   */
  execute(statement: bigint): Promise<number> | undefined {
    if (!this.#begun) {
      this.#begun = true
      // What it begins with need not wait for it.
      setImmediate(() => this.#begin())
    }
    const thread = this.#free
    return thread === undefined ? undefined : this.#execute(thread, statement)
  }

  async #execute(thread: Laborer, statement: bigint): Promise<number> {
    this.#free = undefined
    const { rows, error } = await thread.obey({ do: 'execute', statement })
    this.#free = thread
    if (error !== null) throw new Error(error)
    return rows
  }

  #begin(): void {
    try {
      const thread = this.#options.start()
      thread.started.then(
        () => {
          this.#free = thread
        },
        () => {},
      )
      void thread.ended.then((error) => {
        this.#free = undefined
        this.#options.failed(error)
      })
    } catch (error) {
      // The system gives no more threads.
      this.#options.failed(error as Error)
    }
  }
}
