// The write buffer's two ways into a table, one row by its values and more by their columns: same rows, same errors, same journal.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { TableInfo } from '../../agent/engine/catalog.ts'
import { WriterGate } from '../../agent/engine/gate.ts'
import { WriteBuffer, type WriteBufferOptions } from '../../agent/engine/write-buffer.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { seededRandom } from '../support/random.ts'
import { plainValues } from './support/plain-values.ts'

const test = suite('write buffer')
const random = seededRandom('write buffer')
let engine: TestEngine
let clients: pg.Client[]

const insert = 'INSERT INTO trades VALUES ($1, $2, $3, $4, $5, $6, $7)'
const all = 'SELECT * FROM trades ORDER BY id'

/** Values of row `id`, every third with NULLs. */
function row(id: number): unknown[] {
  const known = id % 3 !== 0
  const at = known ? '2021-01-08 13:37:00.278' : null
  return [id, 1, at, '39432.48', known ? 0.5 : null, known ? id % 2 === 0 : null, known ? `näme ${id}` : null]
}

const add = (client: pg.Client, values: unknown[]) => codeOf(client.query({ name: 'insert', text: insert, values }))

test.before(async () => {
  engine = await TestEngine.start()
  await engine.sql(
    'CREATE TABLE symbols (id INTEGER PRIMARY KEY)',
    'INSERT INTO symbols VALUES (1)',
    `CREATE TABLE trades (id BIGINT PRIMARY KEY, symbol INTEGER NOT NULL REFERENCES symbols (id), traded_at TIMESTAMP, price DECIMAL(18,8) CHECK (price > 0),
      quantity DOUBLE, maker BOOLEAN, note VARCHAR)`,
  )
  clients = await Promise.all(Array.from({ length: 16 }, () => engine.connect()))
})

test.after(() => engine.kill())

test('rows of a lone client and of many at once are there, and after a replay too', async () => {
  for (let id = 0; id < 30; id++) assert.is(await add(clients[0] as pg.Client, row(id)), undefined)
  await Promise.all(
    clients.map(async (client, i) => {
      for (let n = 0; n < 30; n++) assert.is(await add(client, row(1000 + n * 16 + i)), undefined)
    }),
  )
  const live = await rowsOf(clients[0] as pg.Client, all)
  assert.is(live.length, 510)
  assert.equal(live[1], ['1', '1', '2021-01-08 13:37:00.278', '39432.48000000', '0.5', 'f', 'näme 1'])
  assert.equal(live[3], ['3', '1', null, '39432.48000000', null, null, null])
  await engine.restart()
  clients = await Promise.all(clients.map(() => engine.connect()))
  assert.equal(await rowsOf(clients[0] as pg.Client, all), live)
})

const wrong: readonly [code: string, values: unknown[]][] = [
  ['23505', row(1)],
  ['23503', [9001, 2, null, '1', null, null, null]],
  ['23514', [9002, 1, null, '-1', null, null, null]],
]

for (const [code, values] of wrong) {
  test(`a row that fails with ${code} leaves nothing, alone and in a group, and takes no other with it`, async () => {
    const [first, ...rest] = clients as [pg.Client, ...pg.Client[]]
    const before = await rowsOf(first, 'SELECT count(*) FROM trades')
    assert.is(await add(first, values), code)
    assert.equal(await rowsOf(first, 'SELECT count(*) FROM trades'), before)
    const base = Number(code) * 1000
    const codes = await Promise.all([add(first, values), ...rest.map((client, i) => add(client, row(base + i)))])
    assert.equal(codes, [code, ...rest.map(() => undefined)])
    assert.equal(await rowsOf(first, `SELECT count(*) FROM trades WHERE id >= ${base}`), [[String(rest.length)]])
    await first.query(`DELETE FROM trades WHERE id >= ${base}`)
  })
}

