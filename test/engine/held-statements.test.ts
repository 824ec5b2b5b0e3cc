// deadline: 240s
// Transactions of which DuckDB is told when they commit, together with others': the client is told the same, at the same statement, as if it had been told of each
// (R4); nothing is lost, doubled or halved, and a replay gives the same (R1, R6).

import path from 'node:path'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { faultEnvironment, traced } from '../fault/support/faults.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { sourceCommand } from '../support/program.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { plainValues } from './support/plain-values.ts'
import { countOf, notingSteps } from './support/step-notes.ts'

const test = suite('held statements')
const random = seededRandom('held statements')
const clientCount = 12
const notes = path.join(temporaryDirectory('notes'), 'steps')
let engine: TestEngine
let clients: pg.Client[]
let nextKey = 1

const insertTrade = 'INSERT INTO trades (id, instrument, quantity) VALUES ($1, $2, $3)'
const book = 'UPDATE positions SET quantity = quantity + $1, trades = trades + 1 WHERE id = $2'
const names = new Map<string, string>()
/** By a name: it is read by DuckDB once, as the clients of a platform have it. */
function run(client: pg.Client, text: string, ...values: unknown[]) {
  const name = names.get(text) ?? `s${names.size}`
  names.set(text, name)
  return client.query({ name, text, values })
}
const trade = (client: pg.Client, id: number, quantity = 1, instrument = 1) => run(client, insertTrade, id, instrument, quantity)
const grouped = () => countOf(notes, 'TOGETHER:COMMIT')

async function start(): Promise<void> {
  clients = await Promise.all(Array.from({ length: clientCount }, () => engine.connect()))
}

/** Commits trades until one was held back: their keys and parents are known from then on. */
async function untilKnown(client: pg.Client, statement: () => Promise<unknown>): Promise<void> {
  await waitFor(
    'a transaction is held back',
    async () => {
      const before = grouped()
      await run(client, 'BEGIN')
      await statement()
      await run(client, 'COMMIT')
      return grouped() > before
    },
    { every: 1 },
  )
}

/** A part of a transaction that is held back, and its client. */
async function holding(): Promise<pg.Client> {
  const [client] = clients as [pg.Client]
  await untilKnown(client, () => trade(client, nextKey++))
  return client
}

test.before(async () => {
  engine = await TestEngine.prepare()
  engine.program = sourceCommand()
  engine.env = notingSteps(notes, 'TOGETHER:')
  await engine.start()
  await engine.sql(
    'CREATE TABLE instruments (id INTEGER PRIMARY KEY, name VARCHAR)',
    "INSERT INTO instruments SELECT i, 'instrument ' || i FROM range(1, 6) r(i)",
    'CREATE TABLE trades (id BIGINT PRIMARY KEY, instrument INTEGER NOT NULL REFERENCES instruments (id), quantity BIGINT NOT NULL)',
    'CREATE TABLE positions (id INTEGER PRIMARY KEY, quantity BIGINT NOT NULL, trades BIGINT NOT NULL, note VARCHAR)',
    "INSERT INTO positions SELECT i, 0, 0, 'position ' || i FROM range(100) r(i)",
    'CREATE TABLE checked (id BIGINT PRIMARY KEY, v BIGINT CHECK (v > 0))',
    'CREATE TABLE uniques (id BIGINT PRIMARY KEY, v BIGINT UNIQUE)',
    'CREATE TABLE notes (n BIGINT, note VARCHAR)',
  )
  await start()
})

test.after(() => engine.kill())

