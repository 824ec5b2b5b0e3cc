// deadline: 180s
// Plain upserts that DuckDB is told of when they commit: they do what DuckDB does, beside inserts, updates and deletes of the same rows, and a replay gives the same.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { plainUpsert } from '../../agent/engine/plain-upsert.ts'
import { parseStatement } from '../../agent/engine/sql/statement.ts'
import { tokenize } from '../../agent/engine/sql/tokens.ts'
import { codeOf, rowsOf } from '../support/engine.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { clientCount, run, TradingRig } from './support/trading-rig.ts'

const test = suite('held upserts')
const random = seededRandom('held upserts')
let rig: TradingRig

test.before(async () => {
  rig = await TradingRig.start()
})

test.after(() => rig.engine.kill())

const columns = 'id INTEGER PRIMARY KEY, quantity BIGINT NOT NULL, note VARCHAR, price DECIMAL(18,8) DEFAULT 1.5'
const upsert = (table: string) =>
  `INSERT INTO ${table} (id, quantity, note) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET quantity = excluded.quantity, note = excluded.note, price = excluded.price`

test('what is a plain upsert, and what is not', () => {
  const shape = (text: string) => plainUpsert(parseStatement(text, tokenize(text)))
  assert.equal(shape('INSERT INTO t (a, "B") VALUES ($2, $1) ON CONFLICT (a) DO UPDATE SET "B" = EXCLUDED."B"'), {
    row: { columns: ['a', 'B'], parameters: [1, 0] },
    target: ['a'],
    assigned: ['B'],
  })
  const whole = { row: { columns: undefined, parameters: [0, 1] }, target: undefined }
  assert.equal(shape('insert or replace into s.t values ($1, $2)'), { ...whole, assigned: 'row' })
  assert.equal(shape('INSERT INTO t VALUES ($1, $2) ON CONFLICT DO UPDATE SET a = excluded.a, b = excluded.b'), {
    ...whole,
    assigned: ['a', 'b'],
  })
  const others = [
    'INSERT INTO t VALUES ($1, $2)',
    'INSERT INTO t VALUES ($1, $2) ON CONFLICT DO NOTHING',
    'INSERT INTO t VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.a',
    'INSERT INTO t VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = $2',
    'INSERT INTO t VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b + 1',
    'INSERT INTO t VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b WHERE t.b < 3',
    'INSERT INTO t VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING a',
    'INSERT INTO t VALUES ($1, $2), ($3, $4) ON CONFLICT (a) DO UPDATE SET b = excluded.b',
    'INSERT OR IGNORE INTO t VALUES ($1, $2)',
    'INSERT OR REPLACE INTO t SELECT $1, $2',
  ]
  for (const text of others) assert.is(shape(text), undefined, text)
})

test('many clients’ upserts share transactions of DuckDB’s; all they were told is there, now and after a kill', async () => {
  await rig.engine.sql(`CREATE TABLE quotes (${columns})`)
  const before = rig.groups
  await Promise.all(
    rig.clients.map(async (client, i) => {
      for (let n = 0; n < 60; n++) {
        const id = i * 10 + (n % 10)
        if (n % 2 === 0) await run(client, upsert('quotes'), id, n, `of ${n}`)
        else await client.query(`INSERT OR REPLACE INTO quotes VALUES (${id}, ${n}, NULL, ${n}.25)`)
      }
    }),
  )
  const groups = rig.groups - before
  assert.ok(groups > 0 && groups < clientCount * 60 * 0.8, `${groups} groups of ${clientCount * 60} upserts`)
  const state = () => rowsOf(rig.clients[0] as pg.Client, 'SELECT * FROM quotes ORDER BY id')
  const live = await state()
  const last = (id: number) => 50 + (id % 10)
  const row = (id: number) =>
    last(id) % 2 === 0
      ? [String(id), String(last(id)), `of ${last(id)}`, '1.50000000']
      : [String(id), String(last(id)), null, `${last(id)}.25000000`]
  assert.equal(
    live,
    Array.from({ length: clientCount * 10 }, (_, id) => row(id)),
  )
  await rig.restart()
  assert.equal(await state(), live)
})

