/**
 * What one session has open in DuckDB: since when, what it can see of the database, and whether it is at work. A transaction that idles for too
 * long ends its session here; who stands in the way of a checkpoint is found by it (blockers.ts).
 */

import type { Block } from './block.ts'
import type { Pass } from './gate.ts'
import type { Interruption } from './interruption.ts'
import type { Client } from './pgwire/backend.ts'
import { SqlError } from './sql-error.ts'

/** A transaction, or a query outside of one for as long as its rows are read. */
export interface OpenWork {
  /** `performance.now()` */
  readonly openedAt: number
  /** Every commit after this seq is later than its snapshot; undefined before it has looked at the database. */
  readonly snapshotSeq: number | undefined
  /** Its place at the gate, if it writes. */
  readonly pass: Pass
  /** DuckDB has ended it. */
  readonly ended: boolean
}

/** Whose it is, as an operator knows them. */
export interface Who {
  readonly user: string
  /** `application_name`; may be empty. */
  readonly application: string
  /** As the client knows its backend's. */
  readonly pid: number
}

/** Names are the client's own, and are shown to the operator. */
const longestName = 64

interface PresenceOptions {
  readonly client: Client
  readonly block: Block
  readonly interruption: Interruption
  /** What the session's timeout of that name is, ms; 0: none. */
  timeout(name: string): number
  /** Seq of the last commit. */
  lastSeq(): number
}

export class Presence {
  readonly who: Who
  #options: PresenceOptions
  #query: { -readonly [Key in keyof OpenWork]: OpenWork[Key] } | undefined
  #running = 0
  #idleTimer: NodeJS.Timeout | undefined

  constructor(options: PresenceOptions) {
    this.#options = options
    const { user, applicationName, id } = options.client
    const printable = (name: string) => name.slice(0, longestName).replace(/\p{C}/gu, '?')
    this.who = { user: printable(user), application: printable(applicationName), pid: id }
  }

  /** What it has open in DuckDB, if anything. */
  get work(): OpenWork | undefined {
    return this.#options.block.transaction ?? this.#query
  }

  /** `ending`: it is being committed or rolled back, which nobody must disturb, and will soon be gone. */
  get activity(): 'idle' | 'running' | 'ending' {
    if (this.#options.block.isEnding) return 'ending'
    return this.#running > 0 ? 'running' : 'idle'
  }

  /** Does what the client has asked for. It is idle when nothing of that kind is under way. */
  async working<T>(work: () => Promise<T>): Promise<T> {
    clearTimeout(this.#idleTimer)
    this.#running++
    try {
      return await work()
    } finally {
      if (--this.#running === 0) this.#startIdleTimer()
    }
  }

  /** Does it so that it can be stopped, at the latest after statement_timeout. */
  interruptible<T>(work: () => Promise<T>): Promise<T> {
    const { interruption, timeout } = this.#options
    return interruption.during(timeout('statement_timeout'), work)
  }

  /** DuckDB begins with a query: it has a snapshot from now on, the transaction's or one of its own. */
  querying(): void {
    const { block, lastSeq } = this.#options
    if (block.isOpen) return
    this.#query = { openedAt: performance.now(), snapshotSeq: lastSeq(), pass: { mode: 'none' }, ended: false }
  }

  /** DuckDB has ended it. */
  queried(): void {
    if (this.#query === undefined) return
    this.#query.ended = true
    this.#query = undefined
  }

  /** Interrupts what runs until it has ended; resolves with whether it failed with `reason`. */
  interrupt(reason: SqlError): Promise<boolean> {
    return this.#options.interruption.insist(reason)
  }

  /** Ends the session. */
  end(reason: SqlError): void {
    this.#options.client.end(reason)
  }

  close(): void {
    clearTimeout(this.#idleTimer)
  }

  #startIdleTimer(): void {
    const { block } = this.#options
    const timeout = this.#options.timeout('idle_in_transaction_session_timeout')
    if (!block.isOpen || timeout === 0) return
    this.#idleTimer = setTimeout(() => {
      // An error of the protocol may have ended it meanwhile.
      if (block.isOpen) this.end(idleError(`for ${timeout} ms`, 'commit sooner; an open transaction holds up checkpoints'))
    }, timeout)
  }
}

/** 25P03, which ends the session. */
export function idleError(why: string, hint: string): SqlError {
  return new SqlError('25P03', `terminating connection: idle in transaction ${why}`, { severity: 'FATAL', hint })
}