test('many clients share transactions of DuckDB’s; all they were told is there, now and after a kill', async () => {
  const each = 40
  const before = grouped()
  const first = nextKey
  nextKey += clientCount * each
  await Promise.all(
    clients.map(async (client, i) => {
      for (let n = 0; n < each; n++) {
        await run(client, 'BEGIN')
        await trade(client, first + i * each + n, n)
        await run(client, book, n, i)
        await run(client, 'INSERT INTO notes VALUES ($1, $2)', n, n % 3 === 0 ? null : `note, of ${i}`)
        await run(client, 'COMMIT')
      }
    }),
  )
  const groups = grouped() - before
  assert.ok(groups > 0 && groups < clientCount * each * 0.8, `${groups} groups of ${clientCount * each} transactions`)
  const state = async () => {
    const [client] = clients as [pg.Client]
    return [
      await rowsOf(client, 'SELECT id, quantity, trades FROM positions WHERE trades > 0 ORDER BY id'),
      await rowsOf(client, 'SELECT count(*), sum(quantity), min(id), max(id) FROM trades'),
      await rowsOf(client, 'SELECT n, note, count(*) FROM notes GROUP BY ALL ORDER BY ALL'),
    ]
  }
  const live = await state()
  const sum = (each * (each - 1)) / 2
  assert.equal(
    live[0],
    clients.map((_, i) => [String(i), String(sum), String(each)]),
  )
  assert.equal(live[1]?.[0]?.slice(0, 2), [String(clientCount * each), String(clientCount * sum)])
  await engine.restart()
  await start()
  assert.equal(await state(), live)
})

test('a statement sees what its own transaction holds back, and a rollback leaves nothing of it', async () => {
  const client = await holding()
  const key = nextKey++
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
  const other = nextKey++
  await run(client, 'BEGIN')
  await trade(client, other)
  await run(client, 'ROLLBACK')
  assert.equal(await rowsOf(client, `SELECT * FROM trades WHERE id = ${other}`), [])
  await run(client, 'BEGIN')
  await trade(client, other)
  await run(client, book, 1, 51)
  await run(client, book, 1, 51)
  const before = grouped()
  await run(client, 'COMMIT')
  assert.is(grouped(), before + 1, 'it was held back to its end')
  assert.equal(await rowsOf(client, 'SELECT quantity, trades, note FROM positions WHERE id = 51'), [['2', '2', 'position 51']])
})

test('very many rows of one transaction, held back from its beginning or once DuckDB has begun it, are there as if each had been told of', async () => {
  const client = await holding()
  const count = async (first: number) => Number((await rowsOf(client, `SELECT count(*) FROM trades WHERE id >= ${first}`))[0]?.[0])
  for (const look of [false, true])
    for (const end of ['ROLLBACK', 'COMMIT']) {
      const first = nextKey
      nextKey += 2_500
      await run(client, 'BEGIN')
      if (look) await client.query('SELECT count(*) FROM trades')
      for (let n = 0; n < 2_500; n++) {
        await trade(client, first + n, n)
        if (n === 1_700) assert.is(await count(first), 1_701)
      }
      assert.is(await count(first), 2_500)
      await client.query(end)
      assert.is(await count(first), end === 'COMMIT' ? 2_500 : 0)
      if (end === 'ROLLBACK') nextKey = first
    }
  const rows = 'SELECT count(*), sum(quantity), count(DISTINCT quantity) FROM trades'
  const live = await rowsOf(client, rows)
  await engine.restart()
  await start()
  assert.equal(await rowsOf(clients[0] as pg.Client, rows), live)
})

test('a key that its own transaction has inserted before is refused at once', async () => {
  const client = await holding()
  for (const look of [false, true])
    for (const rows of [1, 20, 100]) {
      const first = nextKey
      nextKey += rows
      await run(client, 'BEGIN')
      if (look) await client.query(`INSERT INTO trades VALUES (${first}, 1, 1)`)
      for (let n = look ? 1 : 0; n < rows; n++) await trade(client, first + n)
      assert.is(await codeOf(trade(client, first + (look ? 0 : rows - 1))), '23505', `${rows} rows, ${look}`)
      await run(client, 'ROLLBACK')
      nextKey = first
    }
})

