/** What a session is doing right now, and how it is stopped: by a client's cancel, by statement_timeout, or because a checkpoint waits for it. */

import { SqlError } from './sql-error.ts'

/** ms. An interrupt that comes just before DuckDB begins a statement is forgotten by it. */
const interval = 50

/** Work that is interrupted until it ends. */
interface Insistence {
  readonly reason: SqlError
  readonly timer: NodeJS.Timeout
  readonly ended: PromiseWithResolvers<boolean>
}

export class Interruption {
  #interrupt: () => void
  #controller: AbortController | undefined
  #insistence: Insistence | undefined

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

  /** Stops it again and again, until it has ended. Resolves then, with whether it failed with `reason`. */
  async insist(reason: SqlError): Promise<boolean> {
    if (this.#controller === undefined) return false
    if (this.#insistence === undefined) {
      const timer = setInterval(() => this.stop(reason), interval)
      this.#insistence = { reason, timer, ended: Promise.withResolvers() }
      this.stop(reason)
    }
    const { ended, reason: first } = this.#insistence
    return (await ended.promise) && first === reason
  }

  /** Does work that can be stopped, at the latest after `timeout` ms (0: never). Work inside of work has the outer one's time. */
  async during<T>(timeout: number, work: () => Promise<T>): Promise<T> {
    if (this.#controller !== undefined) return work()
    this.#controller = new AbortController()
    const timer = timeout === 0 ? undefined : setTimeout(() => void this.insist(tooLate(timeout)), timeout)
    let stopped = false
    try {
      return await work()
    } catch (error) {
      const reason = this.#insistence?.reason
      stopped = reason !== undefined && (error === reason || /^INTERRUPT Error/.test((error as Error).message))
      throw stopped ? reason : error
    } finally {
      clearTimeout(timer)
      clearInterval(this.#insistence?.timer)
      this.#insistence?.ended.resolve(stopped)
      this.#insistence = undefined
      this.#controller = undefined
    }
  }
}

function tooLate(timeout: number): SqlError {
  return new SqlError('57014', `canceling statement due to statement timeout (${timeout} ms)`, { hint: 'SET statement_timeout' })
}
