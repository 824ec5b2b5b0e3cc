// deadline: 300s
// The 2,001 trades go in through psql's COPY and node pg from 4 connections while the engine is killed 5 times; then DuckDB, ClickHouse and Redis agree.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { startChdb } from '../support/chdb.ts'
import { runChild } from '../support/process.ts'
import { seededRandom } from '../support/random.ts'
import { startRedis } from '../support/redis.ts'
import { loadTrades, type Trade } from '../support/trades.ts'
import { waitFor } from '../support/wait.ts'
import { Guarded, patience } from './support/guarded.ts'
import { assertSame, clickHouseRows, delivered, inClickHouse, inDuckDB, inRedis } from './support/stores.ts'
import { isConnectionLoss } from './support/writers.ts'

const test = suite('trades')
const columns = ['trade_id', 'price', 'quantity']
const price = (trade: Trade) => trade.price.toFixed(2)
const quantity = (trade: Trade) => trade.quantity.toFixed(6)
/** A decimal text without its point. */
const units = (text: string) => BigInt(text.replace('.', ''))
const time = (trade: Trade) => new Date(Number(trade.timestamp / 1000n)).toISOString()
const kills = 5

test('2,001 trades under 5 kills of the engine are the same in DuckDB, ClickHouse and Redis', async () => {
  const random = seededRandom('trades')
  const trades = await loadTrades()
  const [redis, clickhouse] = await Promise.all([startRedis(), startChdb()])
  const guarded = await Guarded.prepare({
    plugins: [
      'watchdog: { max_restarts: 1000 }',
      'checkpointer: { every_transactions: 200 }',
      `redis-mirror: { url: "${redis.url}" }`,
      `clickhouse-shipper: { url: "${clickhouse.url}", batch: { max_delay: 100ms }, backoff: [100ms, 500ms] }`,
    ],
  })
  try {
    await guarded.start()
    await guarded.sql(
      'CREATE TABLE trades (traded_at TIMESTAMPTZ NOT NULL, trade_id BIGINT PRIMARY KEY, price DECIMAL(12,2) NOT NULL, quantity DECIMAL(18,6) NOT NULL, buyer_maker BOOLEAN NOT NULL)',
    )
    const acknowledged = new Set<number>()
    const lanes = [0, 1, 2, 3].map((lane) => trades.filter((_, i) => i % 4 === lane))
    const note = (part: readonly Trade[]) => {
      for (const trade of part) acknowledged.add(trade.trade_id)
    }
    let stopped = false
    const platforms = Promise.all([
      ...lanes.slice(0, 2).map((lane) => copyWithPsql(guarded, lane, note, () => stopped)),
      insertWithPg(guarded, lanes[2] as Trade[], 1, note, () => stopped),
      insertWithPg(guarded, lanes[3] as Trade[], 10, note, () => stopped),
    ])
    const failed = platforms.then(
      () => undefined,
      (error: Error) => error,
    )
    try {
      for (let kill = 1; kill <= kills; kill++) {
        const target = Math.floor((trades.length * (kill - 0.7 * random.float())) / (kills + 1))
        await waitFor(`${target} trades are acknowledged`, () => acknowledged.size >= target, { deadline: patience, every: 1 })
        assert.ok(acknowledged.size < trades.length, 'the engine is killed while trades come in')
        await guarded.killEngine()
      }
    } catch (error) {
      stopped = true
      throw (await failed) ?? error
    }
    await platforms
    assert.is(acknowledged.size, trades.length)

    const expected = trades.map((trade) => [trade.trade_id, price(trade), quantity(trade)].join('|')).sort()
    const turnover = trades.reduce((sum, trade) => sum + units(price(trade)) * units(quantity(trade)), 0n)
    const total = [String(trades.length), withoutZeros(`${turnover / 10n ** 8n}.${(turnover % 10n ** 8n).toString().padStart(8, '0')}`)]

    assertSame('DuckDB', await inDuckDB(guarded, 'trades', columns), expected)
    const inDuck = await guarded.sql('SELECT count(*), sum(price * quantity) FROM trades')
    assert.equal(inDuck[0]?.map(withoutZeros), total)

    await delivered(guarded)
    const turnoverThere = 'sum(toDecimal128(price, 2) * toDecimal128(quantity, 6))'
    const inHouse = await clickHouseRows(clickhouse.url, `SELECT count(), toString(${turnoverThere}) FROM trades`)
    assert.equal(inHouse[0]?.map(withoutZeros), total)
    const shipped = await inClickHouse(clickhouse.url, 'trades', columns)
    assertSame('ClickHouse', shipped.map(withoutZeros), expected.map(withoutZeros))

    const mirrored = await inRedis(redis.url, 'trades', columns)
    assertSame('Redis', mirrored, expected)
    const products = mirrored.map((line) => line.split('|')).map(([, one = '', other = '']) => units(one) * units(other))
    assert.is(
      products.reduce((sum, product) => sum + product, 0n),
      turnover,
    )
    assert.is((await guarded.command('scan')).code, 0)
    await guarded.stop()
  } finally {
    await guarded.end()
    await Promise.all([redis.kill(), clickhouse.kill()])
  }
})