test('a value of any type is the same, alone and in a group', async () => {
  const types = Object.keys(plainValues)
  const columns = types.flatMap((type, i) => [`a${i} ${type}`, `b${i} ${type} NOT NULL`])
  const rows = Array.from({ length: 400 }, (_, id) => [
    id,
    ...Object.values(plainValues).flatMap((texts) => [random.chance(0.3) ? null : random.pick(texts), random.pick(texts)]),
  ])
  const insertInto = (table: string) => ({
    name: table,
    text: `INSERT INTO ${table} VALUES (${[0, ...columns].map((_, i) => `$${i + 1}`)})`,
  })
  await engine.sql(...['lone', 'crowd'].map((table) => `CREATE TABLE ${table} (id INTEGER PRIMARY KEY, ${columns})`))
  const [first] = clients as [pg.Client]
  for (const row of rows) await first.query({ ...insertInto('lone'), values: row })
  await Promise.all(
    clients.map(async (client, i) => {
      for (const row of rows.filter((_, at) => at % clients.length === i)) await client.query({ ...insertInto('crowd'), values: row })
    }),
  )
  const [lone, crowd] = [await rowsOf(first, 'SELECT * FROM lone ORDER BY id'), await rowsOf(first, 'SELECT * FROM crowd ORDER BY id')]
  assert.is(crowd.length, rows.length)
  assert.equal(crowd, lone)
  await engine.restart()
  clients = await Promise.all(clients.map(() => engine.connect()))
  assert.equal(await rowsOf(clients[0] as pg.Client, 'SELECT * FROM crowd ORDER BY id'), lone)
})

test('columns that are not named get their DEFAULT, constant or new each time, and generated ones theirs; alone, in a group and in a transaction', async () => {
  const [first, second] = clients as [pg.Client, pg.Client]
  const columns = `n INTEGER NOT NULL DEFAULT 7, note VARCHAR DEFAULT 'it''s', maker BOOLEAN DEFAULT false, price DECIMAL(18,8) DEFAULT -0.5, day DATE DEFAULT DATE '2021-01-08',
    twice BIGINT GENERATED ALWAYS AS (id * 2), made TIMESTAMPTZ DEFAULT now(), local TIMESTAMP DEFAULT current_timestamp, key UUID NOT NULL DEFAULT uuid(), last INTEGER`
  await engine.sql(
    `CREATE TABLE made (id BIGINT PRIMARY KEY, ${columns})`,
    `CREATE SEQUENCE ids`,
    `CREATE TABLE numbered (id BIGINT DEFAULT nextval('ids'), n INTEGER)`,
  )
  const add = (client: pg.Client, id: number) =>
    client.query({ name: 'made', text: 'INSERT INTO made (id, last) VALUES ($1, $2)', values: [id, id] })
  const began = Date.now()
  await add(first, 1)
  await Promise.all(
    clients.map(async (client, i) => {
      for (let n = 0; n < 20; n++) await add(client, 100 + n * clients.length + i)
    }),
  )
  await first.query('BEGIN')
  await add(first, 2)
  await first.query('COMMIT')
  const ended = Date.now()
  const total = 2 + 20 * clients.length
  const constants = await rowsOf(first, 'SELECT DISTINCT n, note, maker, price, day, twice = id * 2, last = id FROM made')
  assert.equal(constants, [['7', "it's", 'f', '-0.50000000', '2021-01-08', 't', 't']])
  assert.equal(await rowsOf(first, 'SELECT count(*), count(DISTINCT key), count(DISTINCT uuid_extract_version(key)) FROM made'), [
    [String(total), String(total), '1'],
  ])
  const [times] = await rowsOf(
    first,
    'SELECT epoch_ms(min(made)), epoch_ms(max(made)), bool_and(made::TIMESTAMP - local BETWEEN INTERVAL (-1) SECOND AND INTERVAL 1 SECOND) FROM made',
  )
  const [least, most, isSame] = times as string[]
  assert.ok(Number(least) >= began - 1 && Number(most) <= ended + 1, `${least} to ${most}, not ${began} to ${ended}`)
  assert.is(isSame, 't')
  // As the clocks there show it, which is DuckDB's to say.
  await second.query("SET TimeZone = 'Asia/Tokyo'")
  await second.query('INSERT INTO made (id) VALUES (3)')
  await second.query("SET TimeZone = 'UTC'")
  const hours = await rowsOf(
    first,
    'SELECT round(extract(epoch FROM local - made::TIMESTAMP) / 3600) FROM made WHERE id IN (1, 3) ORDER BY id',
  )
  assert.equal(hours.flat().map(Number), [0, 9])
  await Promise.all(clients.map((client) => client.query('INSERT INTO numbered (n) VALUES (1)')))
  assert.equal(await rowsOf(first, 'SELECT min(id), max(id), count(DISTINCT id) FROM numbered'), [['1', '16', '16']])
  // A macro of the same name is what the DEFAULT means from now on.
  await first.query("CREATE MACRO now() AS TIMESTAMPTZ '2000-01-01 00:00:00+00'")
  await add(second, 4)
  assert.equal(await rowsOf(first, 'SELECT epoch_ms(made) FROM made WHERE id = 4'), [['946684800000']])
  await first.query('DROP MACRO now')
  const live = await rowsOf(first, 'SELECT * FROM made ORDER BY id')
  await engine.restart()
  clients = await Promise.all(clients.map(() => engine.connect()))
  assert.equal(await rowsOf(clients[0] as pg.Client, 'SELECT * FROM made ORDER BY id'), live)
})

