/** The schema, the rows and the statements that all sides share: trades with a primary key and a foreign key, positions that trades change. */

export const symbols = 20
/** Each client changes positions of its own, so that no two transactions conflict. */
export const positionsPerClient = 100
const mostClients = 64

const tradeColumns = `symbol_id INTEGER NOT NULL REFERENCES symbols (symbol_id), traded_at TIMESTAMP NOT NULL,
  price DECIMAL(18,8) NOT NULL, quantity DOUBLE PRECISION NOT NULL, buyer_maker BOOLEAN NOT NULL`

export function tradesTable(name: string): string {
  return `CREATE TABLE ${name} (trade_id BIGINT PRIMARY KEY, ${tradeColumns})`
}

/** `series(from, to)` is the dialect's table function of integers, `to` excluded, whose column is `i`. */
export function schema(series: (from: number, to: number) => string): string[] {
  return [
    'CREATE TABLE symbols (symbol_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL)',
    `INSERT INTO symbols SELECT i, 'SYMBOL-' || i FROM ${series(0, symbols)}`,
    tradesTable('trades'),
    'CREATE TABLE positions (position_id INTEGER PRIMARY KEY, quantity DOUBLE PRECISION NOT NULL, trades BIGINT NOT NULL)',
    `INSERT INTO positions SELECT i, 0, 0 FROM ${series(0, mostClients * positionsPerClient)}`,
  ]
}

export const duckdbSeries = (from: number, to: number): string => `range(${from}, ${to}) AS r (i)`
export const postgresSeries = (from: number, to: number): string => `generate_series(${from}, ${to - 1}) AS r (i)`

/** DuckDB's query of `count` generated trades with keys from `first` on, always the same; those from 0 on are spread over one day. */
export function generatedTrades(count: number, first = 0): string {
  const step = Math.floor(86_400_000_000 / count)
  return `SELECT i AS trade_id, (i % ${symbols})::INTEGER AS symbol_id, TIMESTAMP '2021-01-08' + to_microseconds(i * ${step}) AS traded_at,
    (39000 + (hash(i) % 100000) / 100)::DECIMAL(18,8) AS price, (hash(i + 1) % 1000000 + 1) / 1e6 AS quantity, hash(i) % 2 = 0 AS buyer_maker
    FROM range(${first}, ${first + count}) AS r (i)`
}

export const insertTrade =
  'INSERT INTO trades (trade_id, symbol_id, traded_at, price, quantity, buyer_maker) VALUES ($1, $2, $3, $4, $5, $6)'
export const updatePosition = 'UPDATE positions SET quantity = quantity + $1, trades = trades + 1 WHERE position_id = $2'

/** Volume-weighted average price by symbol and minute. */
export const vwap = `SELECT symbol_id, date_trunc('minute', traded_at) AS minute, sum(price * quantity) / sum(quantity) AS vwap, count(*) AS trades
  FROM trades GROUP BY 1, 2 ORDER BY 1, 2`

/** Keys of one run of a client: no two runs share any. */
const keysPerRun = 100_000_000_000
const keysPerClient = 1_000_000_000
let runs = 0

export function nextKeys(): number {
  return ++runs * keysPerRun
}

/** The values of one trade in pgbench's language. `base` and `at` come by -D, `n` counts on within a client. */
const pgbenchTrade = `\\set n :n + 1
\\set id :base + :client_id * ${keysPerClient} + :n
\\set symbol random(0, ${symbols - 1})
\\set price double(3943248 + random(-40000, 40000)) / 100
\\set quantity double(random(1, 1000000)) / 1000000
\\set maker random(0, 1) = 1
`
const pgbenchInsert =
  'INSERT INTO trades (trade_id, symbol_id, traded_at, price, quantity, buyer_maker) VALUES (:id, :symbol, :at, :price, :quantity, :maker);\n'

/** One single-row insert. */
export const insertScript = pgbenchTrade + pgbenchInsert

/** A trade and the position that it changes, in one transaction. */
export const transactionScript = `${pgbenchTrade}\\set position :client_id * ${positionsPerClient} + random(0, ${positionsPerClient - 1})
BEGIN;
${pgbenchInsert}UPDATE positions SET quantity = quantity + :quantity, trades = trades + 1 WHERE position_id = :position;
COMMIT;
`

/** `written`: they are put into the text as they stand. */
export function scriptVariables(base: number, written: boolean): Record<string, string> {
  const at = '2021-01-08 13:37:00.278'
  return { base: String(base), n: '0', at: written ? `'${at}'` : at }
}

/** The same trade for DuckDB's own client: key of the `n`th (from 1) trade of connection `client`. */
export function tradeKey(base: number, client: number, n: number): bigint {
  return BigInt(base + client * keysPerClient + n)
}
