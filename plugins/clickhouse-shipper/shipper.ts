/**
 * Ships the journal in batches. The bounds of a batch are durable before its first row is sent and never change; the cursor moves when every part
 * is there. A batch that fails is tried again for ever, by the backoff and then its last step: nothing is dropped, nothing overtakes it.
 */

import path from 'node:path'
import { Backoff } from '../../agent/delivery.ts'
import { messageOf } from '../../agent/errors.ts'
import { type Change, isSpilled, type Transaction, tableName } from '../../agent/journal/types.ts'
import type { Incident, JournalConsumer, PluginContext, PluginHealth } from '../../agent/plugin.ts'
import { type BatchSettings, buildParts, type Part, slices, targetName } from './batch.ts'
import { writeDeadLetter } from './dead-letter.ts'
import { withNewDefaults } from './defaults.ts'
import { highestSeq, highestSeqIn, registerHost } from './registry.ts'
import { deliveredRows, type SenderSettings, sendPart } from './sender.ts'
import { Server, type ServerOptions } from './server.ts'
import { type BatchBounds, type FailedSync, parseState, type ShipperState, withFailedSync } from './state.ts'
import { ensureTarget, type Target, UnfitTarget } from './target.ts'

export interface ShipperOptions extends ServerOptions {
  readonly selected: BatchSettings['selected']
  readonly history: boolean
  readonly batch: { readonly rows: number; readonly max_delay: number }
  readonly backoff: readonly number[]
  readonly max_retries: number
}

export class Shipper {
  readonly #context: PluginContext
  readonly #options: ShipperOptions
  readonly #consumer: JournalConsumer
  readonly #abort = new AbortController()
  readonly #backoff: Backoff
  readonly #server: Server
  readonly #owner: string
  /** Targets that fit, by the signature of the versions they were checked for. Cleared after every failure. */
  readonly #targets = new Map<string, Target>()
  /** The highest seq that a target had of this host when it was first looked at. */
  readonly #found = new Map<string, number>()
  #registered = false
  #state: ShipperState
  #lastError: string | null = null
  #lastDelivery: { seq: number; time: number; at: number } | null = null
  #rows = 0
  #deadLetters = 0
  #incident: Incident | null = null
  #done: Promise<void> = Promise.resolve()

  constructor(context: PluginContext, options: ShipperOptions) {
    this.#context = context
    this.#options = options
    this.#consumer = context.consumer()
    this.#state = parseState(this.#consumer.loadState())
    this.#backoff = new Backoff(options.backoff, context.clock)
    this.#server = new Server(options, this.#abort.signal)
    this.#owner = `dg-${this.#consumer.databaseId}-`
  }

  start(): void {
    this.#done = this.#run()
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    await this.#done
    await this.#server.close()
  }

  /** Syncs that failed `max_retries` times, newest last; resolved ones included. */
  get failedSyncs(): readonly FailedSync[] {
    return this.#state.failedSyncs
  }

