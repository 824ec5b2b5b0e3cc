// deadline: 240s
// Transactions of many clients that DuckDB commits together: nothing is lost, doubled or halved, only the culprit fails, and a replay gives the same (R1, R4, R6).

import path from 'node:path'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { faultEnvironment, traced } from '../fault/support/faults.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { sourceCommand } from '../support/program.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { plainValues } from './support/plain-values.ts'
import { book, clientCount, run, TradingRig, trade } from './support/trading-rig.ts'

const test = suite('held groups')
const random = seededRandom('held groups')
let rig: TradingRig

test.before(async () => {
  rig = await TradingRig.start()
})

test.after(() => rig.engine.kill())

test('many rig.clients share transactions of DuckDB’s; all they were told is there, now and after a kill', async () => {
  const each = 40
  const before = rig.groups
  const first = rig.keys(clientCount * each)
  await Promise.all(
    rig.clients.map(async (client, i) => {
      for (let n = 0; n < each; n++) {
        await run(client, 'BEGIN')
        await trade(client, first + i * each + n, n)
        await run(client, book, n, i)
        await run(client, 'INSERT INTO notes VALUES ($1, $2)', n, n % 3 === 0 ? null : `note, of ${i}`)
        await run(client, 'COMMIT')
      }
    }),
  )
  const groups = rig.groups - before
  assert.ok(groups > 0 && groups < clientCount * each * 0.8, `${groups} groups of ${clientCount * each} transactions`)
  const state = async () => {
    const [client] = rig.clients as [pg.Client]
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
    rig.clients.map((_, i) => [String(i), String(sum), String(each)]),
  )
  assert.equal(live[1]?.[0]?.slice(0, 2), [String(clientCount * each), String(clientCount * sum)])
  await rig.restart()
  assert.equal(await state(), live)
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

test('a key that another has inserted meanwhile fails the COMMIT, and nobody else’s', async () => {
  const first = await rig.holding()
  const others = rig.clients.slice(1)
  const key = rig.keys(clientCount + 1)
  for (const [i, client] of rig.clients.entries()) {
    await run(client, 'BEGIN')
    await trade(client, key + i, 3)
    await run(client, book, 3, 60 + i)
  }
  await rig.engine.sql(`INSERT INTO trades VALUES (${key}, 1, 99)`)
  const codes = await Promise.all(rig.clients.map((client) => codeOf(run(client, 'COMMIT'))))
  assert.equal(codes, ['23505', ...others.map(() => undefined)])
  assert.equal(
    await rowsOf(first, `SELECT id, quantity FROM trades WHERE id BETWEEN ${key} AND ${key + clientCount - 1} ORDER BY id`),
    rig.clients.map((_, i) => [String(key + i), i === 0 ? '99' : '3']),
  )
  assert.equal(
    await rowsOf(first, 'SELECT id, quantity FROM positions WHERE id BETWEEN 60 AND 79 ORDER BY id LIMIT 12'),
    rig.clients.map((_, i) => [String(60 + i), i === 0 ? '0' : '3']),
  )
})

test('a value of any type that is set is the same, by one client and by many', async () => {
  const types = Object.keys(plainValues)
  const columns = types.map((type, i) => `a${i} ${type}`)
  const fresh = (id: number) => `(${[id, ...types.map(() => 'NULL')]})`
  const ids = Array.from({ length: clientCount * 12 }, (_, id) => id)
  for (const table of ['lone', 'crowd'])
    await rig.engine.sql(`CREATE TABLE ${table} (id INTEGER PRIMARY KEY, ${columns})`, `INSERT INTO ${table} VALUES ${ids.map(fresh)}`)
  const rows = ids.map(() => Object.values(plainValues).map((texts) => (random.chance(0.2) ? null : random.pick(texts))))
  // Such a condition is DuckDB's to decide: it sets them itself.
  const literal = (value: string | null) => (value === null ? 'NULL' : `'${value.replaceAll("'", "''")}'`)
  const sets = types.map((_, i) => `a${i} = $${i + 1}`)
  const first = rig.clients[0] as pg.Client
  for (const [id, row] of rows.entries())
    await first.query(`UPDATE lone SET ${row.map((value, i) => `a${i} = ${literal(value)}`)} WHERE id = ${id} AND true`)
  const before = rig.groups
  await Promise.all(
    rig.clients.map(async (client, i) => {
      for (const id of ids.filter((id) => id % clientCount === i)) {
        await run(client, `UPDATE crowd SET ${sets} WHERE id = $${types.length + 1}`, ...(rows[id] as unknown[]), id)
      }
    }),
  )
  const groups = rig.groups - before
  assert.ok(groups > 0 && groups < ids.length, `${groups} groups of ${ids.length} updates`)
  const state = async () => {
    const [lone, crowd] = ['lone', 'crowd'].map((table) => rowsOf(rig.clients[0] as pg.Client, `SELECT * FROM ${table} ORDER BY id`))
    return [await lone, await crowd]
  }
  const [lone, crowd] = await state()
  assert.equal(crowd, lone)
  await rig.restart()
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
  await rig.holding()
  const booked = new Map<number, number>()
  const before = rig.groups
  const first = rig.keys(clientCount * 1_000)
  await rig.engine.sql('UPDATE positions SET quantity = 0 WHERE id >= 80')
  await Promise.all(rig.clients.map((client, i) => work(client, random, booked, first + i * 1_000)))
  assert.ok(rig.groups > before)
  const expected = Array.from({ length: 10 }, (_, i) => [String(80 + i), String(booked.get(80 + i) ?? 0)])
  const quantities = () => rig.engine.sql('SELECT id, quantity FROM positions WHERE id BETWEEN 80 AND 89 ORDER BY id')
  assert.equal(await quantities(), expected)
  const whole = 'SELECT * FROM positions ORDER BY id'
  const live = await rig.engine.sql(whole)
  await rig.engine.restart()
  assert.equal(await quantities(), expected)
  assert.equal(await rig.engine.sql(whole), live)
})

test.run()
