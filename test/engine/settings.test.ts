// What a session sets and for how long: SET LOCAL ends with its transaction, a rollback takes back every SET, as in Postgres.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'

const test = suite('settings')
let engine: TestEngine
let client: pg.Client
const notices: string[] = []
/** What the client was told of changed parameters. */
let told: string[] = []

test.before(async () => {
  engine = await TestEngine.start()
  client = await engine.connect()
  client.on('notice', ({ code, message }) => notices.push(`${code} ${message}`))
  const { connection } = client as unknown as { connection: NodeJS.EventEmitter }
  connection.on('parameterStatus', ({ parameterName, parameterValue }) => told.push(`${parameterName}=${parameterValue}`))
  await client.query('CREATE SCHEMA a; CREATE SCHEMA b')
  for (const schema of ['main', 'a', 'b']) await client.query(`CREATE TABLE ${schema}.t (id INTEGER PRIMARY KEY, v VARCHAR)`)
})
test.before.each(async () => {
  await client.query('ROLLBACK; RESET ALL')
  notices.length = 0
  told = []
})
test.after(() => engine.kill())

const shown = async (name: string) => (await rowsOf(client, `SHOW ${name}`))[0]?.[0]

/** Each with the name that SHOW knows, the value it has before, one that SET gives it, and one that SET LOCAL gives it. */
const settings = [
  ['TimeZone', 'TimeZone', 'UTC', 'Asia/Tokyo', 'Europe/Berlin'],
  ['TIME ZONE', 'TimeZone', 'UTC', 'Asia/Tokyo', 'Europe/Berlin'],
  ['search_path', 'search_path', 'trade_data.main', 'trade_data.a', 'trade_data.b'],
  ['statement_timeout', 'statement_timeout', '0', '1min', '2min'],
  ['lock_timeout', 'lock_timeout', '0', '3s', '4s'],
  ['idle_in_transaction_session_timeout', 'idle_in_transaction_session_timeout', '1min', '20s', '30s'],
  ['application_name', 'application_name', '', 'one', 'two'],
  ['extra_float_digits', 'extra_float_digits', '', '1', '2'],
] as const

for (const [name, shows, before, session, local] of settings) {
  const set = (scope: string, value: string) => client.query(`SET ${scope} ${name}${name === 'TIME ZONE' ? '' : ' ='} '${value}'`)

  test(`SET LOCAL ${name} ends with its transaction`, async () => {
    for (const end of ['COMMIT', 'ROLLBACK', 'END', 'ABORT']) {
      await client.query('BEGIN')
      await set('LOCAL', local)
      assert.is(await shown(shows), local)
      await client.query(end)
      assert.is(await shown(shows), before, end)
    }
    await set('', session)
    await client.query('BEGIN')
    await set('LOCAL', local)
    await client.query('COMMIT')
    assert.is(await shown(shows), session)
  })

  test(`SET ${name} stays after COMMIT, and is taken back by a rollback`, async () => {
    await client.query('BEGIN')
    await set('SESSION', session)
    await set('LOCAL', local)
    assert.is(await shown(shows), local)
    await client.query('COMMIT')
    assert.is(await shown(shows), session)
    await client.query('BEGIN')
    await set('', local)
    await client.query('ROLLBACK')
    assert.is(await shown(shows), session)
    await client.query('BEGIN')
    await client.query(`RESET ${name === 'TIME ZONE' ? 'timezone' : name}`)
    assert.is(await shown(shows), before)
    assert.is(await codeOf(client.query('SELECT * FROM nowhere')), '42P01')
    await client.query('COMMIT') // says ROLLBACK
    assert.is(await shown(shows), session)
    await client.query('BEGIN')
    await set('LOCAL', local)
    await set('', session)
    await client.query('COMMIT')
    assert.is(await shown(shows), session)
  })

  test(`SET LOCAL ${name} outside of a transaction warns, and has no effect`, async () => {
    await set('LOCAL', local)
    assert.equal(notices, ['25P01 SET LOCAL can only be used in transaction blocks'])
    assert.is(await shown(shows), before)
    await client.query({
      text: `SET LOCAL ${name} ${name === 'TIME ZONE' ? '' : 'TO'} '${local}'`,
      values: [],
      queryMode: 'extended',
    } as pg.QueryConfig)
    assert.is(notices.length, 2)
    assert.is(await shown(shows), before)
    // A string of statements is a transaction.
    const answers = await client.query(`SET LOCAL ${name} ${name === 'TIME ZONE' ? '' : '='} '${local}'; SHOW ${shows}`)
    assert.equal(Object.values((answers as unknown as pg.QueryResult[])[1]?.rows[0]), [local])
    assert.is(notices.length, 2)
    assert.is(await shown(shows), before)
  })
}

