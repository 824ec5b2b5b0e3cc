/**
 * Brings Redis after the journal and keeps it there. Redis itself says where it is (its watermark): the cursor only says what the journal
 * must keep. After any doubt (a lost connection, a batch whose answer never came) the mirror reads the watermark again and goes on from there.
 */

import { Redis, ReplyError } from 'ioredis'
import { Backoff } from '../../agent/delivery.ts'
import { messageOf } from '../../agent/errors.ts'
import type { Incident, JournalConsumer, PluginContext, PluginHealth } from '../../agent/plugin.ts'
import { followSchema, removeAllRows } from './keyspace.ts'
import { Keys } from './row.ts'
import { applyUnit, type Position } from './script.ts'
import { defaultLimits, type Limits, type UnitSettings, units } from './units.ts'

export interface MirrorOptions {
  readonly url: string
  readonly retention: number
  readonly selected: UnitSettings['selected']
  readonly limits?: Limits
}

/** Pauses between attempts, ms. */
const pauses = [100, 250, 500, 1_000, 2_000, 5_000]
/** Attempts that fail in a row before the operator is told. */
const failuresBeforeAlert = 5

/** Redis holds something that must not be overwritten, or is ahead of the journal: only an operator can decide. */
class Refusal extends Error {
  readonly cause_: string
  readonly hint: string
  constructor(cause: string, message: string, hint: string) {
    super(message)
    this.cause_ = cause
    this.hint = hint
  }
}

export class Mirror {
  readonly #context: PluginContext
  readonly #consumer: JournalConsumer
  readonly #options: MirrorOptions
  readonly #keys: Keys
  readonly #abort = new AbortController()
  readonly #knownTables = new Map<string, string>()
  readonly #backoff: Backoff
  #redis: Redis | null = null
  #position: Position = null
  #connected = false
  #lastError: string | null = null
  #lastDelivery: { seq: number; time: number; at: number } | null = null
  #rows = 0
  #incident: Incident | null = null
  /** The last failure was Redis answering with an error, not a lost connection. */
  #refused = false
  #done: Promise<void> = Promise.resolve()

  constructor(context: PluginContext, options: MirrorOptions) {
    this.#context = context
    this.#options = options
    this.#keys = new Keys(context.host)
    this.#consumer = context.consumer()
    this.#backoff = new Backoff(pauses, context.clock)
  }

  /** Starts the work; it ends only by stop(). */
  start(): void {
    this.#done = this.#run()
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    this.#redis?.disconnect()
    await this.#done
  }

