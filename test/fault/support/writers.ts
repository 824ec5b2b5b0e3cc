/**
 * Trading platforms that write without pause and note every answer. One that is told nothing (its connection died) connects again, looks
 * whether its order is there, and sends it once more if not. One that is told "failed" takes a new order: the old one must never be seen.
 * The tables have no key on purpose: a unique index would hide a row that was written twice.
 */

import type pg from 'pg'
import { systemClock } from '../../../agent/clock.ts'
import type { Guarded } from './guarded.ts'

/** Rows of each transaction, and what their amounts come to: a half transaction cannot hide. */
export const legs = 4
const total = 1_000

export const schema = [
  'CREATE TABLE singles (id BIGINT NOT NULL, writer INTEGER NOT NULL, note VARCHAR NOT NULL)',
  'CREATE TABLE legs (id BIGINT NOT NULL, leg INTEGER NOT NULL, amount BIGINT NOT NULL)',
]

export type Kind = 'single' | 'transaction'

/** Text of a single row: the same each time, so that values can be compared at the end. */
export const noteOf = (id: number) => `order ${id} ${(id * 2_654_435_761) % 4_294_967_296}`
/** Amounts of a transaction's rows; they come to `total`. */
export function amountsOf(id: number): number[] {
  const first = [id % 997, -(id % 89), 250]
  return [...first, total - first.reduce((sum, amount) => sum + amount, 0)]
}

export class Writers {
  /** Orders that were acknowledged, or found to be there. */
  readonly singles = new Set<number>()
  readonly transactions = new Set<number>()
  /** Orders that were told "failed", with the SQLSTATE. */
  readonly refused = new Map<number, string>()
  /** Transactions of which a part was seen. */
  readonly halves: number[] = []
  connectionsLost = 0
  /** Orders that were there although nobody had said so. */
  arrivedUnseen = 0
  /** When each acknowledgement came (monotonic ms). */
  readonly acknowledgedAt: number[] = []
  #guarded: Guarded
  #nextId = 1
  #stopped = false
  #running: Promise<void>[] = []
  #failure: Error | undefined
  #pause: number

  /** `pause`: milliseconds between orders of one writer. */
  constructor(guarded: Guarded, options: { pause?: number } = {}) {
    this.#guarded = guarded
    this.#pause = options.pause ?? 2
  }

  get acknowledged(): number {
    return this.singles.size + this.transactions.size
  }

  start(kinds: readonly Kind[]): void {
    this.#running = kinds.map((kind, writer) =>
      this.#write(kind, writer).catch((error: Error) => {
        this.#failure ??= error
      }),
    )
  }

  /** Lets every writer finish its order. Throws what ended one early. */
  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#running)
    this.check()
  }

  /** Throws when a writer was told what no platform should be told. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  async #write(kind: Kind, writer: number): Promise<void> {
    let client: pg.Client | undefined
    let order: number | undefined
    let sent = false
    while (!this.#stopped || order !== undefined) {
      order ??= this.#nextId++
      try {
        client ??= await this.#guarded.connect()
        if (sent && (await this.#arrived(client, kind, order))) this.arrivedUnseen += 1
        else {
          sent = true
          await (kind === 'single' ? insertSingle(client, order, writer) : insertLegs(client, order))
        }
        this.#acknowledge(kind, order)
        order = undefined
        sent = false
        await systemClock.sleep(this.#pause)
      } catch (error) {
        const code = (error as { code?: string }).code
        if (code !== undefined && /^(40|53|55P03)/.test(code)) {
          if (sent) this.refused.set(order as number, code)
          order = undefined
          sent = false
          await client?.query('ROLLBACK').catch(() => {})
        } else if (isConnectionLoss(error)) {
          if (client !== undefined) this.connectionsLost += 1
          void client?.end().catch(() => {})
          client = undefined
        } else throw new Error(`writer ${writer} (${kind}), order ${order}, was told ${code}: ${String(error)}`, { cause: error })
        await systemClock.sleep(10)
      }
    }
    await client?.end().catch(() => {})
  }

  #acknowledge(kind: Kind, order: number): void {
    ;(kind === 'single' ? this.singles : this.transactions).add(order)
    this.acknowledgedAt.push(systemClock.monotonic())
  }

  async #arrived(client: pg.Client, kind: Kind, order: number): Promise<boolean> {
    const { rows } = await client.query(`SELECT count(*) AS n FROM ${kind === 'single' ? 'singles' : 'legs'} WHERE id = $1`, [order])
    const found = Number(rows[0].n)
    if (kind === 'transaction' && found !== 0 && found !== legs) this.halves.push(order)
    return found > 0
  }
}

function insertSingle(client: pg.Client, id: number, writer: number): Promise<unknown> {
  return client.query('INSERT INTO singles VALUES ($1, $2, $3)', [id, writer, noteOf(id)])
}

async function insertLegs(client: pg.Client, id: number): Promise<void> {
  await client.query('BEGIN')
  for (const [leg, amount] of amountsOf(id).entries()) await client.query('INSERT INTO legs VALUES ($1, $2, $3)', [id, leg, amount])
  const { command } = await client.query('COMMIT')
  if (command !== 'COMMIT') throw new Error(`COMMIT of order ${id} was answered ${command}`)
}

/** The connection is gone, could not be made, or was ended by the server. */
export function isConnectionLoss(error: unknown): boolean {
  const { code, message } = error as { code?: string; message: string }
  return code === undefined ? /terminat|timeout|closed|ended|not queryable|connection/i.test(message) : /^(E[A-Z]+|08...|57P..)$/.test(code)
}
