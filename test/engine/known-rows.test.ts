// In a transaction, an INSERT whose values are known beforehand and an UPDATE that names its row by key take short ways: the journal gets the same rows.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, type Row, rowsOf, TestEngine } from '../support/engine.ts'

const test = suite('known rows')
let engine: TestEngine
let client: pg.Client

const everything = ['SELECT * FROM trades ORDER BY id', 'SELECT * FROM positions ORDER BY account, symbol']
const state = async (): Promise<Row[][]> => [await rowsOf(client, everything[0] as string), await rowsOf(client, everything[1] as string)]

/** A statement with bound parameters, which pg sends as texts. */
const run = async (text: string, ...values: unknown[]): Promise<Row[]> => rowsOf(client, text, values)

/** What is there now is there after SIGKILL and a replay. */
async function survives(): Promise<Row[][]> {
  const live = await state()
  await engine.restart()
  assert.equal(engine.control.hello.recovery.refused, [])
  client = await engine.connect()
  assert.equal(await state(), live)
  return live
}

test.before(async () => {
  engine = await TestEngine.start()
  await engine.sql(
    'CREATE TABLE symbols (id INTEGER PRIMARY KEY)',
    'INSERT INTO symbols VALUES (1), (2)',
    'CREATE TABLE trades (id BIGINT PRIMARY KEY, symbol INTEGER REFERENCES symbols (id), price DECIMAL(18,8), traded_at TIMESTAMP, note VARCHAR, copy VARCHAR)',
    'CREATE TABLE positions (account INTEGER, symbol INTEGER, quantity DOUBLE, note VARCHAR, PRIMARY KEY (account, symbol))',
    'INSERT INTO positions SELECT a, s, 0, NULL FROM range(3) x(a), range(3) y(s)',
  )
  client = await engine.connect()
})

test.after(() => engine.kill())

test('rows of bound parameters are inserted in a transaction as they are outside of one', async () => {
  await client.query('BEGIN')
  await run('INSERT INTO trades VALUES ($1, $2, $3, $4, $5, $6)', '1', '1', '39432.48', '2021-01-08 13:37:00.278', 'näme', null)
  await run('INSERT INTO trades (note, id) VALUES ($2, $1)', '2', 'some columns')
  // One parameter for two columns, a value that has to be rounded, a time in another form: DuckDB's to decide.
  await run('INSERT INTO trades (id, note, copy) VALUES ($1, $2, $2)', '3', 'twice')
  await run('INSERT INTO trades (id, price) VALUES ($1, $2)', '4', '1.123456789')
  await run('INSERT INTO trades (id, traded_at) VALUES ($1, $2)', '5', '2021-01-08')
  await client.query('COMMIT')
  await client.query('BEGIN')
  await run('INSERT INTO trades (id) VALUES ($1)', '6')
  await client.query('ROLLBACK')
  const [trades] = await survives()
  assert.equal(trades, [
    ['1', '1', '39432.48000000', '2021-01-08 13:37:00.278', 'näme', null],
    ['2', null, null, null, 'some columns', null],
    ['3', null, null, null, 'twice', 'twice'],
    ['4', null, '1.12345679', null, null, null],
    ['5', null, null, '2021-01-08 00:00:00', null, null],
  ])
})

for (const [code, values] of [
  ['23505', ['1', '1']],
  ['23503', ['9', '7']],
] as const) {
  test(`one that fails with ${code} fails its transaction`, async () => {
    await client.query('BEGIN')
    await run('INSERT INTO trades (id, symbol) VALUES ($1, $2)', '10', '1')
    assert.is(await codeOf(run('INSERT INTO trades (id, symbol) VALUES ($1, $2)', ...values)), code)
    assert.is(await codeOf(run('INSERT INTO trades (id, symbol) VALUES ($1, $2)', '11', '1')), '25P02')
    await client.query('ROLLBACK')
    assert.equal(await rowsOf(client, 'SELECT count(*) FROM trades WHERE id >= 9'), [['0']])
  })
}

test('a child of a parent that the same transaction has deleted is refused', async () => {
  await client.query('BEGIN')
  await client.query('DELETE FROM symbols WHERE id = 2')
  const code = await codeOf(run('INSERT INTO trades (id, symbol) VALUES ($1, $2)', '20', '2'))
  assert.ok(code?.startsWith('23') || code === '40001', code)
  await client.query('ROLLBACK')
})

test('an UPDATE finds its row by whole keys, whatever way they are written', async () => {
  await client.query('BEGIN')
  await run('UPDATE positions SET quantity = quantity + $1 WHERE account = $2 AND symbol = $3', '1.5', '0', '1')
  await run('UPDATE positions AS p SET quantity = p.quantity + 1 WHERE symbol = $1 AND p.account = $2', '2', '0')
  await client.query("UPDATE positions SET note = 'literal' WHERE account = 1 AND symbol = '0'")
  assert.equal(await run('UPDATE positions SET note = $1 WHERE account = $2 AND symbol = 1 RETURNING account, note', 'told', '1'), [
    ['1', 'told'],
  ])
  // More than the key, less than the key, and no such row.
  await run('UPDATE positions SET note = $1 WHERE account = $2 AND symbol = 2 AND quantity > 5', 'never', '1')
  await run('UPDATE positions SET note = $1 WHERE account = $2', 'all of 2', '2')
  await run('UPDATE positions SET note = $1 WHERE account = $2 AND symbol = $3', 'nobody', '7', '7')
  // A condition that its own change makes untrue.
  await run('UPDATE positions SET quantity = $1 WHERE account = $2 AND symbol = 2 AND quantity = 1', '9', '0')
  // The key moves.
  await run('UPDATE positions SET symbol = $1 WHERE account = $2 AND symbol = $3', '5', '1', '2')
  await client.query('COMMIT')
  const [, positions] = await survives()
  assert.equal(positions, [
    ['0', '0', '0', null],
    ['0', '1', '1.5', null],
    ['0', '2', '9', null],
    ['1', '0', '0', 'literal'],
    ['1', '1', '0', 'told'],
    ['1', '5', '0', null],
    ['2', '0', '0', 'all of 2'],
    ['2', '1', '0', 'all of 2'],
    ['2', '2', '0', 'all of 2'],
  ])
})

test('a schema change since the transaction began is told, and the next one sees it', async () => {
  const insert = 'INSERT INTO trades (id, note) VALUES ($1, $2)'
  await run(insert, '30', 'before')
  await client.query('BEGIN')
  await client.query('SELECT count(*) FROM trades')
  await engine.sql('ALTER TABLE trades ADD COLUMN venue VARCHAR')
  assert.is(await codeOf(run(insert, '31', 'between')), '40001')
  await client.query('ROLLBACK')
  await client.query('BEGIN')
  await run(insert, '32', 'after')
  await client.query('COMMIT')
  const [trades] = await survives()
  assert.equal(trades?.slice(-2), [
    ['30', null, null, null, 'before', null, null],
    ['32', null, null, null, 'after', null, null],
  ])
})

test.run()
