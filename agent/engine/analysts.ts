/**
 * Who works for queries, and for which of them next. Whatever commits goes first: so queries do not run where statements that write do (the event
 * loop, libuv's pool), but on threads of lower priority, which get what is left of the processors. A query's work is done in slices, in turns: a new query has
 * its first one at once, the others go round, so that neither a short query waits for a long one, nor a long one for ever.
 *
 * DuckDB's own workers would take tasks of any statement, also of one that writes, which then waits for a thread of low priority. There are none; a thread of
 * these that has nothing else to do takes tasks of anybody's while nothing commits, or where processors are idle anyway.
 */

import { waitUntil } from '../clock.ts'
import { type Laborer, type Order, type Report, taskState } from './task-thread.ts'

/** ms; a task of DuckDB's, 100,000 rows, may take as long. */
const slice = 5
/** ms until one looks again for a query of which others do all that there is to be done. */
const pause = 1
/** ms between two pieces of rows while somebody commits: whoever does meets the event loop half a dozen times, and would wait for a piece each time. */
const longestPause = 4
/** ms that a piece waits for commits at most, however many readers there are. */
const longestWait = 40
/** ms that queries wait for the first thread at most, all together. */
const patience = 5_000
/** Most threads are for slices, of which as many run as there are cores. A fetch that has to look long for its next rows cannot be put off; it must not keep all. */
const leastThreads = 4

interface Job {
  readonly order: Order
  readonly reported: PromiseWithResolvers<Report>
}

/** Of a piece of a query's rows, to be handled on the event loop. */
interface Turn {
  /** Asked for, `performance.now()`. */
  readonly since: number
  /** Whoever waits for it may be in the way of others. */
  readonly urgent: boolean
  give(): void
}

export interface AnalystsOptions {
  readonly cores: number
  /** duckdb_database */
  readonly database: bigint
  /** `waiting[0]`: how many orders wait for a thread. */
  start(waiting: Int32Array): Laborer
  /** Whether anything has been committed lately. */
  isBusy(): boolean
  /** Whether a commit is under way, or not durable yet. */
  isCommitting(): boolean
  /** There is one thread less. */
  failed(error: Error): void
}

export class Analysts {
  #options: AnalystsOptions
  #idle: Laborer[] = []
  #threads = 0
  #starting = false
  /** By when the first thread has started, or nobody waits for it any more; `performance.now()`. */
  #expected: number | undefined
  /** A thread could not be started: no other one can. */
  #hopeless = false
  #fresh: Job[] = []
  #round: Job[] = []
  /** Statements that DuckDB is at work for, of which somebody may take tasks. */
  #statements = 0
  #slices = 0
  #helpers = 0
  #turns: Turn[] = []
  #waiting = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))

  constructor(options: AnalystsOptions) {
    this.#options = options
  }

  /** False until the first thread has started, which `begin` sees to: until then, and without any, queries run where all else does. */
  get ready(): boolean {
    return this.#threads > 0
  }

