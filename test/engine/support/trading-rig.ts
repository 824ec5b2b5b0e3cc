/** An engine with trades, instruments and positions, and clients whose transactions it holds back (agent/engine/held-statements.ts). */

import path from 'node:path'
import type pg from 'pg'
import { TestEngine } from '../../support/engine.ts'
import { sourceCommand } from '../../support/program.ts'
import { temporaryDirectory } from '../../support/temp.ts'
import { waitFor } from '../../support/wait.ts'
import { countOf, notingSteps } from './step-notes.ts'

export const clientCount = 12

const insertTrade = 'INSERT INTO trades (id, instrument, quantity) VALUES ($1, $2, $3)'
/** Adds `$1` to the quantity of position `$2`. */
export const book = 'UPDATE positions SET quantity = quantity + $1, trades = trades + 1 WHERE id = $2'

const names = new Map<string, string>()
/** By a name: it is read by DuckDB once, as the clients of a platform have it. */
export function run(client: pg.Client, text: string, ...values: unknown[]) {
  const name = names.get(text) ?? `s${names.size}`
  names.set(text, name)
  return client.query({ name, text, values })
}

export const trade = (client: pg.Client, id: number, quantity = 1, instrument = 1) => run(client, insertTrade, id, instrument, quantity)

export class TradingRig {
  readonly engine: TestEngine
  clients: pg.Client[] = []
  #notes = path.join(temporaryDirectory('notes'), 'steps')
  #nextKey = 1

  private constructor(engine: TestEngine) {
    this.engine = engine
    engine.program = sourceCommand()
    engine.env = notingSteps(this.#notes, 'TOGETHER:')
  }

  static async start(): Promise<TradingRig> {
    const rig = new TradingRig(await TestEngine.prepare())
    await rig.engine.start()
    await rig.engine.sql(
      'CREATE TABLE instruments (id INTEGER PRIMARY KEY, name VARCHAR)',
      "INSERT INTO instruments SELECT i, 'instrument ' || i FROM range(1, 6) r(i)",
      'CREATE TABLE trades (id BIGINT PRIMARY KEY, instrument INTEGER NOT NULL REFERENCES instruments (id), quantity BIGINT NOT NULL)',
      'CREATE TABLE positions (id INTEGER PRIMARY KEY, quantity BIGINT NOT NULL, trades BIGINT NOT NULL, note VARCHAR)',
      "INSERT INTO positions SELECT i, 0, 0, 'position ' || i FROM range(100) r(i)",
      'CREATE TABLE notes (n BIGINT, note VARCHAR)',
    )
    await rig.#connect()
    return rig
  }

  /** SIGKILL, and new clients of the next engine. */
  async restart(): Promise<void> {
    await this.engine.restart()
    await this.#connect()
  }

  async #connect(): Promise<void> {
    this.clients = await Promise.all(Array.from({ length: clientCount }, () => this.engine.connect()))
  }

  /** Groups of transactions that have reached their COMMIT. */
  get groups(): number {
    return countOf(this.#notes, 'TOGETHER:COMMIT')
  }

  /** The first of so many keys of trades that nobody has used. */
  keys(count = 1): number {
    this.#nextKey += count
    return this.#nextKey - count
  }

  /** Commits `statement` until it was held back: what it is about is known from then on. */
  async untilKnown(client: pg.Client, statement: () => Promise<unknown>): Promise<void> {
    await waitFor(
      'a transaction is held back',
      async () => {
        const before = this.groups
        await run(client, 'BEGIN')
        await statement()
        await run(client, 'COMMIT')
        return this.groups > before
      },
      { every: 1 },
    )
  }

  /** A client whose trades of the next keys are held back. */
  async holding(): Promise<pg.Client> {
    const [client] = this.clients as [pg.Client]
    await this.untilKnown(client, () => trade(client, this.keys()))
    return client
  }
}