  health(): PluginHealth {
    const { confirmed, durable } = this.#consumer
    const lag = Math.max(0, durable - confirmed)
    const lagSeconds =
      lag === 0 || this.#lastDelivery === null ? 0 : Math.max(0, Math.round((this.#context.clock.now() - this.#lastDelivery.time) / 1000))
    const open = this.#state.failedSyncs.filter((sync) => sync.resolvedAt === null)
    const state = this.#lastError ?? `shipped up to ${confirmed}`
    return {
      healthy: this.#lastError === null && open.length === 0,
      summary: lag === 0 ? state : `${state}; ${lag} transactions behind`,
      facts: {
        seq: confirmed,
        lag_transactions: lag,
        lag_seconds: lagSeconds,
        rows_shipped: this.#rows,
        dead_letters: this.#deadLetters,
        failed_syncs: open.length,
        failed_syncs_ever: this.#state.failedSyncs.length,
        failures_in_a_row: this.#backoff.failures,
        last_delivery: this.#lastDelivery?.at ?? null,
        last_error: this.#lastError,
      },
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    while (!signal.aborted) {
      try {
        const pending = this.#state.batch
        // What a process before this one had under way may be there already, wholly or in part.
        if (pending !== null && pending.last > this.#consumer.confirmed) {
          const transactions = await this.#again(pending)
          if (pending.slice === undefined) await this.#shipUntilDone(pending, transactions, true)
          else await this.#shipSlices(transactions, pending)
          this.#consumer.seek(this.#consumer.confirmed)
        } else await this.#next(signal)
      } catch (error) {
        // The journal or the disk failed, not the server.
        if (signal.aborted) return
        this.#lastError = messageOf(error)
        this.#context.log.error({ error: this.#lastError }, 'shipping cannot go on; trying again')
        this.#consumer.seek(this.#consumer.confirmed)
        await this.#backoff.wait(signal)
      }
    }
  }

  async #next(signal: AbortSignal): Promise<void> {
    const { rows, max_delay } = this.#options.batch
    const transactions = await this.#consumer.read({ maxRows: rows, maxDelayMs: max_delay, signal })
    const [first, last] = [transactions[0], transactions.at(-1)]
    if (signal.aborted || first === undefined || last === undefined) return
    if (isSpilled(first.changes)) return this.#shipSlices([first], null)
    const batch: BatchBounds = { first: first.seq, last: last.seq, rowsPerInsert: rows, history: this.#options.history, refused: {} }
    this.#noteDefaults(transactions)
    if (buildParts(transactions, { selected: this.#options.selected, history: batch.history }).length === 0) {
      await this.#consumer.saveState(this.#state)
      return this.#consumer.confirm(last.seq)
    }
    await this.#save({ ...this.#state, batch })
    await this.#shipUntilDone(batch, transactions, false)
  }

  async #again({ first, last }: BatchBounds): Promise<Transaction[]> {
    const transactions: Transaction[] = []
    for await (const transaction of this.#consumer.readRange(first, last)) transactions.push(transaction)
    this.#noteDefaults(transactions.filter(({ changes }) => !isSpilled(changes)))
    return transactions
  }

  /** Tries until every part is there, then confirms. `uncertain`: rows may be there already. Returns early only when stopped. */
  async #shipUntilDone(batch: BatchBounds, transactions: readonly Transaction[], uncertain: boolean): Promise<void> {
    const parts = buildParts(transactions, { selected: this.#options.selected, history: batch.history })
    const time = transactions.at(-1)?.time ?? this.#context.clock.now()
    await this.#shipParts(batch, parts, uncertain, () => this.#delivered({ seq: batch.last, time }))
  }

  /** One transaction, slice by slice, each as durable as a batch; then confirms. `begun`: the slice that was under way. */
  async #shipSlices([transaction]: readonly Transaction[], begun: BatchBounds | null): Promise<void> {
    const { selected, history: keeps, batch: options } = this.#options
    // Gone from the journal: the consumer has told so.
    if (transaction === undefined) return this.#consumer.confirm(begun?.last ?? this.#consumer.confirmed)
    const { seq, time } = transaction
    const rowsPerInsert = begun?.rowsPerInsert ?? options.rows
    const history = begun?.history ?? keeps
    const numbers = new Map<string, number>()
    const count = (change: Change) => {
      if (!('rows' in change) || !selected(change.table)) return
      const target = targetName(change.table)
      numbers.set(target, (numbers.get(target) ?? 0) + change.rows.count)
    }
    const sent: Record<string, number> = { ...begun?.slice?.sent }
    for (const { from, to, transaction: part } of slices(transaction, rowsPerInsert, begun?.slice, count)) {
      const again = from === begun?.slice?.from
      this.#noteDefaults([part])
      const parts = buildParts([part], { selected, history }, numbers)
      if (parts.length === 0) continue
      const bounds = again ? begun : { first: seq, last: seq, rowsPerInsert, history, refused: {}, slice: { from, to, sent: { ...sent } } }
      if (!again) await this.#save({ ...this.#state, batch: bounds })
      await this.#shipParts(bounds, parts, again, async () => {})
      if (this.#abort.signal.aborted) return
      const { refused } = this.#state.batch!
      for (const { target, rows } of parts) sent[target] = (sent[target] ?? 0) + rows.length - (refused[target]?.length ?? 0)
    }
    await this.#delivered({ seq, time })
  }

  async #shipParts(batch: BatchBounds, parts: readonly Part[], uncertain: boolean, done: () => Promise<void>): Promise<void> {
    const { signal } = this.#abort
    while (!signal.aborted) {
      try {
        await this.#ship(parts, uncertain)
        return await done()
      } catch (error) {
        if (signal.aborted) return
        uncertain = true
        await this.#failed(error, batch, parts)
        await this.#backoff.wait(signal)
      }
    }
  }

  async #ship(parts: readonly Part[], uncertain: boolean): Promise<void> {
    const { database } = this.#options
    await this.#server.features()
    if (!this.#registered) {
      await registerHost(this.#server, database, this.#context.host, this.#consumer.databaseId, this.#context.clock.now())
      this.#registered = true
    }
    if (this.#state.resumeBelow === null)
      await this.#save({ ...this.#state, resumeBelow: await highestSeq(this.#server, database, this.#context.host) })
    if (uncertain) await this.#waitForRunning()
    for (const part of parts) {
      const target = await this.#target(part)
      const settings = this.#senderSettings()
      const delivered = await this.#deliveredRows(part, settings, uncertain)
      this.#rows += await sendPart(part, target, delivered, settings)
    }
  }

  /** How many rows of the part, from its beginning, are there. A batch that was never sent has none, unless the cursor was lost. */
  async #deliveredRows(part: Part, settings: SenderSettings, uncertain: boolean): Promise<number> {
    const { first, last } = settings.bounds
    const resuming = first <= (this.#state.resumeBelow ?? 0)
    // Batches are cut anew then; rows beyond this one say that all of this one was there.
    if (resuming && (this.#found.get(part.target) ?? 0) > last) return part.rows.length
    return uncertain || resuming ? deliveredRows(part, settings) : 0
  }

  #senderSettings(): SenderSettings {
    return {
      server: this.#server,
      database: this.#options.database,
      host: this.#context.host,
      databaseId: this.#consumer.databaseId,
      bounds: this.#state.batch!,
      owner: this.#owner,
      refuse: (part, index, reason) => this.#refuse(part, index, reason),
    }
  }

  async #target(part: Part): Promise<Target> {
    const signature = JSON.stringify([part.target, part.kind, part.versions.map(({ columns, primaryKey }) => [columns, primaryKey])])
    let target = this.#targets.get(signature)
    if (target === undefined) {
      const { database } = this.#options
      target = await ensureTarget(this.#server, database, part, this.#state.defaults[tableName(part.versions[0]!)] ?? {})
      await this.#compareWithServer(part)
      // Another version of the table may have changed the columns that an older entry knows.
      for (const key of this.#targets.keys()) if (key.startsWith(`[${JSON.stringify(part.target)},`)) this.#targets.delete(key)
      this.#targets.set(signature, target)
    }
    return target
  }

  /** Once per target: rows beyond the journal's end would win against all that come. */
  async #compareWithServer(part: Part): Promise<void> {
    if (this.#found.has(part.target)) return
    const there = await highestSeqIn(this.#server, this.#options.database, part.target, this.#context.host)
    if (there > this.#consumer.durable) {
      const { durableSeq } = await this.#context.engine.status(this.#abort.signal)
      if (there > durableSeq) {
        throw new UnfitTarget(
          `ClickHouse has rows of this host up to seq ${there} in ${part.target}, the journal ends at ${durableSeq}: new rows would lose against them`,
          'the journal has lost transactions that ClickHouse still has: restore them from there before shipping goes on',
        )
      }
    }
    this.#found.set(part.target, there)
  }

  /** An INSERT whose answer never came may still be at work; to count before it has ended would be too early. */
  async #waitForRunning(): Promise<void> {
    while (await this.#server.running(this.#owner)) await this.#context.clock.sleep(500, this.#abort.signal)
  }

  async #delivered({ seq, time }: { seq: number; time: number }): Promise<void> {
    const resolved = this.#state.failedSyncs.map((sync) =>
      sync.resolvedAt === null && sync.last <= seq ? { ...sync, resolvedAt: this.#context.clock.now() } : sync,
    )
    await this.#consumer.confirm(seq)
    const changed = resolved.some((sync, i) => sync !== this.#state.failedSyncs[i])
    this.#state = { ...this.#state, batch: null, failedSyncs: resolved }
    if (changed) await this.#consumer.saveState(this.#state) // else the next batch's bounds say it as well
    this.#lastDelivery = { seq, time, at: this.#context.clock.now() }
    this.#lastError = null
    this.#backoff.reset()
    if (this.#incident === null) return
    this.#context.incidents.close(this.#incident, { actions: [`shipped up to seq ${seq}`] })
    this.#incident = null
    this.#context.alert('clickhouse-shipper: ClickHouse takes rows again; catching up')
  }

  async #failed(error: unknown, batch: BatchBounds, parts: readonly Part[]): Promise<void> {
    const message = messageOf(error)
    const attempts = this.#backoff.failures + 1
    this.#lastError = message
    this.#targets.clear()
    this.#registered = false
    this.#server.forget()
    this.#context.log.warn(
      { error: message, first: batch.first, last: batch.last, attempt: attempts },
      'shipping to ClickHouse failed; trying again',
    )
    const unfit = error instanceof UnfitTarget ? error : null
    if (attempts <= this.#options.max_retries && unfit === null) return
    const rows = parts.reduce((sum, part) => sum + part.rows.length, 0)
    const known = this.#state.failedSyncs.find((sync) => sync.first === batch.first && sync.last === batch.last)
    if (known === undefined) {
      const sync: FailedSync = {
        first: batch.first,
        last: batch.last,
        tables: parts.map((part) => part.target),
        rows,
        failedAt: this.#context.clock.now(),
        attempts,
        error: message,
        resolvedAt: null,
      }
      await this.#save(withFailedSync(this.#state, sync))
    }
    if (this.#incident !== null) return
    this.#incident = this.#context.incidents.open({
      severity: 'warning',
      cause: unfit === null ? 'clickhouse-sync-failed' : 'clickhouse-target-unfit',
      message: `clickhouse-shipper: transactions ${batch.first} to ${batch.last} (${rows} rows) could not be shipped in ${attempts} attempts: ${message}`,
      actions: ['recorded as a failed sync', 'the journal keeps everything; the shipper keeps trying at the last backoff step'],
      evidence: { first: batch.first, last: batch.last, tables: parts.map((part) => part.target), attempts },
      hint: unfit?.hint ?? null,
    })
    this.#context.alert(`clickhouse-shipper: ${message}`, {
      first: batch.first,
      last: batch.last,
      attempts,
      ...(unfit === null ? {} : { hint: unfit.hint }),
    })
  }

  /** The row's file is durable before the state says that the row is refused, and that before anything after it is sent. */
  async #refuse(part: Part, index: number, reason: string): Promise<void> {
    const row = part.rows[index]!
    const directory = path.join(this.#context.paths.deadLetter, this.#context.name)
    const file = writeDeadLetter(directory, row, part.target, reason, { host: this.#context.host, databaseId: this.#consumer.databaseId })
    const batch = this.#state.batch!
    const others = batch.refused[part.target] ?? []
    await this.#save({ ...this.#state, batch: { ...batch, refused: { ...batch.refused, [part.target]: [...others, index] } } })
    this.#deadLetters++
    if (others.length > 0) return // one incident per batch and table names the first; the files name them all
    const message = `ClickHouse refuses a row of ${part.target} (seq ${row.seq}): ${reason}`
    const incident = this.#context.incidents.open({
      severity: 'warning',
      cause: 'clickhouse-row-refused',
      message,
      evidence: { table: part.target, seq: row.seq, file },
      hint: 'make the target column fit, then insert the row from the file by hand',
    })
    this.#context.incidents.close(incident, { actions: [`the row is kept in ${file}`, 'everything else goes on'] })
    this.#context.alert(message, { file })
  }

  #noteDefaults(transactions: readonly Transaction[]): void {
    const noConstant = (table: string, columnName: string) =>
      this.#context.log.warn(
        { table, column: columnName },
        'the default of an added column is no constant: rows that ClickHouse already has show NULL there',
      )
    this.#state = { ...this.#state, defaults: withNewDefaults(this.#state.defaults, transactions, noConstant) }
  }

  async #save(state: ShipperState): Promise<void> {
    await this.#consumer.saveState(state)
    this.#state = state
  }
}