  /** Resolves when the first thread has started, or will not. */
  async started(signal: AbortSignal | undefined): Promise<void> {
    this.begin()
    this.#expected ??= performance.now() + patience
    await waitUntil(() => this.ready || this.#hopeless, { deadline: this.#expected - performance.now(), every: 5, signal })
  }

  /** Starts a thread, if there may be one more. */
  begin(): void {
    if (this.#hopeless || this.#starting || this.#threads >= Math.max(this.#options.cores, leastThreads)) return
    this.#starting = true
    const failed = (error: Error) => {
      this.#hopeless = true
      this.#starting = false
      this.#lost(error)
    }
    try {
      const thread = this.#options.start(this.#waiting)
      thread.started.then(() => {
        this.#threads++
        this.#idle.push(thread)
        this.#starting = false
        this.#next()
      }, failed)
    } catch (error) {
      // The system gives no more threads.
      failed(error as Error)
    }
  }

  /** Works for a query that has begun (duckdb_pending_result) until it has rows, or an error: `taskState`; with the ms that it took. */
  async work(pending: bigint): Promise<{ state: number; ms: number }> {
    this.#statements++
    try {
      let ms = 0
      let jobs = this.#fresh
      for (;;) {
        const report = await this.#do({ do: 'work', pending, ms: slice }, jobs)
        ms += report.ms
        const { state } = report
        if (state === taskState.ready || state === taskState.error) return { state, ms }
        if (state === taskState.noTasks) await new Promise((resolve) => setTimeout(resolve, pause))
        jobs = this.#round
      }
    } finally {
      this.#statements--
    }
  }

  /** Fetches the next chunk of a streamed result (duckdb_result) into another (duckdb_data_chunk); resolves with its rows, 0 at the end. Throws as DuckDB does. */
  async fetch(result: bigint, into: bigint): Promise<number> {
    const { rows, error } = await this.#do({ do: 'fetch', result, into }, this.#fresh)
    if (error !== null) throw new Error(error)
    return rows
  }

  /** Helps with what runs elsewhere, until it has ended. */
  async assist(work: Promise<unknown>): Promise<void> {
    this.#statements++
    this.#next()
    await work.catch(() => {})
    this.#statements--
  }

  /**
   * Resolves when a piece of a query's rows may be handled on the event loop: one in each of its rounds, so that others have theirs in between, and, but for what
   * is `urgent`, few while somebody commits.
   */
  turn(urgent: boolean): Promise<void> {
    return new Promise((give) => {
      const turn = { since: performance.now(), urgent, give }
      if (urgent) this.#turns.unshift(turn)
      else this.#turns.push(turn)
      if (this.#turns.length === 1) this.#nextTurn()
    })
  }

  #nextTurn(begun = performance.now()): void {
    const [first] = this.#turns
    const now = performance.now()
    const waits = first?.urgent === false && now - begun < longestPause && now - first.since < longestWait && this.#options.isCommitting()
    if (waits) setTimeout(() => this.#nextTurn(begun), 1)
    else setImmediate(() => this.#giveTurn())
  }

  #giveTurn(): void {
    this.#turns.shift()?.give()
    if (this.#turns.length > 0) this.#nextTurn()
  }

  #do(order: Order, jobs: Job[]): Promise<Report> {
    // Nobody would ever come.
    if (this.#hopeless && this.#threads === 0) return Promise.reject(new Error('there is no thread for queries any more'))
    const reported = Promise.withResolvers<Report>()
    jobs.push({ order, reported })
    this.#next()
    return reported.promise
  }

  #next(): void {
    this.#giveOrders()
    Atomics.store(this.#waiting, 0, this.#fresh.length + this.#round.length)
  }

  #giveOrders(): void {
    for (let job = this.#pick(); job !== undefined; job = this.#pick()) {
      const thread = this.#idle.pop()
      if (thread === undefined) {
        this.begin()
        return
      }
      const jobs = this.#fresh.includes(job) ? this.#fresh : this.#round
      jobs.splice(jobs.indexOf(job), 1)
      void this.#run(thread, job)
    }
    if (!this.#mayHelp()) return
    const thread = this.#idle.pop()
    if (thread === undefined) this.begin()
    else void this.#help(thread)
  }

  /** The next one that may run now. While somebody commits, one core is left alone: who wakes up there need not wait until a query is pushed aside. */
  #pick(): Job | undefined {
    const { cores, isBusy } = this.#options
    const room = this.#slices < 1 || this.#slices < (isBusy() ? cores - 1 : cores)
    const may = ({ order }: Job) => room || order.do !== 'work'
    return this.#fresh.find(may) ?? this.#round.find(may)
  }

  #mayHelp(): boolean {
    const { cores, isBusy } = this.#options
    if (this.#statements === 0) return false
    return this.#slices + this.#helpers < (isBusy() ? cores - 2 : cores - (this.#slices === 0 ? 1 : 0))
  }

  async #run(thread: Laborer, { order, reported }: Job): Promise<void> {
    if (order.do === 'work') this.#slices++
    await this.#obey(thread, order).then(reported.resolve, reported.reject)
    if (order.do === 'work') this.#slices--
    this.#next()
  }

  async #help(thread: Laborer): Promise<void> {
    this.#helpers++
    await this.#obey(thread, { do: 'help', database: this.#options.database, ms: slice }).catch(() => {})
    this.#helpers--
    this.#next()
  }

  async #obey(thread: Laborer, order: Order): Promise<Report> {
    try {
      const report = await thread.obey(order)
      this.#idle.push(thread)
      return report
    } catch (error) {
      this.#threads--
      this.#lost(error as Error)
      throw error
    }
  }

  /** Without any threads there is nobody to wait for. */
  #lost(error: Error): void {
    this.#options.failed(error)
    if (this.#threads > 0) return
    for (const { reported } of [...this.#fresh.splice(0), ...this.#round.splice(0)]) reported.reject(error)
  }
}
