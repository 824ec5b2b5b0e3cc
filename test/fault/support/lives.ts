/**
 * One engine through many lives: each ends by a fault at a step of its own, under writers; each next start finds all that was acknowledged,
 * and nothing half (R1, R4). A consumer follows, and must be handed every transaction once and in order (R2, R5).
 */

import fs from 'node:fs'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import type pg from 'pg'
import * as assert from 'uvu/assert'
import { DurableSeq } from '../../../agent/durable.ts'
import { openConsumer } from '../../../agent/journal/consumer.ts'
import type { JournalConsumer } from '../../../agent/plugin.ts'
import { difference, stateOf } from '../../engine/support/state.ts'
import { type EngineOptions, TestEngine } from '../../support/engine.ts'
import { sourceCommand } from '../../support/program.ts'
import { temporaryDirectory } from '../../support/temp.ts'
import { waitFor } from '../../support/wait.ts'
import { type Fault, type FaultPlan, faultEnvironment, traced } from './faults.ts'

export const legs = 3
/** Rows of 20 kB: more than a transaction holds in memory. */
export const largeRows = 450
/** The same, of which a transaction holds all. */
const mediumRows = 290
const patience = 60_000

/** What clients were told: in their order, so that the order of commits can be checked. */
interface Told {
  readonly client: number
  readonly order: number
}

export class Lives {
  readonly engine: TestEngine
  /** Its directory. */
  readonly journal: string
  /** Labels at which a fault has struck. */
  readonly struck = new Set<string>()
  readonly acknowledged: Told[] = []
  /** The labels at which faults have struck, in order. */
  readonly story: string[] = []
  #trace: string
  #source = new DurableSeq()
  #consumer: (JournalConsumer & { close(): void }) | undefined
  /** Seq of each order, as the consumer was told. */
  readonly delivered = new Map<number, number>()
  #lastDelivered = 0
  #nextOrder = 1
  /** Orders that were sent and not answered. */
  #open = new Map<number, Told>()
  #stopped = false
  #working: Promise<unknown>[] = []
  #unexpected: unknown

  private constructor(engine: TestEngine, journal: string) {
    this.engine = engine
    this.journal = journal
    this.#trace = path.join(engine.data, '..', 'trace')
  }

  /** `journal`: its directory, when it is to lie on another disk. */
  static async prepare(options: EngineOptions & { journal?: string } = {}): Promise<Lives> {
    const { journal, engine: keys = [] } = options
    const engine = await TestEngine.prepare(journal === undefined ? options : { ...options, engine: [...keys, `journal_dir: ${journal}`] })
    engine.program = sourceCommand()
    return new Lives(engine, journal ?? path.join(engine.data, 'journal'))
  }

  /** While it is there, clients work: faults that are to strike then wait for it. */
  get working(): string {
    return path.join(this.engine.data, '..', 'working')
  }

