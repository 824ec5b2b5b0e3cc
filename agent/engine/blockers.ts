/**
 * Who stands in the way of a checkpoint, and how that ends. A checkpoint needs the gate for itself: every transaction with changes holds it up. And DuckDB
 * refuses one while a transaction is open whose snapshot is older than a committed UPDATE or schema change (tried, one by one: not an INSERT, a DELETE, or what
 * was rolled back; a draw from a sequence only until it is committed). DuckDB does not say which; but when nobody writes, the oldest snapshot is always one of them, and when it has ended, those that are left are in the way only if
 * DuckDB refuses again. So a reader that is not in the way is left alone.
 *
 * Past a bound of time, or when memory is short, the oldest is ended, one at a time, the checkpoint being tried after each: with 25P03 and its session where
 * it idles, else with 40001 and its statement. Never while it commits or rolls back: of an interrupted COMMIT nobody knows whether it has happened.
 */

import { type Clock, waitUntil } from '../clock.ts'
import { DaemonGuardError } from '../errors.ts'
import type { Log } from '../log.ts'
import type { EngineStatus } from '../plugin.ts'
import { idleError, type OpenWork, type Presence, type Who } from './presence.ts'
import { SqlError } from './sql-error.ts'

/** Transactions with changes, at the gate; or snapshots that are too old, in DuckDB. */
export type Obstacle = 'writers' | 'readers'

/** How long a checkpoint may not have been asked for before its being refused counts from the beginning again, ms. The checkpointer asks every 20 s or less. */
const forgottenAfter = 60_000
/** How long one that is ended may take to be gone, ms. An interrupted statement rolls back what it has done. */
const patience = 30_000
/** How long a statement may take to notice that it is interrupted, ms: one that waits for its client to read does not. */
const deafAfter = 5_000

/** ms */
const often = 5

/** A checkpoint was refused, harmlessly. */
export class ObstructedError extends DaemonGuardError {
  readonly obstacle: Obstacle

  constructor(obstacle: Obstacle, who: string, cause: unknown) {
    super(`open transactions stand in the way of a checkpoint: ${who}`, {
      hint: 'end them (COMMIT or ROLLBACK); it is tried again',
      cause,
    })
    this.obstacle = obstacle
  }
}

export interface BlockersOptions {
  readonly presences: Iterable<Presence>
  /** Seq of the last commit that DuckDB may keep from the file while an older snapshot is open. */
  lastChange(): number
  /** How long a checkpoint may be refused, ms. */
  readonly timeout: number
  /** Memory is so short that nobody can wait for that long. */
  memoryShort(): Promise<boolean>
  readonly clock: Clock
  readonly log: Log
}

type Found = { readonly presence: Presence; readonly work: OpenWork }

export class Blockers {
  #options: BlockersOptions
  #ended = 0
  #last: EngineStatus['lastBlockerEnded'] = null
  /** Since when a checkpoint has been due and refused, and when it was refused last. Monotonic. */
  #refused: { readonly since: number; at: number } | undefined

  constructor(options: BlockersOptions) {
    this.#options = options
  }

  get facts(): Pick<EngineStatus, 'blockersEnded' | 'lastBlockerEnded'> {
    return { blockersEnded: this.#ended, lastBlockerEnded: this.#last }
  }

  /** A checkpoint is due, and was refused the last time. */
  get blocked(): boolean {
    return this.#refused !== undefined && this.#options.clock.monotonic() - this.#refused.at < forgottenAfter
  }

  /** A checkpoint has succeeded. */
  cleared(): void {
    this.#refused = undefined
  }

  /** The oldest that is in the way, in words without anything of its SQL. */
  describe(obstacle: Obstacle): string {
    const found = this.#oldest(obstacle, Number.POSITIVE_INFINITY)
    if (found === undefined) return 'they will soon be gone'
    const { presence, work } = found
    return `the oldest is of ${nameOf(presence.who)}, open for ${seconds(this.#options.clock.monotonic() - work.openedAt)}, ${presence.activity}`
  }

  /**
   * What comes of a refusal. `attemptedAt` (monotonic): when this checkpoint was asked for; whoever came later is not ended for it. Resolves with
   * true when a bound is passed and the oldest that was in the way has gone: it is to be tried again.
   */
  async makeWay(obstacle: Obstacle, attemptedAt: number): Promise<boolean> {
    const { clock, timeout, memoryShort } = this.#options
    const since = this.blocked ? (this.#refused?.since ?? attemptedAt) : attemptedAt
    this.#refused = { since, at: clock.monotonic() }
    const refusedFor = clock.monotonic() - since
    const late = refusedFor >= timeout
    if (!late && !(await memoryShort())) return false
    const found = this.#oldest(obstacle, attemptedAt)
    if (found === undefined) return false
    // A statement that writes may be what takes the memory: it soon ends, one way or the other, and would take as much when it is tried again.
    if (!late && obstacle === 'writers' && found.presence.activity === 'running') return false
    const why = late ? `a checkpoint had been refused for ${seconds(refusedFor)}` : 'a checkpoint was refused, and memory is short'
    await this.#end(found, why)
    return this.#gone(found, patience)
  }

  #oldest(obstacle: Obstacle, before: number): Found | undefined {
    const found: Found[] = []
    for (const presence of this.#options.presences) {
      const { work } = presence
      if (work === undefined || work.openedAt >= before) continue
      const { pass, snapshotSeq = Number.POSITIVE_INFINITY } = work
      if (obstacle === 'writers' ? pass.mode !== 'none' : snapshotSeq < this.#options.lastChange()) found.push({ presence, work })
    }
    const age = ({ work }: Found) => (obstacle === 'writers' ? 0 : (work.snapshotSeq ?? 0))
    return found.sort((a, b) => age(a) - age(b) || a.work.openedAt - b.work.openedAt)[0]
  }

  async #end(found: Found, why: string): Promise<void> {
    const { presence, work } = found
    const hint = 'keep transactions short: engine.blocked_checkpoint_timeout in config.yaml'
    while (!work.ended && presence.activity === 'running') {
      const conflict = new SqlError('40001', `rolled back, because ${why}, and this stood in the way`, { hint: `try again; ${hint}` })
      const over = new AbortController()
      const heard = await Promise.race([presence.interrupt(conflict), this.#options.clock.sleep(deafAfter, over.signal)])
      over.abort()
      if (heard === true) return this.#count(found, '40001', why)
      if (heard === undefined) break
      // It has ended just now, by itself.
      await this.#options.clock.sleep(often)
    }
    // By itself, or it is about to: nothing is done to it.
    if (work.ended || presence.activity === 'ending') return
    presence.end(idleError(`while ${why}, and this stood in the way`, hint))
    this.#count(found, '25P03', why)
  }

  #count({ presence, work }: Found, code: '25P03' | '40001', why: string): void {
    const { clock, log } = this.#options
    this.#ended++
    this.#last = { at: clock.now(), ...presence.who, code, why }
    log.warn({ ...presence.who, code, openForMs: Math.round(clock.monotonic() - work.openedAt) }, `a transaction was ended: ${why}`)
  }

  #gone({ work }: Found, deadline: number): Promise<boolean> {
    return waitUntil(() => work.ended, { deadline, every: often })
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}

/** `user trader (psql, pid 4711)` */
export function nameOf({ user, application, pid }: Who): string {
  return `user ${user} (${application === '' ? '' : `${application}, `}pid ${pid})`
}
