/**
 * Random workloads over every shape of statement that changes data or schema, from two clients, in transactions and without. What fails may fail:
 * the point is that whatever the database is afterwards, a replay of the journal gives the same.
 */

import type pg from 'pg'
import type { Random } from '../../support/random.ts'
import { KnownSchema, quote } from './known-schema.ts'
import { boundInsert, copyIn, rowStatement } from './row-statements.ts'
import { schemaStatement } from './schema-statements.ts'
import { perform, type Statement, type Step } from './steps.ts'

export class Workload {
  readonly steps: Step[] = []
  /** SQLSTATEs of what failed, with how often. */
  readonly failures = new Map<string, number>()
  #random: Random
  #known: KnownSchema
  #clients: readonly pg.Client[]
  /** The client that has changed the schema in its open transaction: nobody else can write. */
  #alone: number | undefined

  constructor(random: Random, clients: readonly pg.Client[]) {
    this.#random = random
    this.#known = new KnownSchema(random)
    this.#clients = clients
  }

  async run(steps: number): Promise<void> {
    if (this.steps.length === 0)
      await this.#run({
        on: 0,
        sql: "CREATE SEQUENCE main.seq; CREATE TYPE main.mood AS ENUM ('glad', 'sad', 'ñ''x'); CREATE SCHEMA other",
      })
    await this.#schema(0)
    for (let i = 0; i < steps; i++) await this.#step()
    for (const on of this.#clients.keys()) if (this.#open(on)) await this.#end(on)
  }

  /** Something that happens between statements. */
  async pass(event: 'checkpoint' | 'kill', happen: (event: 'checkpoint' | 'kill') => Promise<void>): Promise<void> {
    this.steps.push({ event })
    await happen(event)
  }

  get madeMacros(): boolean {
    return this.steps.some((step) => 'sql' in step && step.sql.includes(' MACRO '))
  }

  #open(on: number): boolean {
    return this.#clients[on]?.getTransactionStatus() === 'T'
  }

  async #step(): Promise<void> {
    const random = this.#random
    const on = this.#alone ?? random.pick([...this.#clients.keys()])
    if (!this.#open(on) && random.chance(0.12)) {
      await this.#run({ on, sql: 'BEGIN' })
      return
    }
    if (this.#open(on) && random.chance(this.#alone === undefined ? 0.25 : 0.5)) return this.#end(on)
    // A schema change would wait for the other client's transaction.
    if (random.chance(0.3)) {
      if ([...this.#clients.keys()].every((other) => other === on || !this.#open(other))) await this.#schema(on)
      return
    }
    if (this.#known.tables.length === 0) return
    const row = () => rowStatement(this.#known)
    const statement = random.chance(0.08)
      ? copyIn(this.#known)
      : random.chance(0.08)
        ? boundInsert(this.#known)
        : { sql: random.chance(0.1) ? `${row()}; ${row()}` : row() }
    if (statement !== undefined) await this.#run({ on, ...statement })
  }

  async #end(on: number): Promise<void> {
    const changed = this.#alone === on
    await this.#run({ on, sql: this.#random.chance(0.7) ? 'COMMIT' : 'ROLLBACK' })
    this.#alone = undefined
    if (changed) await this.#learn()
  }

  async #run(step: Statement): Promise<void> {
    this.steps.push(step)
    const failure = await perform(this.#clients, step)
    if (this.#alone !== undefined && !this.#open(this.#alone)) {
      this.#alone = undefined
      await this.#learn()
    }
    if (failure !== undefined) this.failures.set(failure.slice(0, 5), (this.failures.get(failure.slice(0, 5)) ?? 0) + 1)
  }

  async #schema(on: number): Promise<void> {
    const sql = schemaStatement(this.#known)
    if (sql === undefined) return
    const path = this.#random.pick(this.#known.schemas)
    if (this.#random.chance(0.2))
      await this.#run({ on, sql: `SET search_path = ${quote(path)}; SET TimeZone = '${this.#random.pick(['UTC', 'Asia/Tokyo'])}'` })
    await this.#run({ on, sql })
    this.#alone = this.#open(on) ? on : undefined
    await this.#learn()
  }

  /** As somebody sees it who has no transaction open. */
  #learn(): Promise<void> {
    return this.#known.learn(this.#clients.find((_, on) => !this.#open(on)) ?? (this.#clients[0] as pg.Client))
  }
}
