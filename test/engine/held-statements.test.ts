// deadline: 240s
// Statements of which DuckDB is told when their transaction commits: the client is told the same, at the same statement, as if it had been told of each at once (R4).

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, rowsOf } from '../support/engine.ts'
import { waitFor } from '../support/wait.ts'
import { book, run, TradingRig, trade } from './support/trading-rig.ts'

const test = suite('held statements')
let rig: TradingRig

test.before(async () => {
  rig = await TradingRig.start()
})

test.after(() => rig.engine.kill())

test('a statement sees what its own transaction holds back, and a rollback leaves nothing of it', async () => {
  const client = await rig.holding()
  const key = rig.keys()
  for (const end of ['ROLLBACK', 'COMMIT']) {
    await run(client, 'BEGIN')
    await trade(client, key, 7)
    await run(client, book, 7, 50)
    await run(client, book, 1, 50)
    assert.equal(await rowsOf(client, `SELECT quantity FROM trades WHERE id = ${key}`), [['7']])
    assert.equal(await rowsOf(client, 'SELECT quantity, trades, note FROM positions WHERE id = 50'), [['8', '2', 'position 50']])
    await run(client, book, 1, 50)
    await client.query(end)
    const rows = end === 'COMMIT' ? [['9', '3']] : [['0', '0']]
    assert.equal(await rowsOf(client, 'SELECT quantity, trades FROM positions WHERE id = 50'), rows)
  }
  const other = rig.keys()
  await run(client, 'BEGIN')
  await trade(client, other)
  await run(client, 'ROLLBACK')
  assert.equal(await rowsOf(client, `SELECT * FROM trades WHERE id = ${other}`), [])
  await run(client, 'BEGIN')
  await trade(client, other)
  await run(client, book, 1, 51)
  await run(client, book, 1, 51)
  const before = rig.groups
  await run(client, 'COMMIT')
  assert.is(rig.groups, before + 1, 'it was held back to its end')
  assert.equal(await rowsOf(client, 'SELECT quantity, trades, note FROM positions WHERE id = 51'), [['2', '2', 'position 51']])
})

test('very many rows of one transaction, held back from its beginning or once DuckDB has begun it, are there as if each had been told of', async () => {
  const client = await rig.holding()
  const count = async (first: number) => Number((await rowsOf(client, `SELECT count(*) FROM trades WHERE id >= ${first}`))[0]?.[0])
  for (const look of [false, true])
    for (const end of ['ROLLBACK', 'COMMIT']) {
      const first = rig.keys(1_200)
      await run(client, 'BEGIN')
      if (look) await client.query('SELECT count(*) FROM trades')
      for (let n = 0; n < 1_200; n++) {
        await trade(client, first + n, n)
        if (n === 1_050) assert.is(await count(first), 1_051)
      }
      assert.is(await count(first), 1_200)
      await client.query(end)
      assert.is(await count(first), end === 'COMMIT' ? 1_200 : 0)
    }
  const rows = 'SELECT count(*), sum(quantity), count(DISTINCT quantity) FROM trades'
  const live = await rowsOf(client, rows)
  await rig.restart()
  assert.equal(await rowsOf(rig.clients[0] as pg.Client, rows), live)
})

test('a key that its own transaction has inserted before is refused at once', async () => {
  const client = await rig.holding()
  for (const look of [false, true])
    for (const rows of [1, 20, 100]) {
      const first = rig.keys(rows)
      await run(client, 'BEGIN')
      if (look) await client.query(`INSERT INTO trades VALUES (${first}, 1, 1)`)
      for (let n = look ? 1 : 0; n < rows; n++) await trade(client, first + n)
      assert.is(await codeOf(trade(client, first + (look ? 0 : rows - 1))), '23505', `${rows} rows, ${look}`)
      await run(client, 'ROLLBACK')
    }
})