test('many tables, narrow and wide, share the buffer: what is kept for each is let go and made again', async () => {
  const names = Array.from({ length: 20 }, (_, i) => `t${i}`)
  const wide = Array.from({ length: 400 }, (_, i) => `c${i} INTEGER`)
  await engine.sql(
    ...names.map((name) => `CREATE TABLE ${name} (id INTEGER PRIMARY KEY, n INTEGER)`),
    `CREATE TABLE wide (${wide.join(', ')})`,
  )
  const intoWide = `INSERT INTO wide VALUES (${wide.map((_, i) => `$${i + 1}`).join(', ')})`
  await Promise.all(
    clients.map(async (client, i) => {
      for (const [t, name] of names.entries())
        await client.query({ name: `into ${name}`, text: `INSERT INTO ${name} VALUES ($1, $2)`, values: [i, t] })
      for (let n = 0; n < 5; n++) await client.query({ name: 'into wide', text: intoWide, values: wide.map((_, column) => column + n) })
    }),
  )
  const counts = async () => Promise.all([...names, 'wide'].map(async (name) => (await engine.sql(`SELECT count(*) FROM ${name}`))[0]?.[0]))
  const expected = [...names.map(() => '16'), '80']
  assert.equal(await counts(), expected)
  await engine.restart()
  clients = await Promise.all(clients.map(() => engine.connect()))
  assert.equal(await counts(), expected)
})

test('a schema change between two inserts of the same statement is seen by the second', async () => {
  const [first] = clients as [pg.Client, ...pg.Client[]]
  assert.is(await add(first, row(8003)), undefined)
  await engine.sql('ALTER TABLE trades RENAME COLUMN note TO remark')
  assert.is(await add(first, row(8002)), undefined)
  assert.equal(await rowsOf(first, 'SELECT remark FROM trades WHERE id >= 8002 ORDER BY id'), [['näme 8002'], ['näme 8003']])
})

test('a row waits for a gate that stays closed no longer than any other writer, though the rows before it did too', async () => {
  const gate = new WriterGate()
  const events: string[] = []
  const note = (name: string, work: Promise<unknown>) => codeOf(work).then((code) => void events.push(`${name} ${code}`))
  const pipeline = { barrier: () => undefined, writer: {} }
  const buffer = new WriteBuffer({ gate, pipeline, rows: 1, maxDelay: 0, gateTimeout: 300 } as unknown as WriteBufferOptions)
  const submit = () => buffer.submit({}, { path: 't' } as TableInfo, 0, [])
  await gate.enter({ mode: 'none' }, 'exclusive', 1)
  const rows = [note('first row', submit()), note('second row', submit())]
  // It came when the rows did, and is half as patient again.
  const other = note('other', gate.enter({ mode: 'none' }, 'shared', 450))
  await Promise.all([...rows, other])
  assert.equal(events, ['first row 55P03', 'second row 55P03', 'other 55P03'])
})

test.run()