test('what SET LOCAL is given is looked at outside of a transaction too', async () => {
  assert.is(await codeOf(client.query("SET LOCAL statement_timeout = 'soon'")), '22023')
  assert.is(await codeOf(client.query('SET LOCAL threads = 1')), '42501')
  assert.is(await codeOf(client.query('SET LOCAL wal_autocheckpoint = 9')), '0A000')
  assert.is(await codeOf(client.query('SET LOCAL search_path = daemonguard')), '42501')
})

test('a failed statement of a string takes back what the string has set', async () => {
  assert.is(await codeOf(client.query("SET TimeZone = 'Asia/Tokyo'; SET lock_timeout = 5; SELECT * FROM nowhere")), '42P01')
  assert.is(await shown('TimeZone'), 'UTC')
  assert.is(await shown('lock_timeout'), '0')
})

test('the client is told when a setting comes back', async () => {
  await client.query("BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL application_name = 'x'")
  await client.query('COMMIT')
  assert.equal(told, ['TimeZone=Asia/Tokyo', 'application_name=x', 'TimeZone=UTC', 'application_name='])
  told = []
  await client.query('BEGIN')
  await client.query({ text: "SET LOCAL TimeZone = 'Asia/Tokyo'", values: [], queryMode: 'extended' } as pg.QueryConfig)
  assert.is(await codeOf(client.query('SELECT * FROM nowhere')), '42P01')
  assert.equal(told, ['TimeZone=Asia/Tokyo', 'TimeZone=UTC'])
})

test('a local search path decides where names lead, for prepared statements too, and DuckDB has it as well', async () => {
  const insert = (id: number) => client.query({ name: 'insert', text: 'INSERT INTO t VALUES ($1, $2)', values: [id, 'x'] })
  const update = () => client.query({ name: 'update', text: 'UPDATE t SET v = $1 WHERE id > 0', values: ['y'] })
  const count = async () =>
    (await client.query({ name: 'count', text: 'SELECT count(*)::INT AS n FROM t WHERE id > $1', values: [0] })).rows[0]?.n
  await insert(1)
  await update()
  assert.is(await count(), 1)
  await client.query('BEGIN; SET LOCAL search_path = a')
  assert.is(await count(), 0)
  await insert(2)
  await insert(3)
  await update()
  assert.is(await count(), 2)
  await client.query('COMMIT')
  assert.is(await count(), 1)
  await insert(4)
  assert.equal(await rowsOf(client, 'SELECT id FROM main.t ORDER BY id'), [['1'], ['4']])
  assert.equal(await rowsOf(client, 'SELECT id, v FROM a.t ORDER BY id'), [
    ['2', 'y'],
    ['3', 'y'],
  ])
  assert.equal(await rowsOf(client, "SELECT current_setting('search_path')"), [['trade_data.main']])
})

test('a local time zone casts what it is told, and only then', async () => {
  const noon = async () =>
    (await rowsOf(client, "SELECT '2021-01-08 12:00:00'::TIMESTAMPTZ = '2021-01-08 12:00:00+09'::TIMESTAMPTZ"))[0]?.[0]
  await client.query("BEGIN; SET LOCAL TIME ZONE 'Asia/Tokyo'")
  assert.is(await noon(), 't')
  await client.query('COMMIT')
  assert.is(await noon(), 'f')
})

test('a schema that is gone when its path comes back leaves the default', async () => {
  await client.query('CREATE SCHEMA passing; SET search_path = passing')
  await client.query('BEGIN; SET LOCAL search_path = b; DROP SCHEMA passing; COMMIT')
  assert.is(await shown('search_path'), 'trade_data.main')
  assert.equal(await rowsOf(client, "SELECT current_setting('search_path')"), [['trade_data.main']])
})

test.run()