test('a transaction that has read is committed together with others as well, on what it has read', async () => {
  const client = await rig.holding()
  const other = rig.clients[1] as pg.Client
  const quantity = async (from: pg.Client) => (await rowsOf(from, 'SELECT quantity FROM positions WHERE id = 54'))[0]?.[0]
  await run(client, book, 5, 54)
  // Read, changed, read again, changed again.
  await run(client, 'BEGIN')
  assert.is(await quantity(client), '5')
  await run(client, 'UPDATE positions SET quantity = $1 WHERE id = $2', 6, 54)
  await trade(client, rig.keys())
  const before = rig.groups
  await run(client, 'COMMIT')
  assert.is(rig.groups, before + 1)
  await run(client, 'BEGIN')
  assert.is(await quantity(client), '6')
  await run(client, book, 1, 54)
  assert.is(await quantity(client), '7')
  await run(client, book, 1, 54)
  await run(client, book, 1, 54)
  assert.is(await quantity(client), '9')
  await run(client, book, 1, 54)
  await run(client, 'COMMIT')
  assert.is(await quantity(other), '10')
  // What it has read is as it was: so the change that came between is a conflict, whichever row it was read for.
  for (const held of [book, 'UPDATE positions SET quantity = $1 + 0, trades = 0 WHERE id = $2']) {
    await run(client, 'BEGIN')
    const seen = Number(await quantity(client))
    await run(other, book, 100, 54)
    assert.is(Number(await quantity(client)), seen)
    const code = (await codeOf(run(client, held, seen, 54))) ?? (await codeOf(run(client, 'COMMIT')))
    assert.is(code, '40001')
    await run(client, 'ROLLBACK')
    assert.is(Number(await quantity(client)), seen + 100)
  }
  await run(client, 'BEGIN')
  const seen = Number(await quantity(client))
  await run(client, book, 1, 54)
  assert.is(await codeOf(run(other, book, 100, 54)), '40001')
  await run(client, 'COMMIT')
  assert.is(Number(await quantity(other)), seen + 1)
})

test('a key that is held back stays its transaction’s, whoever looks for free ones', async () => {
  const client = await rig.holding()
  const other = rig.clients[1] as pg.Client
  for (let n = 0; n < 20; n++) {
    const key = rig.keys()
    await run(client, 'BEGIN')
    await trade(client, key)
    // It is there already, so the range behind it is looked for anew.
    await run(other, 'BEGIN')
    assert.is(await codeOf(trade(other, key - 1)), '23505')
    await run(other, 'ROLLBACK')
    await rowsOf(other, 'SELECT count(*) FROM trades')
    assert.is(await codeOf(trade(client, key)), '23505')
    await run(client, 'ROLLBACK')
    await run(client, 'BEGIN')
    await trade(client, key)
    await run(client, 'COMMIT')
  }
})

test('what DuckDB would refuse is refused at its own statement', async () => {
  const client = await rig.holding()
  const taken = rig.keys() - 1
  await rig.engine.sql(
    'CREATE TABLE checked (id BIGINT PRIMARY KEY, v BIGINT CHECK (v > 0))',
    'CREATE TABLE uniques (id BIGINT PRIMARY KEY, v BIGINT UNIQUE)',
  )
  const checked = 'INSERT INTO checked VALUES ($1, $2)'
  const uniques = 'INSERT INTO uniques VALUES ($1, $2)'
  await run(client, uniques, 1, 5)
  const wrong: [code: string, statement: () => Promise<unknown>][] = [
    ['23505', () => trade(client, taken)],
    ['23503', () => trade(client, rig.keys(), 1, 99)],
    ['23502', () => run(client, 'INSERT INTO trades (id, instrument, quantity) VALUES ($1, $2, $3)', rig.keys(), 1, null)],
    ['23514', () => run(client, checked, rig.keys(), -1)],
    ['23505', () => run(client, uniques, rig.keys(), 5)],
    ['22003', () => run(client, book, '9223372036854775807', 52)],
    ['23502', () => run(client, 'UPDATE positions SET quantity = $1 WHERE id = $2', null, 52)],
  ]
  await run(client, 'UPDATE positions SET quantity = $1 WHERE id = $2', 1, 52)
  for (const [code, statement] of wrong) {
    const key = rig.keys()
    await run(client, 'BEGIN')
    await trade(client, key)
    assert.is(await codeOf(statement()), code)
    assert.is(await codeOf(trade(client, rig.keys())), '25P02')
    await run(client, 'ROLLBACK')
    assert.equal(await rowsOf(client, `SELECT * FROM trades WHERE id = ${key}`), [])
  }
  await run(client, 'BEGIN')
  const { rowCount } = await run(client, book, 1, 4_000)
  assert.is(rowCount, 0)
  await run(client, 'COMMIT')
})

