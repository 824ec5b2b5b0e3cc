// deadline: 180s
// The images of rows that are updated by key, which the engine knows without reading them: what a consumer makes of the journal's whole images is what is in
// the table, through conflicts, rollbacks, deletes, schema changes, and whatever else changes rows in between.

import path from 'node:path'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readTransactions } from '../../agent/journal/transactions.ts'
import type { Cell, Change, Table } from '../../agent/journal/types.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { seededRandom } from '../support/random.ts'

const test = suite('row images')
let engine: TestEngine

test.before(async () => {
  engine = await TestEngine.start()
})
test.after(() => engine.kill())

/** Rows by key, made of images alone, as Redis and ClickHouse have them. */
class Consumer {
  readonly rows = new Map<string, string>()
  #next = 1

  take(): void {
    for (const transaction of readTransactions(path.join(engine.data, 'journal'), this.#next)) {
      this.#next = transaction.seq + 1
      for (const change of transaction.changes) this.#apply(change)
    }
  }

  #apply(change: Change): void {
    if (!('table' in change) || change.table.name !== 't') return
    const { table, rows } = change
    const keys = change.kind === 'delete' ? rows.columns[0] : rows.columns[table.primaryKey[0] as number]
    for (let row = 0; row < rows.count; row++) {
      const key = String(keys?.[row])
      if (change.kind === 'delete') this.rows.delete(key)
      else
        this.rows.set(
          key,
          textOf(
            table,
            rows.columns.map((column) => column[row] as Cell),
          ),
        )
    }
  }
}

/** There is no table `t` any more, and a consumer that has come so far. */
async function withoutTable(client: pg.Client): Promise<Consumer> {
  await client.query('DROP TABLE IF EXISTS t CASCADE')
  const consumer = new Consumer()
  consumer.take()
  consumer.rows.clear()
  return consumer
}

function textOf(table: Table, cells: readonly Cell[]): string {
  return cells
    .map((cell, i) => {
      if (cell === null) return 'NULL'
      if (table.columns[i]?.type.kind === 'DECIMAL') return String(Number(cell) / 10_000)
      return typeof cell === 'boolean' ? (cell ? 't' : 'f') : String(cell)
    })
    .join('|')
}

async function assertSame(client: pg.Client, consumer: Consumer, what: string): Promise<void> {
  consumer.take()
  const live = await rowsOf(client, 'SELECT * FROM t')
  const expected = new Map(live.map((row) => [String(row[0]), row.map((cell) => cell ?? 'NULL').join('|')]))
  const sorted = (rows: Map<string, string>) => [...rows].sort(([a], [b]) => Number(a) - Number(b))
  const decimals = (rows: [string, string][]) =>
    rows.map(([key, text]) => [key, text.replace(/(\.\d*?)0+(?=\||$)/g, '$1').replace(/\.(?=\||$)/g, '')])
  assert.equal(decimals(sorted(consumer.rows)), decimals(sorted(expected)), what)
}