  health(): PluginHealth {
    const { confirmed, durable } = this.#consumer
    const lag = Math.max(0, durable - confirmed)
    const now = this.#context.clock.now()
    const lagSeconds = lag === 0 || this.#lastDelivery === null ? 0 : Math.max(0, Math.round((now - this.#lastDelivery.time) / 1000))
    const state = this.#lastError ?? (this.#connected ? `mirrored up to ${confirmed}` : 'connecting')
    return {
      healthy: this.#lastError === null,
      summary: lag === 0 ? state : `${state}; ${lag} transactions behind`,
      facts: {
        connected: this.#connected,
        seq: confirmed,
        lag_transactions: lag,
        lag_seconds: lagSeconds,
        rows_mirrored: this.#rows,
        last_delivery: this.#lastDelivery?.at ?? null,
        last_error: this.#lastError,
        failures_in_a_row: this.#backoff.failures,
      },
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    while (!signal.aborted) {
      try {
        await this.#session(signal)
      } catch (error) {
        if (signal.aborted) break
        this.#failed(error)
        await this.#backoff.wait(signal)
      } finally {
        this.#connected = false
        this.#redis?.disconnect()
        this.#redis = null
      }
    }
  }

  /** One connection: finds out where Redis is, then mirrors until something fails. */
  async #session(signal: AbortSignal): Promise<void> {
    const redis = new Redis(this.#options.url, {
      lazyConnect: true,
      retryStrategy: null, // a new connection begins by asking for the watermark, so #run makes it
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: 5_000,
      commandTimeout: 30_000,
      connectionName: 'daemonguard',
    })
    redis.on('error', () => {}) // each command rejects by itself
    this.#redis = redis
    const lost = new AbortController()
    redis.on('close', () => lost.abort()) // an idle mirror notices too
    const session = AbortSignal.any([signal, lost.signal])
    await redis.connect()
    this.#connected = true
    await this.#findPosition(redis, signal)
    if (!this.#refused) this.#recovered() // else only a delivery shows that Redis takes writes again
    while (!session.aborted) {
      const transactions = await this.#consumer.read({ maxRows: 5_000, maxDelayMs: 10, signal: session })
      if (session.aborted || transactions.length === 0) continue
      if (!(await this.#deliver(redis, transactions, session))) await this.#findPosition(redis, signal)
    }
    if (!signal.aborted) throw new Error('the connection to Redis was lost')
  }

  /** Applies transactions and confirms them. False: Redis is elsewhere than we thought. */
  async #deliver(redis: Redis, transactions: Awaited<ReturnType<JournalConsumer['read']>>, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#context
    const { retention, selected, limits = defaultLimits } = this.#options
    const settings: UnitSettings = { keys: this.#keys, selected, retention, now: () => clock.now(), limits, knownTables: this.#knownTables }
    for (const { unit, before } of units(transactions, this.#position, settings)) {
      signal.throwIfAborted()
      if (before !== null) await followSchema(redis, this.#keys, before, signal)
      const outcome = await applyUnit(redis, this.#keys, this.#consumer.databaseId, unit, {
        oldest: clock.now() - retention,
        expiry: retention,
      })
      if (outcome.kind !== 'applied') return false
      this.#position = unit.to
      this.#rows += unit.rows
    }
    const last = transactions.at(-1)!
    await this.#consumer.confirm(last.seq)
    this.#lastDelivery = { seq: last.seq, time: last.time, at: clock.now() }
    this.#recovered()
    return true
  }

  /** Reads the watermark and sets the read position by it. Throws a Refusal when going on would destroy or hide something. */
  async #findPosition(redis: Redis, signal: AbortSignal): Promise<void> {
    this.#knownTables.clear()
    const consumer = this.#consumer
    const mark = await redis.hgetall(this.#keys.watermark)
    if (mark.database_id !== undefined && mark.database_id !== consumer.databaseId) {
      throw new Refusal(
        'redis-foreign-mirror',
        `Redis holds the mirror of another database (${mark.database_id}) under ${this.#keys.prefix}; it is not overwritten`,
        `give this host another agent.name, or remove the old mirror: redis-cli --scan --pattern '${this.#keys.prefix}*' | xargs -d '\\n' redis-cli unlink`,
      )
    }
    if (mark.seq === undefined) {
      this.#position = null
      if (consumer.confirmed > 0)
        this.#context.log.warn(
          { confirmed: consumer.confirmed, from: consumer.oldest },
          'Redis has lost the mirror: mirroring again what the journal has',
        )
      return consumer.seek(consumer.oldest - 1)
    }
    const position = { seq: Number(mark.seq), part: Number(mark.part ?? 0) }
    if (position.seq > consumer.durable) await this.#checkAhead(position.seq, signal)
    if (position.seq + 1 < consumer.oldest) await this.#acrossGap(redis, position.seq, signal)
    if (position.seq > consumer.confirmed) await consumer.confirm(Math.min(position.seq, consumer.durable))
    this.#position = position
    consumer.seek(position.seq)
  }

  /** Redis may be ahead of what this agent has heard of, never of what the engine has. */
  async #checkAhead(seq: number, signal: AbortSignal): Promise<void> {
    const { durableSeq } = await this.#context.engine.status(signal)
    if (seq <= durableSeq) return
    throw new Refusal(
      'redis-ahead-of-journal',
      `Redis has mirrored up to seq ${seq}, the journal ends at ${durableSeq}: transactions ${durableSeq + 1} to ${seq} are in Redis only`,
      `keep a copy of the keys ${this.#keys.prefix}* before you remove them: they may be the only trace of these transactions`,
    )
  }

  /** The journal no longer has what Redis lacks: its rows may be stale, so they go, and the gap is named. */
  async #acrossGap(redis: Redis, seq: number, signal: AbortSignal): Promise<void> {
    const { oldest } = this.#consumer
    await removeAllRows(redis, this.#keys, signal)
    const message = `Redis fell back to seq ${seq}, but the journal begins at ${oldest}: the mirror starts anew and lacks rows last changed in ${seq + 1} to ${oldest - 1}`
    const incident = this.#context.incidents.open({
      severity: 'warning',
      cause: 'redis-mirror-gap',
      message,
      evidence: { redis_seq: seq, journal_oldest: oldest },
    })
    this.#context.incidents.close(incident, {
      actions: ['removed the mirrored rows', 'mirrored again from the oldest journaled transaction'],
    })
  }

  #failed(error: unknown): void {
    const message = messageOf(error)
    if (this.#lastError !== message) this.#context.log.warn({ error: message }, 'mirroring to Redis failed; trying again')
    this.#lastError = message
    this.#refused = error instanceof ReplyError
    const refusal = error instanceof Refusal ? error : null
    if (this.#incident !== null || (refusal === null && this.#backoff.failures + 1 < failuresBeforeAlert)) return
    this.#incident = this.#context.incidents.open({
      severity: 'warning',
      cause: refusal?.cause_ ?? 'redis-unreachable',
      message: `redis-mirror: ${message}`,
      actions: ['the journal keeps what Redis lacks; the mirror keeps trying'],
      hint: refusal?.hint ?? null,
    })
    this.#context.alert(`redis-mirror: ${message}`, refusal === null ? {} : { hint: refusal.hint })
  }

  #recovered(): void {
    this.#lastError = null
    this.#refused = false
    this.#backoff.reset()
    if (this.#incident === null) return
    this.#context.incidents.close(this.#incident, { actions: ['Redis answers again; catching up'] })
    this.#incident = null
    this.#context.alert('redis-mirror: Redis answers again; catching up')
  }
}
