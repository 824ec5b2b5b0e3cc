/**
 * Where a call of DuckDB's runs: in libuv's thread pool, beside the event loop, or on the event loop itself. A small one costs half as much there; but
 * a second core does nothing for it, so that is for whoever is alone, and not while a call in the pool may hold DuckDB's locks for long.
 */

import type { Analysts } from './analysts.ts'
import type { DirectCalls } from './duckdb-direct.ts'
import type { WriteThread } from './write-thread.ts'

/** ms after which a call in the pool gets help: it is too large for one thread. */
const patience = 20

export class Calls {
  /** Calls on the event loop; undefined where they are not to be had. */
  readonly direct: DirectCalls | undefined
  /** Who helps, once there is somebody. */
  analysts: Analysts | undefined
  /** Who writes what has gathered, once there is somebody. */
  writing: WriteThread | undefined
  /** Calls in the pool that others may have to wait for. */
  #holding = 0
  /** Small calls in the pool. */
  #small = 0
  /** Who has called from this turn of the event loop. */
  #caller: object | undefined

  constructor(direct: DirectCalls | undefined) {
    this.direct = direct
  }

  /** Nothing in the pool holds DuckDB's locks for long: who calls from the event loop need not wait. */
  get isFree(): boolean {
    return this.#holding === 0
  }

  /** For what takes a few microseconds, or what others wait for: the event loop, where that is possible now. */
  get here(): DirectCalls | undefined {
    return this.isFree ? this.direct : undefined
  }

  /** For a small call of `caller`: the event loop if nobody else wants DuckDB now, else undefined. */
  alone(caller: object): DirectCalls | undefined {
    if (this.#small > 0 || (this.#caller !== undefined && this.#caller !== caller)) return undefined
    if (this.#caller === undefined) {
      this.#caller = caller
      setImmediate(() => {
        this.#caller = undefined
      })
    }
    return this.here
  }

  /** A call in the pool; what takes long gets help. */
  async pool<T>(call: () => Promise<T>): Promise<T> {
    const { analysts } = this
    const doing = call()
    if (analysts === undefined) return doing
    const timer = setTimeout(() => void analysts.assist(doing), patience)
    try {
      return await doing
    } finally {
      clearTimeout(timer)
    }
  }

  /** A small one that changes rows, and resolves with how many: in the thread for it, where that is free, else in the pool. */
  write(statement: bigint | undefined, pooled: () => Promise<number>): Promise<number> {
    return this.small(() => (statement === undefined ? undefined : this.writing?.execute(statement)) ?? pooled())
  }

  /** A small one. */
  async small<T>(call: () => Promise<T>): Promise<T> {
    this.#small++
    try {
      return await call()
    } finally {
      this.#small--
    }
  }

  /** One that others may have to wait for inside DuckDB: a large commit, a checkpoint. */
  async hold<T>(call: () => Promise<T>): Promise<T> {
    this.#holding++
    try {
      return await this.pool(call)
    } finally {
      this.#holding--
    }
  }
}