test('random changes by three clients, in transactions that meet, fail and are taken back', async () => {
  const random = seededRandom('row images')
  const clients = await Promise.all([engine.connect(), engine.connect(), engine.connect()])
  const observer = await engine.connect()
  const [first] = clients as [pg.Client, ...pg.Client[]]
  await first.query('CREATE TABLE t (id INTEGER PRIMARY KEY, n BIGINT, d DOUBLE, i INTEGER, v VARCHAR, p DECIMAL(18,4), b BOOLEAN)')
  await first.query("INSERT INTO t (id, n, d, i, v, p, b) SELECT range, range, range / 2, 0, 'row ' || range, 1.5, true FROM range(8)")
  const consumer = new Consumer()
  const key = () => (random.chance(0.6) ? random.int(0, 1) : random.int(0, 9))
  const steps: (() => [string, unknown[]?])[] = [
    () => ['UPDATE t SET n = n + $1 WHERE id = $2', [random.int(-9, 9), key()]],
    () => ['UPDATE t SET d = d + $1, n = n - 1 WHERE id = $2', [random.int(-9, 9) / 2, key()]],
    () => ['UPDATE t SET d = d - 0.5, i = i + 2 WHERE id = $1', [key()]],
    () => ['UPDATE t SET i = i - 3, d = d + 7, b = $2 WHERE id = $1', [key(), random.chance(0.5)]],
    () => [
      'UPDATE t SET v = $1, p = $2 WHERE id = $3',
      [random.pick(['x', 'y z', '', null]), random.pick(['1.5', '-20', '0.0001']), key()],
    ],
    () => [`UPDATE t SET n = ${random.int(0, 99)}, i = $1 WHERE t.id = ${key()}`, [random.pick([1, null])]],
    () => [`UPDATE t SET n = i + 1 WHERE id = ${key()}`],
    () => ['UPDATE t SET n = n * 2 WHERE id = $1', [key()]],
    () => ['UPDATE t SET n = n + 1 WHERE id = $1 RETURNING n', [key()]],
    () => ['UPDATE t SET n = n + 1 WHERE id > $1', [key()]],
    () => ['UPDATE t SET id = id + 100 WHERE id = $1', [key()]],
    () => ['DELETE FROM t WHERE id = $1', [key()]],
    () => ['INSERT INTO t (id, n, d, i) VALUES ($1, 1, 1.5, 1)', [key()]],
    () => ['INSERT INTO t (id, n, d, i) VALUES ($1, 1, 2.5, 1) ON CONFLICT (id) DO UPDATE SET n = t.n + 5', [key()]],
    () => ['MERGE INTO t USING (SELECT $1::INTEGER AS k) s ON t.id = s.k WHEN MATCHED THEN UPDATE SET i = 77', [key()]],
    () => ['UPDATE t SET i = i + 2147483647 WHERE id = $1', [key()]],
  ]
  const common = steps.slice(0, 6)
  let failures = 0
  for (let step = 0; step < 900; step++) {
    const client = random.pick(clients)
    const [sql, values] = random.chance(0.12)
      ? [random.pick(['BEGIN', 'COMMIT', 'ROLLBACK', 'COMMIT'])]
      : random.pick(random.chance(0.6) ? common : steps)()
    if (await codeOf(client.query(sql, values))) failures++
    await assertSame(observer, consumer, `after step ${step}: ${sql}`)
  }
  assert.ok(failures > 20, 'clients met')
  for (const client of [...clients, observer]) await client.end()
})

test('what is set outright is what DuckDB makes of the expressions, up to the ends of their types', async () => {
  const random = seededRandom('set outright')
  const client = await engine.connect()
  await withoutTable(client)
  const columns = '("Id" INTEGER PRIMARY KEY, n BIGINT CHECK (n <> 13), i INTEGER, d DOUBLE NOT NULL, v VARCHAR, p DECIMAL(18,4))'
  for (const name of ['t', 'same']) {
    await client.query(`CREATE TABLE ${name} ${columns}`)
    await client.query(`INSERT INTO ${name} SELECT range, 0, 0, 0, 'v', 0 FROM range(6)`)
  }
  const big = ['1', '-1', '9223372036854775807', '-9223372036854775808', '4611686018427387904', '13', null]
  const double = ['0.1', '-0.3', '1e308', '-1e308', '5e-324', '1e16', '-0', null]
  const steps: (() => [(plus: (a: string, b: string) => string) => string, unknown[]])[] = [
    () => [(plus) => `n = ${plus('n', '$1')}`, [random.pick(big)]],
    () => [(plus) => `n = ${plus('n', '$1').replace('+', '-')}`, [random.pick(big)]],
    () => [(plus) => `i = ${plus('i', '$1')}, d = ${plus('d', '1')}`, [random.pick(['1', '2147483647', '-2147483648', null])]],
    () => [(plus) => `i = ${plus('i', '999999999')}`, []],
    () => [(plus) => `d = ${plus('d', '$1')}, n = ${plus('n', '3')}`, [random.pick(double)]],
    () => [(plus) => `d = ${plus('d', '$1').replace('+', '-')}`, [random.pick(double)]],
    () => [() => 'n = $1, i = 5', [random.pick(big)]],
    () => [() => 'd = $1, v = $2', [random.pick(double), random.pick(['x', '', null])]],
    () => [() => 'p = $1, i = $2', [random.pick(['1.5', '99999999999999.9999', null]), random.pick(['7', null])]],
  ]
  const outcomes = { done: 0, refused: 0 }
  let counted: (number | null)[] = []
  const attempt = (sql: string, values: unknown[]) => codeOf(client.query(sql, values).then(({ rowCount }) => void counted.push(rowCount)))
  for (let step = 0; step < 800; step++) {
    const [set, values] = random.pick(steps)()
    const id = random.int(0, 6)
    const end = (sql: string) => `${sql} WHERE "Id" = $${values.length + 1}`
    counted = []
    const made = await attempt(end(`UPDATE t SET ${set((a, b) => `${a} + ${b}`)}`), [...values, id])
    // In parentheses it is an expression like any other.
    const expected = await attempt(end(`UPDATE same SET ${set((a, b) => `(${a} + ${b})`)}`), [...values, id])
    assert.is(made, expected, `step ${step}`)
    assert.is(counted[0], counted[1], `step ${step}`)
    outcomes[made === undefined ? 'done' : 'refused']++
    const rows = (name: string) => rowsOf(client, `SELECT * FROM ${name} ORDER BY ALL`)
    assert.equal(await rows('t'), await rows('same'), `step ${step}`)
  }
  assert.ok(outcomes.done > 200 && outcomes.refused > 50, JSON.stringify(outcomes))
  await client.end()
})