/** ClickHouse leaves out a decimal's last zeros. */
function withoutZeros(line: string): string {
  return line
    .split('|')
    .map((text) => (text.includes('.') ? text.replace(/\.?0+$/, '') : text))
    .join('|')
}

/** psql's COPY, 25 trades at a time; after a lost connection it looks whether they are there. */
async function copyWithPsql(guarded: Guarded, lane: readonly Trade[], note: (part: readonly Trade[]) => void, stopped: () => boolean) {
  for (let at = 0; at < lane.length && !stopped(); at += 25) {
    const part = lane.slice(at, at + 25)
    const input = part.map((trade) => [time(trade), trade.trade_id, price(trade), quantity(trade), trade.buyer_maker].join('\t')).join('\n')
    for (let sent = false; !stopped(); ) {
      if (sent && (await isThere(guarded, part))) break
      sent = true
      const { code, stdout, stderr } = await psql(guarded, 'COPY trades FROM STDIN', `${input}\n`)
      if (code === 0 && stdout.trim() === `COPY ${part.length}`) break
      if (!/connection|server closed|terminat|refused|starting/i.test(stderr)) throw new Error(`psql: ${stdout}${stderr}`)
    }
    note(part)
  }
}

function psql(guarded: Guarded, command: string, input?: string) {
  const args = [
    '-X',
    '-h',
    '127.0.0.1',
    '-p',
    String(guarded.port),
    '-U',
    'trader',
    '-d',
    'trade_data',
    '-v',
    'ON_ERROR_STOP=1',
    '-c',
    command,
  ]
  return runChild('psql', args, { input })
}

/** All of them or none: a COPY or a transaction is never half there. */
async function isThere(guarded: Guarded, part: readonly Trade[]): Promise<boolean> {
  const query = `SELECT count(*) FROM trades WHERE trade_id IN (${part.map((trade) => trade.trade_id).join(', ')})`
  let found = -1
  await waitFor(
    'the engine answers again',
    async () => {
      found = Number((await guarded.sql(query))[0]?.[0])
      return true
    },
    { deadline: patience },
  )
  if (found !== 0 && found !== part.length) throw new Error(`${found} of ${part.length} trades of one COPY or transaction are there`)
  return found > 0
}

/** node pg: `size` trades per transaction; 1: without one. */
async function insertWithPg(
  guarded: Guarded,
  lane: readonly Trade[],
  size: number,
  note: (part: readonly Trade[]) => void,
  stopped: () => boolean,
) {
  let client: Awaited<ReturnType<Guarded['connect']>> | undefined
  try {
    for (let at = 0; at < lane.length && !stopped(); at += size) {
      const part = lane.slice(at, at + size)
      for (let sent = false, done = false; !done && !stopped(); ) {
        try {
          if (sent && (await isThere(guarded, part))) break
          client ??= await guarded.connect()
          sent = true
          if (size > 1) await client.query('BEGIN')
          for (const trade of part)
            await client.query('INSERT INTO trades VALUES ($1, $2, $3, $4, $5)', [
              time(trade),
              trade.trade_id,
              price(trade),
              quantity(trade),
              trade.buyer_maker,
            ])
          if (size > 1) await client.query('COMMIT')
          done = true
        } catch (error) {
          if (!isConnectionLoss(error)) throw error
          void client?.end().catch(() => {})
          client = undefined
        }
      }
      note(part)
    }
  } finally {
    await client?.end().catch(() => {})
  }
}

test.run()