  /** The next processes get this plan. */
  plan(faults: readonly Fault[], more: Partial<FaultPlan> = {}): void {
    this.engine.env = faultEnvironment({ role: 'engine', faults, trace: this.#trace, ...more })
  }

  /** Starts it under the plan; true when it serves, false when it died by the plan. */
  async start(): Promise<boolean> {
    const child = this.engine.spawn()
    await waitFor('the engine serves or is dead', async () => child.exit !== null || (await this.engine.connectControl()), {
      deadline: patience,
      every: 5,
    })
    if (child.exit === null) return true
    await this.ended()
    return false
  }

  /** Waits for the end that the plan wants; anything else is an error. Returns the exit. */
  async ended(): Promise<{ code: number | null; signal: string | null }> {
    let done = false
    await Promise.race([
      this.engine.exit().then(() => {
        done = true
      }),
      waitFor('the fault strikes', () => done || this.#unexpected !== undefined, { deadline: patience, every: 20 }),
    ])
    if (this.#unexpected !== undefined) throw this.#unexpected
    await this.rest()
    const exit = await this.engine.exit()
    const fired = traced(this.#trace)
    fs.rmSync(this.#trace, { force: true })
    if (fired.length === 0) throw new Error(`the engine ended by itself (${JSON.stringify(exit)}):\n${this.engine.output()}`)
    for (const label of fired) this.struck.add(label)
    this.story.push(...fired)
    await this.engine.kill()
    return exit
  }

  async createTables(): Promise<void> {
    await this.engine.sql(
      'CREATE TABLE IF NOT EXISTS singles (id BIGINT PRIMARY KEY, note VARCHAR)',
      'CREATE TABLE IF NOT EXISTS legs (id BIGINT, leg INTEGER, amount INTEGER, PRIMARY KEY (id, leg))',
      'CREATE TABLE IF NOT EXISTS booked (id BIGINT PRIMARY KEY, client INTEGER NOT NULL)',
      'CREATE TABLE IF NOT EXISTS totals (client INTEGER PRIMARY KEY, orders BIGINT NOT NULL)',
      'INSERT INTO totals SELECT i, 0 FROM range(10) r(i) ON CONFLICT DO NOTHING',
      'CREATE SEQUENCE IF NOT EXISTS numbers',
      'CREATE TABLE IF NOT EXISTS large (id BIGINT, part INTEGER, v VARCHAR)',
      'CREATE TABLE IF NOT EXISTS medium (id BIGINT, v VARCHAR)',
    )
  }

  /** Clients that write until the engine is gone or `rest` is called: two of single rows, three of transactions; others order checkpoints, holds and probes. */
  work(): void {
    this.#begin(() => [
      this.#write(1, single),
      this.#write(2, single),
      this.#write(3, transaction),
      this.#write(6, (client, order) => booking(client, order, 6)),
      this.#write(7, (client, order) => booking(client, order, 7)),
      this.#loop(() => this.engine.control.checkpoint()),
      this.#loop(() => this.engine.control.probe()),
      this.#loop(async () => (await this.engine.control.hold()).release()),
      this.#loop(() => this.engine.sql('PRAGMA wal_autocheckpoint = 5000')),
    ])
  }

  /** One client alone: what it commits is written ahead. Now and then it sends an order once more, which is refused. */
  workAlone(): void {
    this.#begin(() => [this.#write(1, alone)])
  }

  /** The same with one that fills the journal quickly, by transactions too small to spill. */
  workFilling(): void {
    this.#begin(() => [this.#write(1, single), this.#write(3, transaction), this.#write(5, medium)])
  }

  /** The same with transactions that spill: one client commits them, one rolls them back, one writes single rows. */
  workLarge(): void {
    this.#begin(() => [this.#write(1, single), this.#write(4, large), this.#loop(() => this.#forget())])
  }

  #begin(clients: () => Promise<unknown>[]): void {
    fs.writeFileSync(this.working, '')
    this.#stopped = false
    this.#working = clients()
  }

  /** A large transaction that is rolled back: nobody may ever see its order. */
  async #forget(): Promise<void> {
    const client = await this.engine.connect()
    try {
      await client.query('BEGIN')
      await client.query(insertLarge(this.#nextOrder++))
      await client.query('ROLLBACK')
    } finally {
      await client.end().catch(() => {})
    }
  }

  /** Ends the clients. */
  async rest(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#working)
    this.#working = []
    fs.rmSync(this.working, { force: true })
    if (this.#unexpected !== undefined) throw this.#unexpected
  }

  /** A large transaction, acknowledged. */
  async insertLarge(): Promise<void> {
    const told: Told = { client: 4, order: this.#nextOrder++ }
    await this.engine.sql(insertLarge(told.order))
    this.acknowledged.push(told)
  }

  /** The engine, which serves, is killed with a transaction in its journal that its file does not have. */
  async leaveSomethingToReplay(): Promise<void> {
    await this.engine.sql('CREATE TABLE IF NOT EXISTS spare (id INTEGER)', 'INSERT INTO spare VALUES (1)')
    await this.engine.kill()
  }

  /** Everything acknowledged is there, nothing half; what nobody was told about is there from now on, or never. And so for the consumer. */
  async check(): Promise<void> {
    const { recovery } = this.engine.control.hello
    assert.equal([recovery.gaps, recovery.refused, recovery.quarantined], [[], [], []], `after ${this.story.slice(-6).join(', ')}`)
    const rows = await this.engine.sql(
      `SELECT id, true FROM singles UNION ALL SELECT id, count(*) = ${legs} AND sum(amount) = 0 FROM legs GROUP BY id
       UNION ALL SELECT id, orders = count(*) OVER (PARTITION BY client) FROM booked JOIN totals USING (client)
       UNION ALL SELECT id, count(*) = ${largeRows} AND sum(length(v)) = ${largeRows * 20_000} FROM large GROUP BY id
       UNION ALL SELECT id, count(*) = ${mediumRows} FROM medium GROUP BY id`,
    )
    const found = new Map(rows.map(([id, whole]) => [Number(id), whole === 't']))
    assert.equal(
      [...found].filter(([, whole]) => !whole).map(([id]) => id),
      [],
      'half transactions',
    )
    assert.equal(
      this.acknowledged.filter(({ order }) => !found.has(order)),
      [],
      'acknowledged and not there',
    )
    for (const told of this.#open.values()) if (found.has(told.order)) this.acknowledged.push(told)
    this.#open.clear()
    const known = new Set(this.acknowledged.map(({ order }) => order))
    assert.equal(
      [...found.keys()].filter((order) => !known.has(order)),
      [],
      'told "failed", or gone before, and there now',
    )
    await this.#follow(found)
  }

  /** The consumer reads on; it has then been handed exactly what is there, in the order in which it was committed. */
  async #follow(found: ReadonlyMap<number, boolean>): Promise<void> {
    const { hello } = this.engine.control
    this.#source.connected(hello)
    this.#consumer ??= openConsumer({
      name: 'follower',
      journal: this.journal,
      cursors: path.join(temporaryDirectory('c'), 'cursors'),
      source: this.#source,
      onGap: (gap) => assert.unreachable(`the consumer was told of a gap: ${JSON.stringify(gap)}`),
      onBadCursor: () => assert.unreachable('the cursor was bad'),
    })
    const signal = AbortSignal.timeout(patience)
    while (this.#lastDelivered < hello.durableSeq) {
      signal.throwIfAborted()
      for (const { seq, changes } of await this.#consumer.read({ maxRows: 1000, maxDelayMs: 0, signal })) {
        assert.is(seq, this.#lastDelivered + 1, 'seqs come in order, without holes')
        this.#lastDelivered = seq
        for (const change of changes) {
          if (change.kind !== 'insert' || !['singles', 'legs', 'booked', 'large', 'medium'].includes(change.table.name)) continue
          for (const id of new Set(change.rows.columns[0])) {
            const before = this.delivered.get(Number(id))
            assert.ok(before === undefined || before === seq, `order ${id} came at seq ${before} and ${seq}`)
            this.delivered.set(Number(id), seq)
          }
        }
      }
      await this.#consumer.confirm(this.#lastDelivered)
    }
    assert.equal([...this.delivered.keys()].sort(byNumber), [...found.keys()].sort(byNumber), 'the consumer has what is there')
    for (const client of [1, 2, 3, 4, 5, 6, 7]) {
      const seqs = this.acknowledged.filter((told) => told.client === client).map(({ order }) => this.delivered.get(order) as number)
      assert.equal(seqs, [...seqs].sort(byNumber), `commits of client ${client} are in their order`)
    }
  }

  /** A rebuild from the journal alone equals the live database (R6). The engine is ended. */
  async assertRebuilds(): Promise<void> {
    const live = await stateOf(await this.engine.connect())
    await this.engine.kill()
    const copy = await TestEngine.prepare({ data: path.join(temporaryDirectory('r'), 'data') })
    fs.copyFileSync(path.join(this.engine.data, 'identity.json'), path.join(copy.data, 'identity.json'))
    fs.cpSync(this.journal, path.join(copy.data, 'journal'), { recursive: true })
    await copy.start()
    try {
      assert.is(difference(live, await stateOf(await copy.connect())), '')
    } finally {
      await copy.kill()
    }
  }

  close(): void {
    this.#consumer?.close()
  }

  async #write(client: number, insert: (connection: pg.Client, order: number) => Promise<unknown>): Promise<void> {
    let connection: pg.Client | undefined
    while (!this.#stopped) {
      const told: Told = { client, order: this.#nextOrder++ }
      try {
        connection ??= await this.engine.connect()
        this.#open.set(told.order, told)
        await insert(connection, told.order)
        this.#open.delete(told.order)
        this.acknowledged.push(told)
      } catch (error) {
        const code = (error as { code?: string }).code ?? ''
        // Told "failed": it must never be there. Without an SQLSTATE, or when the server said that it is going, nothing was told.
        if (/^(40|53|55P03)/.test(code)) {
          this.#open.delete(told.order)
          await connection?.query('ROLLBACK').catch(() => {})
        } else if (/^(?=.*\d)[0-9A-Z]{5}$/.test(code) && !/^(57P|08)/.test(code)) this.#unexpected ??= error
        else return
      }
    }
    await connection?.end().catch(() => {})
  }

  async #loop(work: () => Promise<unknown>): Promise<void> {
    // What is refused at once must not keep the end of the engine from being seen.
    for (; !this.#stopped && this.engine.running; await setImmediate()) await work().catch(() => {})
  }
}

function single(client: pg.Client, order: number): Promise<unknown> {
  return client.query('INSERT INTO singles VALUES ($1, $2)', [order, `order ${order}`])
}

/** So many orders lie between two that are refused: after each of those the engine is wary for a while. */
const refusedEvery = 150

async function alone(client: pg.Client, order: number): Promise<void> {
  await single(client, order)
  if (order % refusedEvery !== 0) return
  const again = await single(client, order).then(
    () => new Error(`order ${order} was taken twice`),
    (error: Error & { code?: string }) => error,
  )
  if (!('code' in again) || again.code !== '23505') throw again
}

/** DuckDB is told of it when it commits, together with others. */
async function booking(client: pg.Client, order: number, by: number): Promise<void> {
  await client.query('BEGIN')
  await client.query('INSERT INTO booked VALUES ($1, $2)', [order, by])
  await client.query('UPDATE totals SET orders = orders + 1 WHERE client = $1', [by])
  const { command } = await client.query('COMMIT')
  if (command !== 'COMMIT') throw new Error(`COMMIT of order ${order} was answered ${command}`)
}

async function transaction(client: pg.Client, order: number): Promise<void> {
  await client.query("BEGIN; SELECT nextval('numbers')")
  for (let leg = 0; leg < legs; leg++) await client.query('INSERT INTO legs VALUES ($1, $2, $3)', [order, leg, leg === 0 ? 1 - legs : 1])
  const { command } = await client.query('COMMIT')
  if (command !== 'COMMIT') throw new Error(`COMMIT of order ${order} was answered ${command}`)
}

function medium(client: pg.Client, order: number): Promise<unknown> {
  return client.query(`INSERT INTO medium SELECT ${order}, repeat(chr((65 + i % 20)::INTEGER), 20000) FROM range(${mediumRows}) r(i)`)
}

async function large(client: pg.Client, order: number): Promise<void> {
  await client.query('BEGIN')
  await client.query(insertLarge(order))
  const { command } = await client.query('COMMIT')
  if (command !== 'COMMIT') throw new Error(`COMMIT of order ${order} was answered ${command}`)
}

function insertLarge(order: number): string {
  return `INSERT INTO large SELECT ${order}, i, repeat(chr((65 + i % 20)::INTEGER), 20000) FROM range(${largeRows}) r(i)`
}

function byNumber(one: number, other: number): number {
  return one - other
}