test('a row whose columns have become others is not made of what they were', async () => {
  const client = await engine.connect()
  const consumer = await withoutTable(client)
  await client.query('CREATE TABLE t (id INTEGER PRIMARY KEY, n BIGINT, v VARCHAR)')
  await client.query("INSERT INTO t VALUES (1, 1, 'old')")
  const add = () => client.query('UPDATE t SET n = n + 1 WHERE id = $1', [1])
  await add()
  await add()
  await client.query('BEGIN')
  await client.query('ALTER TABLE t DROP COLUMN v')
  await client.query("ALTER TABLE t ADD COLUMN w VARCHAR DEFAULT 'new'")
  await add()
  await client.query('COMMIT')
  await assertSame(client, consumer, 'altered and updated')
  await add()
  assert.equal(await rowsOf(client, 'SELECT * FROM t'), [['1', '5', 'new']])
  await assertSame(client, consumer, 'after ALTER')
  await client.query('BEGIN')
  await client.query('DELETE FROM t WHERE id = 1')
  await client.query("INSERT INTO t VALUES (1, 50, 'again')")
  await add()
  await client.query('COMMIT')
  await assertSame(client, consumer, 'deleted and inserted')
  await add()
  await assertSame(client, consumer, 'deleted, inserted and updated')
  assert.equal(await rowsOf(client, 'SELECT * FROM t'), [['1', '52', 'again']])
  await client.end()
})

test('what another statement has made of a row is not known, whether it was one row, many, or more than are counted', async () => {
  const client = await engine.connect()
  const consumer = await withoutTable(client)
  await client.query('CREATE TABLE t (id INTEGER PRIMARY KEY, n BIGINT)')
  await client.query('INSERT INTO t SELECT range, range FROM range(10050)')
  const add = (id: number) => client.query('UPDATE t SET n = n + 1 WHERE id = $1', [id])
  for (const others of ['UPDATE t SET n = n * 2 WHERE id = 7', 'UPDATE t SET n = n * 2 WHERE id < 100', 'UPDATE t SET n = n * 2']) {
    for (const inTransaction of [false, true]) {
      await add(7)
      await add(7)
      if (inTransaction) await client.query('BEGIN')
      await add(7)
      await client.query(others)
      await add(7)
      await add(8)
      await add(7)
      if (inTransaction) await client.query('COMMIT')
      await assertSame(client, consumer, `${others}${inTransaction ? ', in a transaction' : ''}`)
      await add(7)
      await add(8)
      await assertSame(client, consumer, `after ${others}`)
    }
  }
  await client.end()
})

test('a key that finds two rows: each has its image', async () => {
  const client = await engine.connect()
  const consumer = await withoutTable(client)
  await client.query('CREATE TABLE t (id VARCHAR PRIMARY KEY, n BIGINT)')
  await client.query("INSERT INTO t VALUES ('5', 1), ('6', 1)")
  const add = (id: string) => client.query('UPDATE t SET n = n + 1 WHERE id = $1', [id])
  await add('5')
  await add('5')
  await client.query("INSERT INTO t VALUES ('05', 100)")
  assert.is((await client.query('UPDATE t SET n = n + 1 WHERE id = 5')).rowCount, 2, 'DuckDB compares them as numbers')
  await assertSame(client, consumer, 'two rows')
  await add('05')
  await add('5')
  await assertSame(client, consumer, 'one row each')
  await client.end()
})

test('a key that finds two rows by its collation: each counts on from its own value', async () => {
  const client = await engine.connect()
  const consumer = await withoutTable(client)
  await client.query('CREATE TABLE t (id VARCHAR COLLATE NOCASE PRIMARY KEY, n BIGINT)')
  await client.query("INSERT INTO t VALUES ('a', 1)")
  const add = () => client.query('UPDATE t SET n = n + 1 WHERE id = $1', ['a'])
  await add()
  await add()
  await client.query("INSERT INTO t VALUES ('A', 100)")
  assert.is((await add()).rowCount, 2)
  assert.equal(await rowsOf(client, 'SELECT n FROM t ORDER BY n'), [['4'], ['101']])
  await assertSame(client, consumer, 'two rows')
  await client.end()
})