test('a parent that was deleted is known to be gone', async () => {
  const client = await rig.holding()
  await rig.engine.sql("INSERT INTO instruments VALUES (70, 'seventy')")
  const rows: number[] = []
  await rig.untilKnown(client, () => trade(client, rows[rows.push(rig.keys()) - 1] as number, 1, 70))
  await rig.engine.sql(`DELETE FROM trades WHERE id IN (${rows})`, 'DELETE FROM instruments WHERE id = 70')
  await run(client, 'BEGIN')
  assert.is(await codeOf(trade(client, rig.keys(), 1, 70)), '23503')
  await run(client, 'ROLLBACK')
  // In one transaction, by the one that inserts.
  await rig.engine.sql("INSERT INTO instruments VALUES (70, 'seventy')")
  const key = rig.keys()
  await client.query('BEGIN')
  await client.query('SELECT 1')
  await trade(client, key, 1, 70)
  await client.query(`DELETE FROM trades WHERE id = ${key}`)
  await codeOf(client.query('DELETE FROM instruments WHERE id = 70'))
  await client.query('COMMIT')
  const there = (await rowsOf(client, 'SELECT * FROM instruments WHERE id = 70')).length === 1
  await run(client, 'BEGIN')
  assert.is(await codeOf(trade(client, rig.keys(), 1, 70)), there ? undefined : '23503')
  await run(client, 'ROLLBACK')
})

test('while a child is held back its parent stays', async () => {
  const client = await rig.holding()
  await rig.engine.sql("INSERT INTO instruments VALUES (71, 'seventy-one')")
  await rig.untilKnown(client, () => trade(client, rig.keys(), 1, 71))
  await rig.engine.sql('DELETE FROM trades WHERE instrument = 71')
  await run(client, 'BEGIN')
  await trade(client, rig.keys(), 1, 71)
  assert.is(await codeOf(rig.engine.sql('DELETE FROM instruments WHERE id = 71')), '40001')
  await run(client, 'COMMIT')
  assert.is((await rowsOf(client, 'SELECT * FROM trades WHERE instrument = 71')).length, 1)
})

test('two changes of one row: the second is refused while the first is open, and nothing is lost when it comes later', async () => {
  const client = await rig.holding()
  const other = rig.clients[1] as pg.Client
  await run(client, book, 1, 53)
  await run(client, 'BEGIN')
  await run(client, book, 10, 53)
  assert.is(await codeOf(run(other, book, 100, 53)), '40001')
  await run(client, 'COMMIT')
  // It began before the other one committed, but has not looked at the row.
  await run(client, 'BEGIN')
  await trade(client, rig.keys())
  await run(other, book, 100, 53)
  await run(client, book, 1_000, 53)
  await run(client, 'COMMIT')
  assert.equal(await rowsOf(client, 'SELECT quantity, trades FROM positions WHERE id = 53'), [['1111', '4']])
  // It has: whoever commits first wins.
  await run(client, 'BEGIN')
  await run(client, book, 1, 53)
  await other.query('BEGIN')
  const code = await codeOf(other.query('UPDATE positions SET quantity = 0 WHERE id = 53'))
  await other.query(code === undefined ? 'COMMIT' : 'ROLLBACK')
  assert.is(await codeOf(run(client, 'COMMIT')), code === undefined ? '40001' : undefined)
  const expected = code === undefined ? [['0', '4']] : [['1112', '5']]
  assert.equal(await rowsOf(client, 'SELECT quantity, trades FROM positions WHERE id = 53'), expected)
})

test('a schema change waits for what is held back, and what comes after it is by the new schema', async () => {
  const client = await rig.holding()
  await rig.engine.sql('CREATE TABLE changing (id BIGINT PRIMARY KEY, v BIGINT)')
  const insert = 'INSERT INTO changing (id, v) VALUES ($1, $2)'
  await rig.untilKnown(client, () => run(client, insert, rig.keys(), 1))
  await run(client, 'BEGIN')
  await run(client, insert, rig.keys(), 1)
  const altering = rig.engine.sql("ALTER TABLE changing ADD COLUMN w VARCHAR DEFAULT 'w'")
  await waitFor(
    'it waits',
    async () =>
      (await codeOf((rig.clients[1] as pg.Client).query("SET lock_timeout = '20ms'; INSERT INTO notes VALUES (1, '')"))) === '55P03',
  )
  await run(client, 'COMMIT')
  await altering
  await run(client, insert, rig.keys(), 1)
  assert.equal(await rowsOf(client, 'SELECT DISTINCT w FROM changing'), [['w']])
})

test.run()
