// deadline: 180s
// What a client may take: time (statement_timeout, lock_timeout, idle transactions), connections, threads. Traders commit while analysts compute.

import pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { bind, execute, parse, query, RawClient, sync } from '../fixtures/wire.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('limits')
let engine: TestEngine

/** Runs until it is stopped. */
const endless = 'SELECT count(*) FROM range(10000000000) a, range(10000000000) b WHERE a.range + b.range < 0'

test.before(async () => {
  engine = await TestEngine.start({ engine: ['max_connections: 40'] })
  await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR)')
})
test.after(() => engine.kill())

test('statement_timeout ends a statement with 57014, and the session goes on', async () => {
  const client = await engine.connect()
  await client.query("SET statement_timeout = '50ms'")
  assert.equal(await rowsOf(client, 'SHOW statement_timeout'), [['50ms']])
  for (const query of [
    endless,
    { text: endless, values: [] },
    { text: `${endless} AND $1 = 1`, values: [1] },
    `INSERT INTO t SELECT 1, 'x' WHERE (${endless}) > 0`,
  ])
    assert.is(await codeOf(client.query(query as string)), '57014')
  await client.query('BEGIN')
  assert.is(await codeOf(client.query(endless)), '57014')
  assert.is(await codeOf(client.query('SELECT 1')), '25P02')
  await client.query('ROLLBACK')
  await client.query('SET statement_timeout = 0')
  assert.equal(await rowsOf(client, 'SELECT count(*) FROM t'), [['0']])
  await client.query('SET statement_timeout TO 3600000')
  assert.equal(await rowsOf(client, 'SHOW statement_timeout'), [['1h']])
  await client.query('RESET statement_timeout')
  assert.equal(await rowsOf(client, 'SHOW statement_timeout'), [['0']])
  for (const value of ["'5 parsecs'", '-1', "'x'"]) assert.is(await codeOf(client.query(`SET statement_timeout = ${value}`)), '22023')
  await client.end()
})

test('timeouts may come with the connection', async () => {
  const connect = { host: '127.0.0.1', port: engine.port, user: 'trader', database: 'trade_data' }
  for (const how of [{ statement_timeout: 50 }, { options: '-c statement_timeout=50ms --lock-timeout=1s' }]) {
    const client = new pg.Client({ ...connect, ...how })
    await client.connect()
    assert.equal(await rowsOf(client, 'SHOW statement_timeout'), [['50ms']])
    assert.is(await codeOf(client.query(endless)), '57014')
    await client.end()
  }
})

test('an idle transaction may be given less time than the config gives, not more', async () => {
  const client = await engine.connect()
  await client.query('SET idle_in_transaction_session_timeout = 3600000')
  assert.equal(await rowsOf(client, 'SHOW idle_in_transaction_session_timeout'), [['1min']])
  await client.query('SET idle_in_transaction_session_timeout = 20')
  const ended = new Promise<{ code?: string }>((resolve) => client.once('error', resolve))
  await client.query('BEGIN')
  assert.is((await ended).code, '25P03')
})

test('who idles after an error of the protocol has ended the transaction is not idle in it', async () => {
  const other = await engine.connect()
  await other.query('SET idle_in_transaction_session_timeout = 50')
  const ended = new Promise<{ code?: string }>((resolve) => other.once('error', resolve))
  const client = await RawClient.ready(engine.port)
  client.send(query('SET idle_in_transaction_session_timeout = 20'))
  await client.until('Z')
  client.send(parse('', "INSERT INTO t VALUES (7, 'x')"), bind('', ''), execute(''), execute('nobody'))
  await client.until('E')
  // By its end the first one's time is over as well.
  await other.query('BEGIN')
  assert.is((await ended).code, '25P03')
  client.send(sync)
  assert.is((await client.until('Z')).map(({ type }) => type).join(''), 'Z')
  assert.equal(await engine.sql('SELECT count(*) FROM t WHERE id = 7'), [['0']])
  client.destroy()
})