test('what OR REPLACE does not name stays as it is', async () => {
  const [client] = rig.clients as [pg.Client]
  await client.query('CREATE TABLE parts (id INTEGER PRIMARY KEY, a VARCHAR, b INTEGER DEFAULT 7)')
  await client.query("INSERT INTO parts VALUES (1, 'a', 1)")
  await client.query("INSERT OR REPLACE INTO parts (id, a) VALUES (1, 'z')")
  await client.query('INSERT OR REPLACE INTO parts (a, id) VALUES ($1, $2)', ['new', 2])
  await client.query("INSERT OR REPLACE INTO parts (b, id, a) VALUES (3, 3, 'all')")
  assert.equal(await rowsOf(client, 'SELECT * FROM parts ORDER BY id'), [
    ['1', 'z', '1'],
    ['2', 'new', '7'],
    ['3', 'all', '3'],
  ])
})

test('an insert and an upsert of one key are in no group together, whoever has forgotten that the key was claimed', async () => {
  const [a, b, c, d] = rig.clients as [pg.Client, pg.Client, pg.Client, pg.Client]
  const together = (...who: pg.Client[]) => Promise.all(who.map((client) => codeOf(client.query('COMMIT'))))
  // A table of its own for each round: it is not looked for free keys again and again where that has led to little.
  const tables = Array.from({ length: 6 }, (_, i) => `claimed${i}`)
  for (const table of tables) {
    await c.query(`CREATE TABLE ${table} (${columns})`)
    const insert = (client: pg.Client, id: number) =>
      run(client, `INSERT INTO ${table} (id, quantity, note) VALUES ($1, $2, $3)`, id, 2, 'inserted')
    const put = (client: pg.Client, id: number) => run(client, upsert(table), id, 1, 'put')
    /** Keys behind `first` are known to be free. */
    const known = (first: number) => {
      let next = first
      return rig.untilKnown(b, () => insert(b, next++))
    }
    // An upsert is held. Another statement inserts many rows on both sides of its key, and nobody sees the key among those that are there.
    await a.query('BEGIN')
    await put(a, 500_900)
    await c.query(`INSERT INTO ${table} SELECT 500000 + i * 1000, 0, NULL, 0 FROM range(100) r(i)`)
    await known(500_001)
    await b.query('BEGIN')
    const taken = await codeOf(insert(b, 500_900))
    await d.query('BEGIN')
    await put(d, 900_000)
    assert.equal((await together(d, a, b)).slice(0, 2), [undefined, undefined])
    assert.ok(taken === undefined || taken === '23505', `${taken}`)
    // Either is first; if the insert was, the upsert has changed it.
    assert.equal(await rowsOf(c, `SELECT quantity, note FROM ${table} WHERE id = 500900`), [['1', 'put']])
    // An insert is held; somebody else inserts its key and deletes it again.
    await known(600_000)
    await a.query('BEGIN')
    await insert(a, 700_000)
    await insert(c, 700_000)
    await c.query(`DELETE FROM ${table} WHERE id = 700000`)
    await b.query('BEGIN')
    await put(b, 700_000)
    await d.query('BEGIN')
    await put(d, 900_001)
    assert.equal((await together(d, b, a)).slice(0, 2), [undefined, undefined])
    assert.is((await rowsOf(c, `SELECT note FROM ${table} WHERE id = 700000`)).length, 1)
  }
  const state = () => Promise.all(tables.map((table) => rowsOf(rig.clients[0] as pg.Client, `SELECT * FROM ${table} ORDER BY id`)))
  const live = await state()
  await rig.restart()
  assert.equal(await state(), live)
  assert.match(rig.engine.output(), '"refused":[]')
})

test('of many clients that put the same rows, each by itself, none is refused', async () => {
  await rig.engine.sql(`CREATE TABLE hot (${columns})`)
  await Promise.all(
    rig.clients.map(async (client, i) => {
      for (let n = 0; n < 40; n++) {
        if (n % 2 === 0) await run(client, upsert('hot'), random.int(0, 2), i * 100 + n, 'hot')
        else await client.query(`INSERT OR REPLACE INTO hot VALUES (${random.int(0, 2)}, ${i * 100 + n}, 'hot', 1)`)
      }
    }),
  )
  // A transaction that stays open is not waited for.
  const [first, second] = rig.clients as [pg.Client, pg.Client]
  await first.query('BEGIN')
  await run(first, upsert('hot'), 0, -1, 'first')
  assert.is(await codeOf(run(second, upsert('hot'), 0, -2, 'second')), '40001')
  await first.query('COMMIT')
  const state = () => rowsOf(rig.clients[0] as pg.Client, 'SELECT * FROM hot ORDER BY id')
  const live = await state()
  assert.equal([live.length, live[0]?.[2]], [3, 'first'])
  await rig.restart()
  assert.equal(await state(), live)
})

