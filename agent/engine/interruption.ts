/** What a session is doing right now, and how it is stopped: by a client's cancel, or by statement_timeout. */

import { SqlError } from './sql-error.ts'

/** ms. An interrupt that comes just before DuckDB begins a statement is forgotten by it. */
const interval = 50

export class Interruption {
  #interrupt: () => void
  #controller: AbortController | undefined

  /** `interrupt` stops what DuckDB does; nothing if it must not be stopped now. */
  constructor(interrupt: () => void) {
    this.#interrupt = interrupt
  }

  /** Aborts when the work under way is to stop. */
  get signal(): AbortSignal | undefined {
    return this.#controller?.signal
  }

  /** Stops the work under way, if there is any. */
  stop(reason: SqlError): void {
    if (this.#controller === undefined) return
    this.#controller.abort(reason)
    this.#interrupt()
  }

  /** Does work that can be stopped, at the latest after `timeout` ms (0: never). Work inside of work has the outer one's time. */
  async during<T>(timeout: number, work: () => Promise<T>): Promise<T> {
    if (this.#controller !== undefined) return work()
    this.#controller = new AbortController()
    const late = new SqlError('57014', `canceling statement due to statement timeout (${timeout} ms)`, { hint: 'SET statement_timeout' })
    let again: NodeJS.Timeout | undefined
    const timer = timeout === 0 ? undefined : setTimeout(() => (again = setInterval(() => this.stop(late), interval)), timeout)
    try {
      return await work()
    } catch (error) {
      if (again !== undefined && /^INTERRUPT Error/.test((error as Error).message)) throw late
      throw error
    } finally {
      clearTimeout(timer)
      clearInterval(again)
      this.#controller = undefined
    }
  }
}
