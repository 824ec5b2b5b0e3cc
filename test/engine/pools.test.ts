// What pools and drivers send before they give a connection to the next one, and what is left of the one before: nothing.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { parse, query, RawClient, sync } from '../fixtures/wire.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'

const test = suite('pools')
let engine: TestEngine
let client: pg.Client

test.before(async () => {
  engine = await TestEngine.start()
  await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)')
})
test.after(() => engine.kill())
test.before.each(async () => {
  client = await engine.connect()
})
test.after.each(() => client.end())

const temporary = async () => (await rowsOf(client, "SELECT table_name FROM duckdb_tables() WHERE database_name = 'temp'")).flat()

test('what asyncpg sends is accepted, and resets what was set', async () => {
  await client.query("SET application_name = 'before'; SET statement_timeout = '3s'")
  await client.query('SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;')
  assert.equal(await rowsOf(client, 'SHOW statement_timeout'), [['0']])
  assert.equal(await rowsOf(client, 'SHOW application_name'), [['']])
})

test('DISCARD ALL gives up settings, temporary objects and prepared statements, outside of a transaction only', async () => {
  await client.query(`CREATE TEMPORARY TABLE t (id INTEGER PRIMARY KEY, v VARCHAR); CREATE TEMPORARY TABLE child (id INTEGER REFERENCES t (id));
    CREATE TEMPORARY VIEW w AS SELECT * FROM t; CREATE TEMPORARY SEQUENCE s; CREATE TEMPORARY MACRO f(a) AS a + 1; CREATE TEMPORARY MACRO g() AS TABLE SELECT 1;
    CREATE TEMPORARY TYPE mood AS ENUM ('bull', 'bear')`)
  await client.query("INSERT INTO t VALUES (1, 'temporary'); SET TimeZone = 'Asia/Tokyo'")
  await client.query('BEGIN')
  assert.is(await codeOf(client.query('DISCARD ALL')), '25001')
  await client.query('ROLLBACK')
  assert.equal(await temporary(), ['child', 't'])
  assert.is((await client.query('DISCARD ALL')).command, 'DISCARD')
  assert.equal(await temporary(), [])
  assert.equal(await rowsOf(client, 'SHOW TimeZone'), [['UTC']])
  for (const text of ['SELECT * FROM w', "SELECT nextval('s')", 'SELECT f(1)', 'SELECT * FROM g()', "SELECT 'bull'::mood"])
    assert.ok(await codeOf(client.query(text)), text)
  await client.query('INSERT INTO t VALUES ($1, $2)', [1, 10])
  assert.equal(await engine.sql('SELECT * FROM t'), [['1', '10']])
  await client.query('DELETE FROM t')
})

test('RESET and DISCARD go back to what the client asked for when it connected', async () => {
  const settings = { application_name: 'platform', statement_timeout: 3000, options: '-c lock_timeout=2000 -c TimeZone=Asia/Tokyo' }
  const own = await engine.connect(settings)
  const shown = async () =>
    (
      await Promise.all(['application_name', 'statement_timeout', 'lock_timeout', 'TimeZone'].map((name) => rowsOf(own, `SHOW ${name}`)))
    ).flat(2)
  const before = await shown()
  assert.equal(before, ['platform', '3s', '2s', 'Asia/Tokyo'])
  for (const text of ['DISCARD ALL', 'RESET ALL']) {
    await own.query("SET application_name = 'x'; SET statement_timeout = 0; SET lock_timeout = '9s'; SET TimeZone = 'UTC'")
    await own.query(text)
    assert.equal(await shown(), before, text)
  }
  await own.query("SET statement_timeout = '9s'; SET TimeZone = 'UTC'")
  await own.query('SET statement_timeout TO DEFAULT; RESET TimeZone; SET application_name = 9; SET application_name TO DEFAULT')
  assert.equal(await shown(), before)
})

test('DISCARD TEMP in a transaction is taken back by a rollback', async () => {
  await client.query('CREATE TEMPORARY TABLE t (id INTEGER, v VARCHAR)')
  await client.query('BEGIN; DISCARD TEMP')
  assert.equal(await temporary(), [])
  await client.query('ROLLBACK')
  assert.equal(await temporary(), ['t'])
  await client.query('INSERT INTO t VALUES ($1, $2)', [1, 'temporary'])
  assert.equal(await engine.sql('SELECT * FROM t'), [])
  await client.query('DISCARD TEMP; DISCARD PLANS; DISCARD SEQUENCES')
  assert.equal(await temporary(), [])
})

const codes = (messages: { type: string; body: Buffer }[]) =>
  messages.map(({ type, body }) => (type === 'E' ? /C(\w{5})\0/.exec(body.toString('latin1'))?.[1] : type)).join(' ')

test('a name that was deallocated can be prepared again', async () => {
  const raw = await RawClient.ready(engine.port)
  const send = async (...messages: Buffer[]) => {
    raw.send(...messages)
    return codes(await raw.until('Z'))
  }
  assert.is(await send(parse('S_1', 'SELECT 1'), parse('', 'SELECT 2'), sync), '1 1 Z')
  assert.is(await send(parse('S_1', 'SELECT 3'), sync), '42P05 Z')
  for (const text of ['DEALLOCATE "S_1"', 'DEALLOCATE ALL', 'DEALLOCATE PREPARE ALL', 'DISCARD ALL']) {
    // Of settings that it resets it tells.
    assert.is((await send(query(text))).replace('S ', ''), 'C Z', text)
    assert.is(await send(parse('S_1', 'SELECT 3'), sync), '1 Z', text)
  }
  for (const [text, code] of [
    ['DEALLOCATE s_1', '26000'],
    ['DEALLOCATE ""', '26000'],
    ['DEALLOCATE', '42601'],
    ['DISCARD x', '42601'],
    ['CLOSE c', '34000'],
  ] as const)
    assert.is(await send(query(text)), `${code} Z`, text)
  assert.is(await send(parse('S_1', 'SELECT 3'), sync), '42P05 Z')
  raw.socket.destroy()
})

test.run()