/** One statement about a row, of whichever table. */
function statement(random: Random, id: number, n: number): (table: string) => { text: string; values: unknown[] } {
  const note = random.chance(0.3) ? null : `u${n}`
  return random.pick<(table: string) => { text: string; values: unknown[] }>([
    (table) => ({ text: `INSERT INTO ${table} (id, quantity, note) VALUES ($1, $2, $3)`, values: [id, n, `i${n}`] }),
    (table) => ({ text: upsert(table), values: [id, n, note] }),
    (table) => ({ text: upsert(table), values: [id, n, `u${n}`] }),
    (table) => ({ text: `INSERT OR REPLACE INTO ${table} VALUES (${id}, ${n}, 'r${n}', 0.5)`, values: [] }),
    (table) => ({ text: `UPDATE ${table} SET quantity = quantity + $1 WHERE id = $2`, values: [n, id] }),
    (table) => ({ text: `UPDATE ${table} SET note = $1 WHERE id = $2`, values: [`n${n}`, id] }),
    (table) => ({ text: `DELETE FROM ${table} WHERE id = $1`, values: [id] }),
    (table) => ({ text: `SELECT count(*), sum(quantity) FROM ${table}`, values: [] }),
    (table) => ({ text: upsert(table), values: [id, null, 'refused'] }),
  ])
}

test('in one transaction with other statements about the same rows, in any order, they do what DuckDB does', async () => {
  await rig.engine.sql(`CREATE TABLE held (${columns})`, `CREATE TABLE told (${columns}, CHECK (id >= 0))`)
  const [first, second] = rig.clients as [pg.Client, pg.Client]
  // Of a table with a CHECK nothing is held back.
  for (let n = 0; n < 150; n++) {
    const explicit = random.chance(0.7)
    const end = random.chance(0.15) ? 'ROLLBACK' : 'COMMIT'
    const steps = Array.from({ length: explicit ? random.int(1, 6) : 1 }, (_, i) => statement(random, random.int(0, 5), n * 10 + i))
    const same = (table: string) => steps.map((step) => step(table))
    const perform = async (client: pg.Client, table: string): Promise<unknown[]> => {
      const answers: unknown[] = []
      if (explicit) await client.query('BEGIN')
      for (const { text, values } of same(table)) {
        const answer = values.length === 0 ? client.query(text) : run(client, text, ...values)
        answers.push(
          await answer.then(
            ({ rowCount, rows }) => [rowCount, rows],
            (error) => (error as { code?: string }).code,
          ),
        )
      }
      if (explicit) answers.push(await codeOf(client.query(end)))
      return answers
    }
    assert.equal(await perform(first, 'held'), await perform(second, 'told'), JSON.stringify(same('held')))
  }
  const state = (table: string) => rowsOf(rig.clients[0] as pg.Client, `SELECT * FROM ${table} ORDER BY id`)
  const told = await state('told')
  assert.equal(await state('held'), told)
  await rig.restart()
  assert.equal(await state('held'), told)
})

test('beside other clients’ statements about the same rows nothing is lost, and what the journal has can be replayed', async () => {
  await rig.engine.sql(`CREATE TABLE busy (${columns})`)
  let conflicts = 0
  await Promise.all(
    rig.clients.map(async (client, i) => {
      for (let n = 0; n < 80; n++) {
        const explicit = random.chance(0.4)
        const code = await codeOf(
          (async () => {
            if (explicit) await client.query('BEGIN')
            for (let k = explicit ? random.int(1, 3) : 1; k > 0; k--) {
              const { text, values } = statement(random, random.int(0, 25), i * 1000 + n)('busy')
              await (values.length === 0 ? client.query(text) : run(client, text, ...values))
            }
            if (explicit) await client.query('COMMIT')
          })(),
        )
        if (code !== undefined && explicit) await client.query('ROLLBACK')
        if (code === '40001') conflicts++
        assert.ok(code === undefined || ['40001', '23505', '23502'].includes(code), `${code}`)
      }
    }),
  )
  process.stdout.write(`[${conflicts} conflicts] `)
  // Who writes last is there: each client upserts a row of its own while others write beside it.
  await Promise.all(rig.clients.map((client, i) => run(client, upsert('busy'), 100 + i, i, 'last')))
  const state = () => rowsOf(rig.clients[0] as pg.Client, 'SELECT * FROM busy ORDER BY id')
  const live = await state()
  assert.equal(
    live.slice(-clientCount).map(([id, quantity]) => [id, quantity]),
    Array.from({ length: clientCount }, (_, i) => [String(100 + i), String(i)]),
  )
  await rig.restart()
  assert.equal(await state(), live)
  assert.match(rig.engine.output(), '"refused":[]')
})

test.run()