test('a transaction that has read is committed together with others as well, on what it has read', async () => {
  const client = await holding()
  const other = clients[1] as pg.Client
  const quantity = async (from: pg.Client) => (await rowsOf(from, 'SELECT quantity FROM positions WHERE id = 54'))[0]?.[0]
  await run(client, book, 5, 54)
  // Read, changed, read again, changed again.
  await run(client, 'BEGIN')
  assert.is(await quantity(client), '5')
  await run(client, 'UPDATE positions SET quantity = $1 WHERE id = $2', 6, 54)
  await trade(client, nextKey++)
  const before = grouped()
  await run(client, 'COMMIT')
  assert.is(grouped(), before + 1)
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
  const client = await holding()
  const other = clients[1] as pg.Client
  for (let n = 0; n < 20; n++) {
    const key = nextKey++
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

test('an error in the middle of a group leaves nothing open: each is done by itself, and the next are grouped again', async () => {
  const trace = path.join(temporaryDirectory('trace'), 'trace')
  const faulty = await TestEngine.prepare()
  faulty.program = sourceCommand()
  faulty.env = faultEnvironment({ role: 'engine', trace, faults: [{ label: 'TOGETHER:COMMIT', hit: 3, action: 'EIO' }] })
  await faulty.start()
  try {
    await faulty.sql(
      'CREATE TABLE t (id BIGINT PRIMARY KEY)',
      'CREATE TABLE sums (id INTEGER PRIMARY KEY, n BIGINT)',
      'INSERT INTO sums VALUES (1, 0)',
    )
    const client = await faulty.connect()
    for (let id = 1; id <= 20; id++) {
      await run(client, 'BEGIN')
      await run(client, 'INSERT INTO t VALUES ($1)', id)
      await run(client, 'UPDATE sums SET n = n + $1 WHERE id = $2', id, 1)
      await run(client, 'COMMIT')
    }
    assert.equal(traced(trace), ['TOGETHER:COMMIT'])
    assert.equal(await faulty.sql('SELECT count(*), sum(t.id), any_value(n) FROM t, sums'), [['20', '210', '210']])
    await faulty.control.checkpoint()
    await faulty.restart()
    assert.equal(await faulty.sql('SELECT count(*), sum(t.id), any_value(n) FROM t, sums'), [['20', '210', '210']])
  } finally {
    await faulty.kill()
  }
})

test('what DuckDB would refuse is refused at its own statement', async () => {
  const client = await holding()
  const taken = nextKey - 1
  const checked = 'INSERT INTO checked VALUES ($1, $2)'
  const uniques = 'INSERT INTO uniques VALUES ($1, $2)'
  await run(client, uniques, 1, 5)
  const wrong: [code: string, statement: () => Promise<unknown>][] = [
    ['23505', () => trade(client, taken)],
    ['23503', () => trade(client, nextKey++, 1, 99)],
    ['23502', () => run(client, insertTrade, nextKey++, 1, null)],
    ['23514', () => run(client, checked, nextKey++, -1)],
    ['23505', () => run(client, uniques, nextKey++, 5)],
    ['22003', () => run(client, book, '9223372036854775807', 52)],
    ['23502', () => run(client, 'UPDATE positions SET quantity = $1 WHERE id = $2', null, 52)],
  ]
  await run(client, 'UPDATE positions SET quantity = $1 WHERE id = $2', 1, 52)
  for (const [code, statement] of wrong) {
    const key = nextKey++
    await run(client, 'BEGIN')
    await trade(client, key)
    assert.is(await codeOf(statement()), code)
    assert.is(await codeOf(trade(client, nextKey++)), '25P02')
    await run(client, 'ROLLBACK')
    assert.equal(await rowsOf(client, `SELECT * FROM trades WHERE id = ${key}`), [])
  }
  await run(client, 'BEGIN')
  const { rowCount } = await run(client, book, 1, 4_000)
  assert.is(rowCount, 0)
  await run(client, 'COMMIT')
})

test('a parent that was deleted is known to be gone', async () => {
  const client = await holding()
  await engine.sql("INSERT INTO instruments VALUES (70, 'seventy')")
  const rows: number[] = []
  await untilKnown(client, () => trade(client, rows[rows.push(nextKey++) - 1] as number, 1, 70))
  await engine.sql(`DELETE FROM trades WHERE id IN (${rows})`, 'DELETE FROM instruments WHERE id = 70')
  await run(client, 'BEGIN')
  assert.is(await codeOf(trade(client, nextKey++, 1, 70)), '23503')
  await run(client, 'ROLLBACK')
  // In one transaction, by the one that inserts.
  await engine.sql("INSERT INTO instruments VALUES (70, 'seventy')")
  const key = nextKey++
  await client.query('BEGIN')
  await client.query('SELECT 1')
  await trade(client, key, 1, 70)
  await client.query(`DELETE FROM trades WHERE id = ${key}`)
  await codeOf(client.query('DELETE FROM instruments WHERE id = 70'))
  await client.query('COMMIT')
  const there = (await rowsOf(client, 'SELECT * FROM instruments WHERE id = 70')).length === 1
  await run(client, 'BEGIN')
  assert.is(await codeOf(trade(client, nextKey++, 1, 70)), there ? undefined : '23503')
  await run(client, 'ROLLBACK')
})

test('while a child is held back its parent stays', async () => {
  const client = await holding()
  await engine.sql("INSERT INTO instruments VALUES (71, 'seventy-one')")
  await untilKnown(client, () => trade(client, nextKey++, 1, 71))
  await engine.sql('DELETE FROM trades WHERE instrument = 71')
  await run(client, 'BEGIN')
  await trade(client, nextKey++, 1, 71)
  assert.is(await codeOf(engine.sql('DELETE FROM instruments WHERE id = 71')), '40001')
  await run(client, 'COMMIT')
  assert.is((await rowsOf(client, 'SELECT * FROM trades WHERE instrument = 71')).length, 1)
})

test('two changes of one row: the second is refused while the first is open, and nothing is lost when it comes later', async () => {
  const client = await holding()
  const other = clients[1] as pg.Client
  await run(client, book, 1, 53)
  await run(client, 'BEGIN')
  await run(client, book, 10, 53)
  assert.is(await codeOf(run(other, book, 100, 53)), '40001')
  await run(client, 'COMMIT')
  // It began before the other one committed, but has not looked at the row.
  await run(client, 'BEGIN')
  await trade(client, nextKey++)
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

test('a key that another has inserted meanwhile fails the COMMIT, and nobody else’s', async () => {
  const first = await holding()
  const others = clients.slice(1)
  const key = nextKey
  nextKey += clientCount + 1
  for (const [i, client] of clients.entries()) {
    await run(client, 'BEGIN')
    await trade(client, key + i, 3)
    await run(client, book, 3, 60 + i)
  }
  await engine.sql(`INSERT INTO trades VALUES (${key}, 1, 99)`)
  const codes = await Promise.all(clients.map((client) => codeOf(run(client, 'COMMIT'))))
  assert.equal(codes, ['23505', ...others.map(() => undefined)])
  assert.equal(
    await rowsOf(first, `SELECT id, quantity FROM trades WHERE id BETWEEN ${key} AND ${key + clientCount - 1} ORDER BY id`),
    clients.map((_, i) => [String(key + i), i === 0 ? '99' : '3']),
  )
  assert.equal(
    await rowsOf(first, 'SELECT id, quantity FROM positions WHERE id BETWEEN 60 AND 79 ORDER BY id LIMIT 12'),
    clients.map((_, i) => [String(60 + i), i === 0 ? '0' : '3']),
  )
})

test('a schema change waits for what is held back, and what comes after it is by the new schema', async () => {
  const client = await holding()
  await engine.sql('CREATE TABLE changing (id BIGINT PRIMARY KEY, v BIGINT)')
  const insert = 'INSERT INTO changing (id, v) VALUES ($1, $2)'
  await untilKnown(client, () => run(client, insert, nextKey++, 1))
  await run(client, 'BEGIN')
  await run(client, insert, nextKey++, 1)
  const altering = engine.sql("ALTER TABLE changing ADD COLUMN w VARCHAR DEFAULT 'w'")
  await waitFor(
    'it waits',
    async () => (await codeOf((clients[1] as pg.Client).query("SET lock_timeout = '20ms'; INSERT INTO notes VALUES (1, '')"))) === '55P03',
  )
  await run(client, 'COMMIT')
  await altering
  await run(client, insert, nextKey++, 1)
  assert.equal(await rowsOf(client, 'SELECT DISTINCT w FROM changing'), [['w']])
})

test('a value of any type that is set is the same, by one client and by many', async () => {
  const types = Object.keys(plainValues)
  const columns = types.map((type, i) => `a${i} ${type}`)
  const fresh = (id: number) => `(${[id, ...types.map(() => 'NULL')]})`
  const ids = Array.from({ length: clientCount * 12 }, (_, id) => id)
  for (const table of ['lone', 'crowd'])
    await engine.sql(`CREATE TABLE ${table} (id INTEGER PRIMARY KEY, ${columns})`, `INSERT INTO ${table} VALUES ${ids.map(fresh)}`)
  const rows = ids.map(() => Object.values(plainValues).map((texts) => (random.chance(0.2) ? null : random.pick(texts))))
  const literal = (value: string | null) => (value === null ? 'NULL' : `'${value.replaceAll("'", "''")}'`)
  const sets = types.map((_, i) => `a${i} = $${i + 1}`)
  const first = clients[0] as pg.Client
  for (const [id, row] of rows.entries())
    await first.query(`UPDATE lone SET ${row.map((value, i) => `a${i} = ${literal(value)}`)} WHERE id = ${id}`)
  const before = grouped()
  await Promise.all(
    clients.map(async (client, i) => {
      for (const id of ids.filter((id) => id % clientCount === i)) {
        await run(client, `UPDATE crowd SET ${sets} WHERE id = $${types.length + 1}`, ...(rows[id] as unknown[]), id)
      }
    }),
  )
  const groups = grouped() - before
  assert.ok(groups > 0 && groups < ids.length, `${groups} groups of ${ids.length} updates`)
  const state = async () => {
    const [lone, crowd] = ['lone', 'crowd'].map((table) => rowsOf(clients[0] as pg.Client, `SELECT * FROM ${table} ORDER BY id`))
    return [await lone, await crowd]
  }
  const [lone, crowd] = await state()
  assert.equal(crowd, lone)
  await engine.restart()
  await start()
  assert.equal(await state(), [lone, crowd])
})

/** One client's work on positions of which others have some as well. What it was told to be committed is added up. */
async function work(client: pg.Client, random: Random, booked: Map<number, number>, firstKey: number): Promise<void> {
  let key = firstKey
  for (let n = 0; n < 60; n++) {
    const changes = new Map<number, number>()
    const statements: (() => Promise<unknown>)[] = []
    for (let i = random.int(1, 4); i > 0; i--) {
      const [id, amount] = [80 + random.int(0, 9), random.int(1, 9)]
      changes.set(id, (changes.get(id) ?? 0) + amount)
      statements.push(() => run(client, book, amount, id))
      if (random.chance(0.8)) {
        const [at, doubled] = [key++, random.chance(0.05)]
        statements.push(() => trade(client, doubled ? firstKey : at, 0))
      }
      if (random.chance(0.15)) statements.push(() => client.query(`SELECT sum(quantity) FROM positions`))
      if (random.chance(0.1)) statements.push(() => client.query(`UPDATE positions SET note = 'n${n}' WHERE id = ${id}`))
    }
    const end = random.chance(0.1) ? 'ROLLBACK' : 'COMMIT'
    const code = await codeOf(
      (async () => {
        await run(client, 'BEGIN')
        for (const statement of statements) await statement()
        await run(client, end)
      })(),
    )
    if (code !== undefined) {
      assert.ok(['40001', '23505'].includes(code), code)
      await client.query('ROLLBACK')
    } else if (end === 'COMMIT') for (const [id, amount] of changes) booked.set(id, (booked.get(id) ?? 0) + amount)
    if (random.chance(0.2)) {
      const [id, amount] = [80 + random.int(0, 9), random.int(1, 9)]
      const alone = await codeOf(run(client, book, amount, id))
      assert.ok(alone === undefined || alone === '40001', alone)
      if (alone === undefined) booked.set(id, (booked.get(id) ?? 0) + amount)
    }
  }
}

test('changes of the same few rows by many: every amount that was acknowledged is in them, and no other', async () => {
  await holding()
  const booked = new Map<number, number>()
  const before = grouped()
  const first = nextKey
  nextKey += clientCount * 1_000
  await engine.sql('UPDATE positions SET quantity = 0 WHERE id >= 80')
  await Promise.all(clients.map((client, i) => work(client, random, booked, first + i * 1_000)))
  assert.ok(grouped() > before)
  const expected = Array.from({ length: 10 }, (_, i) => [String(80 + i), String(booked.get(80 + i) ?? 0)])
  const quantities = () => engine.sql('SELECT id, quantity FROM positions WHERE id BETWEEN 80 AND 89 ORDER BY id')
  assert.equal(await quantities(), expected)
  const whole = 'SELECT * FROM positions ORDER BY id'
  const live = await engine.sql(whole)
  await engine.restart()
  assert.equal(await quantities(), expected)
  assert.equal(await engine.sql(whole), live)
})

test.run()