test('a field of a struct is not the key that has its name', async () => {
  const client = await engine.connect()
  const consumer = await withoutTable(client)
  await client.query('CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT, parent STRUCT(id BIGINT))')
  await client.query("INSERT INTO t VALUES (5, 0, {'id': 1}), (6, 0, {'id': 5}), (7, 0, {'id': 5}), (8, 0, {'id': 8})")
  const images = (reader: pg.Client) => rowsOf(reader, 'SELECT id, n, parent.id FROM t ORDER BY id')
  const journaled = () => {
    consumer.take()
    return [...consumer.rows.keys()].sort()
  }
  await client.query('UPDATE t SET n = n + 1 WHERE id = 5')
  await client.query('UPDATE t SET n = n + 1 WHERE t.id = 5')
  assert.is((await client.query('UPDATE t SET n = n + 10 WHERE parent.id = 5')).rowCount, 2)
  assert.is((await client.query('UPDATE t SET n = n + 10 WHERE parent.id = $1', [8])).rowCount, 1)
  assert.is((await client.query("UPDATE t SET parent = {'id': 9} WHERE parent.id = 5")).rowCount, 2)
  const expected = [
    ['5', '2', '1'],
    ['6', '10', '9'],
    ['7', '10', '9'],
    ['8', '10', '8'],
  ]
  assert.equal(await images(client), expected)
  assert.is((await client.query('DELETE FROM t WHERE parent.id = 8')).rowCount, 1)
  assert.equal(journaled(), ['5', '6', '7'])
  await engine.restart()
  await client.end().catch(() => {})
  const again = await engine.connect()
  assert.equal(await images(again), expected.slice(0, 3))
  await again.end()
})

test('what DuckDB would refuse is refused, whether the row is known or not', async () => {
  const client = await engine.connect()
  await withoutTable(client)
  await client.query('CREATE TABLE t (id INTEGER PRIMARY KEY, n BIGINT, "end" BIGINT); CREATE TABLE u (n BIGINT)')
  await client.query('INSERT INTO t VALUES (5, 0, 0), (6, 0, 0)')
  await client.query('UPDATE t SET n = n + 1 WHERE id = 5')
  for (const wrong of [
    't AS x SET n = n + 1 WHERE t.id =',
    't SET n = n + 1 WHERE nosuch.id =',
    't, u SET n = n + 1 WHERE id =',
    't AS SET n = n + 1 WHERE id =',
    't a b c SET n = n + 1 WHERE id =',
    't SET n = end + 1 WHERE id =',
  ]) {
    const known = await codeOf(client.query(`UPDATE ${wrong} 5`))
    assert.match(known ?? 'accepted', /^42/, wrong)
    assert.is(known, await codeOf(client.query(`UPDATE ${wrong} 6`)), wrong)
    assert.is(known, await codeOf(client.query(`UPDATE ${wrong} $1`, [5])), wrong)
  }
  assert.is((await client.query('UPDATE t AS x SET n = n + 1 WHERE x.id = 5')).rowCount, 1)
  assert.equal(await rowsOf(client, 'SELECT n FROM t ORDER BY id'), [['2'], ['0']])
  await client.query('DROP TABLE u')
  await client.end()
})

test('tables whose names look alike are two', async () => {
  const client = await engine.connect()
  await client.query('CREATE SCHEMA a; CREATE SCHEMA "a.b"; DROP TABLE IF EXISTS t')
  await client.query('CREATE TABLE a."b.t" (id INTEGER PRIMARY KEY, n BIGINT); CREATE TABLE "a.b".t (id INTEGER PRIMARY KEY, n BIGINT)')
  await client.query('INSERT INTO a."b.t" VALUES (1, 1000); INSERT INTO "a.b".t VALUES (1, 1)')
  const consumer = new Consumer()
  for (let round = 0; round < 3; round++) {
    await client.query('UPDATE a."b.t" SET n = n + 1 WHERE id = $1', [1])
    await client.query('UPDATE "a.b".t SET n = n + 1 WHERE id = $1', [1])
  }
  consumer.take()
  assert.is(consumer.rows.get('1'), '1|4')
  await client.end()
})

test.run()
