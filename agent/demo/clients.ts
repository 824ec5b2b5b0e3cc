/**
 * The demo's trading platform: clients that write trades over the Postgres wire, each on a connection of its own, and note
 * what was acknowledged. A client whose connection dies connects again, looks whether its last order arrived, and sends it
 * once more if it did not: that is all a platform needs to do.
 */

import pg from 'pg'
import { systemClock } from '../clock.ts'
import { codeOf, DaemonGuardError, messageOf } from '../errors.ts'

export interface Trade {
  id: number
  broker: number
  /** Decimal text, as the database gives it back. */
  price: string
  quantity: string
}

/** One acknowledged write. Times are monotonic milliseconds. */
interface Acknowledgement {
  at: number
  /** When the connection it came over was made. */
  connectedAt: number
}

export const brokers = ['Aldous', 'Birkin', 'Corvin', 'Dumont']
export const schema = [
  'CREATE TABLE brokers (broker_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL)',
  // No key on purpose: a unique index would hide a row that was written twice.
  `CREATE TABLE trades (trade_id BIGINT NOT NULL, broker_id INTEGER NOT NULL REFERENCES brokers (broker_id),
    price DECIMAL(18,2) NOT NULL, quantity DECIMAL(18,4) NOT NULL, traded_at TIMESTAMPTZ DEFAULT now())`,
]
export const insertTrade = 'INSERT INTO trades (trade_id, broker_id, price, quantity) VALUES ($1, $2, $3, $4)'

/** The trade of an id: the same each time, so that the end can be compared value by value. */
export function tradeOf(id: number): Trade {
  return {
    id,
    broker: (id % brokers.length) + 1,
    price: (30_000 + ((id * 7919) % 1_000_000) / 100).toFixed(2),
    quantity: (((id * 104_729) % 50_000) / 10_000 + 0.0001).toFixed(4),
  }
}

/** A client that never throws out of an event; `address` is the engine's. */
export async function connect(address: { host: string; port: number }): Promise<pg.Client> {
  const client = new pg.Client({ ...address, user: 'demo', database: 'trade_data', connectionTimeoutMillis: 2000, query_timeout: 10_000 })
  client.on('error', () => {}) // the query that is under way, or the next one, rejects as well
  await client.connect()
  return client
}

export class Clients {
  /** Every row that was acknowledged, or found to have arrived. */
  readonly acknowledged = new Map<number, Trade>()
  /** Orders that had arrived although their acknowledgement never came. */
  arrivedUnseen = 0
  /** Transactions of which a part was found. Rule R4: none. */
  halves = 0
  /** Connections lost, one for each client and fault. */
  connectionsLost = 0
  #acknowledgements: Acknowledgement[] = []
  #address: { host: string; port: number }
  #nextId = 1
  #stopped = false
  #abandoned = false
  #running: Promise<void>[] = []
  #failure: Error | undefined

  constructor(address: { host: string; port: number }) {
    this.#address = address
  }

  /** Starts one client for each entry: the number of trades in each of its transactions. */
  start(ordersOf: readonly number[]): void {
    this.#running = ordersOf.map((size) =>
      this.#stream(size).catch((error: Error) => {
        this.#failure ??= error
      }),
    )
  }

  /** Lets each client finish its order. Throws what ended one early, or when one does not get it delivered within `deadline` ms. */
  async stop(deadline: number): Promise<void> {
    this.#stopped = true
    const ended = Promise.all(this.#running).then(() => true)
    const late = systemClock.sleep(deadline).then(() => false)
    if (!(await Promise.race([ended, late]))) {
      this.#abandoned = true
      throw new DaemonGuardError(`a client could not deliver its last order within ${deadline / 1000} s`)
    }
    this.check()
  }

  /** Throws if a client met an error that no platform should meet. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Milliseconds from `moment` to the first acknowledgement over a connection that was made after it; undefined when there is none yet. */
  recoveredAfter(moment: number): number | undefined {
    const first = this.#acknowledgements.find(({ connectedAt }) => connectedAt > moment)
    return first === undefined ? undefined : first.at - moment
  }

  /** Milliseconds from `moment` to the next acknowledgement over any connection; undefined when there is none yet. */
  servedAfter(moment: number): number | undefined {
    const next = this.#acknowledgements.find(({ at }) => at > moment)
    return next === undefined ? undefined : next.at - moment
  }

  /** The longest time without any acknowledgement between `from` and now, in milliseconds. */
  longestPause(from: number): number {
    let longest = 0
    let previous = from
    for (const { at } of this.#acknowledgements) {
      if (at <= from) continue
      longest = Math.max(longest, at - previous)
      previous = at
    }
    return Math.max(longest, systemClock.monotonic() - previous)
  }

  async #stream(size: number): Promise<void> {
    let connection: { client: pg.Client; at: number } | undefined
    try {
      while (!this.#stopped) {
        const trades = Array.from({ length: size }, () => tradeOf(this.#nextId++))
        let uncertain = false
        for (let delivered = false; !delivered && !this.#abandoned; ) {
          try {
            connection ??= { client: await connect(this.#address), at: systemClock.monotonic() }
            if (uncertain && (await this.#arrived(connection.client, trades))) {
              this.arrivedUnseen += 1
            } else {
              uncertain = true
              await send(connection.client, trades)
            }
            this.#acknowledgements.push({ at: systemClock.monotonic(), connectedAt: connection.at })
            for (const trade of trades) this.acknowledged.set(trade.id, trade)
            delivered = true
          } catch (error) {
            if (isRefusal(error)) {
              // Told "failed": it is not there, and may be sent again at once.
              uncertain = false
              await connection?.client.query('ROLLBACK').catch(() => {})
            } else if (isConnectionLoss(error)) {
              if (connection !== undefined) this.connectionsLost += 1
              void connection?.client.end().catch(() => {})
              connection = undefined
            } else
              throw new DaemonGuardError(`a client was told: ${messageOf(error)}`, {
                where: `trade ${trades[0]?.id}, SQLSTATE ${codeOf(error)}`,
                cause: error,
              })
            await systemClock.sleep(20)
          }
        }
        await systemClock.sleep(5) // a busy exchange, not a benchmark
      }
    } finally {
      await connection?.client.end().catch(() => {})
    }
  }

  async #arrived(client: pg.Client, trades: readonly Trade[]): Promise<boolean> {
    const ids = trades.map(({ id }) => id)
    const { rows } = await client.query(`SELECT count(*) AS n FROM trades WHERE trade_id BETWEEN ${ids[0]} AND ${ids.at(-1)}`)
    const found = Number((rows[0] as { n: string }).n)
    if (found !== 0 && found !== trades.length) this.halves += 1
    return found > 0
  }
}

/** One trade on its own, several in a transaction. */
async function send(client: pg.Client, trades: readonly Trade[]): Promise<void> {
  if (trades.length > 1) await client.query('BEGIN')
  for (const { id, broker, price, quantity } of trades) await client.query(insertTrade, [id, broker, price, quantity])
  if (trades.length > 1) await client.query('COMMIT')
}

/** Errors after which Postgres clients try again: conflicts, and a server that says it cannot take writes now. */
function isRefusal(error: unknown): boolean {
  return /^(40|53|55P03)/.test(codeOf(error) ?? '')
}

/** The connection is gone, could not be made, or was ended by the server (08…, 57P…). */
function isConnectionLoss(error: unknown): boolean {
  const code = codeOf(error)
  return code === undefined
    ? /terminat|timeout|closed|ended|not queryable|connection/i.test(messageOf(error))
    : /^(E[A-Z]+|08...|57P..|25P03)$/.test(code)
}