test('lock_timeout bounds the wait for a schema change, and a cancel ends it', async () => {
  const writer = await engine.connect()
  const changer = await engine.connect()
  await writer.query("BEGIN; INSERT INTO t VALUES (1, 'x')")
  await changer.query('SET lock_timeout = 20')
  assert.is(await codeOf(changer.query('CREATE TABLE other (id INTEGER)')), '55P03')
  await changer.query("SET lock_timeout = 0; SET statement_timeout = '20ms'")
  assert.is(await codeOf(changer.query('CREATE TABLE other (id INTEGER)')), '57014')
  await writer.query('ROLLBACK')
  // Who has no time limit: it takes longer than that on a slow machine.
  await writer.query('CREATE TABLE other (id INTEGER)')
  await writer.end()
  await changer.end()
})

test('more clients than max_connections are told 53300; who leaves makes room', async () => {
  const clients: pg.Client[] = []
  const connect = async () => {
    const client = new pg.Client({ host: '127.0.0.1', port: engine.port, user: 'trader', database: 'trade_data' })
    client.on('error', () => {})
    await client.connect()
    clients.push(client)
  }
  // Sessions of the tests before may still be on their way out.
  await waitFor('no session is left', async () => (await engine.control.status()).sessions === 0)
  for (let i = 0; i < 40; i++) await connect()
  assert.is(await codeOf(connect()), '53300')
  await clients.pop()?.end()
  await waitFor('there is room again', async () => {
    await connect()
    return true
  })
  await Promise.all(clients.map((client) => client.end()))
})

test('with more long queries than there are threads, inserts and updates commit, and every query can be cancelled', async () => {
  const analysts: pg.Client[] = []
  const answers: Promise<string | undefined>[] = []
  let ended = 0
  for (let i = 0; i < 20; i++) {
    const client = await engine.connect()
    analysts.push(client)
    answers.push(
      codeOf(client.query(endless)).finally(() => {
        ended++
      }),
    )
  }
  const trader = await engine.connect()
  for (let i = 100; i < 103; i++) {
    await trader.query('INSERT INTO t VALUES ($1, $2)', [i, 'bound'])
    await trader.query(`INSERT INTO t VALUES (${i + 100}, 'typed')`)
    await trader.query('BEGIN')
    await trader.query("UPDATE t SET v = 'changed' WHERE id = $1", [i])
    await trader.query('COMMIT')
  }
  assert.is(ended, 0, 'all the queries still run')
  for (const client of analysts) {
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
    const canceller = new pg.Client({ host: '127.0.0.1', port: engine.port }) as unknown as {
      connection: {
        connect(port: number, host: string): void
        on(event: string, listener: () => void): void
        cancel(id: number, key: number): void
      }
    }
    canceller.connection.on('connect', () => canceller.connection.cancel(processID, secretKey))
    canceller.connection.connect(engine.port, '127.0.0.1')
  }
  assert.equal(await Promise.all(answers), Array(20).fill('57014'))
  assert.equal(await rowsOf(trader, "SELECT count(*) FROM t WHERE id >= 100 AND v IN ('changed', 'typed')"), [['6']])
  await Promise.all([...analysts, trader].map((client) => client.end()))
})

test('deeply nested expressions end in an answer, on whichever thread they are worked out', async () => {
  const client = await engine.connect()
  await client.query('CREATE TABLE deep (id INTEGER PRIMARY KEY, n BIGINT)')
  await client.query('INSERT INTO deep VALUES (1, 0)')
  const depth = 240
  const sum = ' + 1'.repeat(depth)
  for (let i = 0; i < 3; i++) await client.query(`UPDATE deep SET n = n${sum} WHERE id = $1`, [1])
  assert.equal(await rowsOf(client, `SELECT n${sum} FROM deep`), [[String(4 * depth)]])
  const { rows } = await client.query(`SELECT max(n * 0 + range${sum}) AS most FROM deep, range(300000)`)
  assert.is(Number(rows[0].most), 299_999 + depth)
  await client.end()
})

test.run()
