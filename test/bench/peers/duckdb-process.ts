/**
 * DuckDB alone, as a user has it today: a process of its own that opens the file through @duckdb/node-api with default settings, so with its
 * own WAL and an fsync for every commit. It works by messages (peers/duckdb.ts): {id, method, params} → {id, result} or {id, error}.
 */

import {
  DuckDBDataChunk,
  DuckDBDecimalValue,
  DuckDBInstance,
  DuckDBTimestampValue,
  type DuckDBType,
  type DuckDBValue,
} from '@duckdb/node-api'
import type { Length } from '../clients.ts'
import { generatedTrades, insertTrade, positionsPerClient, symbols, tradeKey, updatePosition } from '../trades.ts'

export interface LoadParams {
  readonly connections: number
  readonly length: Length
  readonly base: number
  /** Each insert is a text of its own, with its values. */
  readonly written?: boolean
}

/** What the process answers to; each resolves with JSON. */
export interface DuckDBMethods {
  open: { params: { file: string; settings: Record<string, string> }; result: null }
  /** Runs statements; milliseconds of the last one until all its rows were fetched as values, and their number. */
  run: { params: { statements: readonly string[] }; result: { ms: number; rows: number } }
  inserts: { params: LoadParams; result: LoadOutcome }
  transactions: { params: LoadParams; result: LoadOutcome }
  /** Appends generated trades to `table` through the appender and checkpoints; milliseconds of both. */
  append: { params: { table: string; count: number }; result: number }
}

interface LoadOutcome {
  readonly ms: number
  /** Milliseconds, in the order of their ends. */
  readonly latencies: number[]
}

let instance: DuckDBInstance
const tradedAt = new DuckDBTimestampValue(1_610_113_020_278_000n)

async function open({ file, settings }: DuckDBMethods['open']['params']): Promise<null> {
  instance = await DuckDBInstance.create(file, settings)
  return null
}

async function run({ statements }: DuckDBMethods['run']['params']): Promise<DuckDBMethods['run']['result']> {
  const connection = await instance.connect()
  try {
    let ms = 0
    let rows = 0
    for (const statement of statements) {
      const started = performance.now()
      rows = (await connection.runAndReadAll(statement)).getRows().length
      ms = performance.now() - started
    }
    return { ms, rows }
  } finally {
    connection.closeSync()
  }
}

/** `connections` loops side by side, each of which runs its own `step` over and over. */
async function load(
  { connections, length }: LoadParams,
  open: (client: number) => Promise<(n: number) => Promise<void>>,
): Promise<LoadOutcome> {
  const steps = await Promise.all(Array.from({ length: connections }, (_, client) => open(client)))
  const latencies: number[] = []
  const started = performance.now()
  const end = 'seconds' in length ? started + length.seconds * 1000 : Number.POSITIVE_INFINITY
  const most = 'seconds' in length ? Number.POSITIVE_INFINITY : length.transactions
  await Promise.all(
    steps.map(async (step) => {
      for (let n = 1; n <= most && performance.now() < end; n++) {
        const begun = performance.now()
        await step(n)
        latencies.push(performance.now() - begun)
      }
    }),
  )
  return { ms: performance.now() - started, latencies }
}

const quantityOf = (n: number) => ((n * 7919) % 1_000_000) / 1e6 + 1e-6

/** The same trades as `inserter` gives. */
async function writer(base: number, client: number) {
  const connection = await instance.connect()
  return async (n: number) => {
    const values = [tradeKey(base, client, n), n % symbols, `'${tradedAt}'`, (3_943_248 + (n % 1000)) / 100, quantityOf(n), n % 2 === 0]
    await connection.run(`INSERT INTO trades (trade_id, symbol_id, traded_at, price, quantity, buyer_maker) VALUES (${values.join(', ')})`)
  }
}

async function inserter(base: number, client: number) {
  const connection = await instance.connect()
  const insert = await connection.prepare(insertTrade)
  const run = async (n: number) => {
    insert.bindBigInt(1, tradeKey(base, client, n))
    insert.bindInteger(2, n % symbols)
    insert.bindTimestamp(3, tradedAt)
    insert.bindDecimal(4, new DuckDBDecimalValue(3_943_248_000_000n + BigInt(n % 1000) * 1_000_000n, 18, 8))
    insert.bindDouble(5, quantityOf(n))
    insert.bindBoolean(6, n % 2 === 0)
    await insert.run()
  }
  return { connection, run }
}

function inserts(params: LoadParams): Promise<LoadOutcome> {
  const { base, written } = params
  return load(params, async (client) => (written ? writer(base, client) : (await inserter(base, client)).run))
}

function transactions(params: LoadParams): Promise<LoadOutcome> {
  return load(params, async (client) => {
    const { connection, run } = await inserter(params.base, client)
    const update = await connection.prepare(updatePosition)
    return async (n) => {
      await connection.run('BEGIN')
      await run(n)
      update.bindDouble(1, quantityOf(n))
      update.bindInteger(2, client * positionsPerClient + (n % positionsPerClient))
      await update.run()
      await connection.run('COMMIT')
    }
  })
}

const chunkRows = 2048

async function append({ table, count }: DuckDBMethods['append']['params']): Promise<number> {
  const connection = await instance.connect()
  const data = await connection.runAndReadAll(generatedTrades(count))
  const columns = data.getColumns()
  const types: readonly DuckDBType[] = data.columnTypes()
  const started = performance.now()
  const appender = await connection.createAppender(table)
  for (let start = 0; start < count; start += chunkRows) {
    const end = Math.min(start + chunkRows, count)
    const chunk = DuckDBDataChunk.create(types, end - start)
    chunk.setColumns(columns.map((column) => column.slice(start, end) as DuckDBValue[]))
    appender.appendDataChunk(chunk)
  }
  appender.closeSync()
  await connection.run('CHECKPOINT')
  const ms = performance.now() - started
  connection.closeSync()
  return ms
}

const methods: { [M in keyof DuckDBMethods]: (params: DuckDBMethods[M]['params']) => Promise<DuckDBMethods[M]['result']> } = {
  open,
  run,
  inserts,
  transactions,
  append,
}

process.on('message', ({ id, method, params }: { id: number; method: keyof DuckDBMethods; params: never }) => {
  methods[method](params).then(
    (result) => process.send?.({ id, result }),
    (error: Error) => process.send?.({ id, error: error.stack ?? error.message }),
  )
})
process.on('disconnect', () => process.exit())
