// What was prepared serves again, and for another session, only where the same text means the same: after a schema change, in another search path, beside a
// temporary table, within an older snapshot and with other declared types it does not.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Catalog } from '../../agent/engine/catalog.ts'
import type { Prepared } from '../../agent/engine/preparation.ts'
import { PreparedInserts } from '../../agent/engine/prepared-inserts.ts'
import { parseStatement } from '../../agent/engine/sql/statement.ts'
import { tokenize } from '../../agent/engine/sql/tokens.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'

const test = suite('prepared inserts')
let engine: TestEngine
let one: pg.Client
let other: pg.Client

const text = 'INSERT INTO t (id, v) VALUES ($1, $2)'
let names = 0
/** Prepares it anew, and runs it. */
const add = (client: pg.Client, ...values: unknown[]) => codeOf(client.query({ name: `i${++names}`, text, values }))
const rows = (client: pg.Client, from = 't') => rowsOf(client, `SELECT * FROM ${from} ORDER BY id`)

test.before.each(async () => {
  engine = await TestEngine.start()
  await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)')
  one = await engine.connect()
  other = await engine.connect()
})
test.after.each(() => engine.kill())

test('sessions prepare the same statement, and each adds its rows', async () => {
  assert.is(await add(one, 1, 10), undefined)
  assert.is(await add(other, 2, 20), undefined)
  await other.query('BEGIN')
  assert.is(await add(other, 3, 30), undefined)
  await other.query('COMMIT')
  assert.is(await add(other, 1, 0), '23505')
  assert.equal(await rows(one), [
    ['1', '10'],
    ['2', '20'],
    ['3', '30'],
  ])
})

test('after a schema change a session is told what the table has become', async () => {
  assert.is(await add(one, 1, 10), undefined)
  assert.is(await add(one, 2, 'text'), '22P02')
  await one.query('ALTER TABLE t ALTER v TYPE VARCHAR')
  assert.is(await add(other, 2, 'text'), undefined)
  await other.query('ALTER TABLE t DROP v')
  assert.is(await add(one, 3, 'text'), '42703')
  await one.query('DROP TABLE t')
  assert.is(await add(other, 3, 'text'), '42P01')
})

test('so is one that asks again for rows, with and without parameters', async () => {
  const all = (client: pg.Client) => rowsOf(client, 'SELECT * FROM t WHERE id > $1', [0])
  assert.is(await add(one, 1, 10), undefined)
  assert.equal(await all(one), [['1', '10']])
  await other.query('ALTER TABLE t ADD COLUMN w VARCHAR')
  assert.equal(await all(one), [['1', '10', null]])
  await one.query('BEGIN')
  await one.query('ALTER TABLE t DROP w')
  assert.equal(await all(one), [['1', '10']])
  await one.query('ROLLBACK')
  assert.equal(await all(one), [['1', '10', null]])
})

test('a statement that was prepared under a name before is refused as drivers know it, who prepare it again by themselves', async () => {
  const read = () => one.query({ name: 'all', text: 'SELECT * FROM t WHERE id > $1', values: [0] })
  await read()
  await other.query('ALTER TABLE t ADD COLUMN w VARCHAR')
  const error = await read().then(
    () => undefined,
    (thrown: { code: string; routine: string }) => thrown,
  )
  assert.is(error?.code, '0A000')
  assert.is(error?.routine, 'RevalidateCachedQuery')
})

test('what is refused so has changed nothing, though it was to give rows back', async () => {
  const change = (v: number) =>
    codeOf(
      one.query({
        name: 'change',
        text: 'INSERT INTO t VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = t.v + 1 RETURNING v',
        values: [1, v],
      }),
    )
  assert.is(await change(10), undefined)
  await other.query('ALTER TABLE t ALTER v TYPE BIGINT')
  assert.is(await change(10), '0A000')
  assert.equal(await rows(other), [['1', '10']])
})

test('a ping before the first look at the database does not decide which schema a transaction has', async () => {
  const all = () => rowsOf(one, 'SELECT * FROM t WHERE id > $1', [0])
  assert.equal(await all(), [])
  await one.query('BEGIN')
  await one.query('SELECT 1')
  await other.query('ALTER TABLE t ADD COLUMN w VARCHAR')
  assert.equal(await all(), [])
  await one.query('COMMIT')
})

test('a query that was run before a temporary table hid the one it read, or since, reads what is there now', async () => {
  const all = () => rowsOf(one, 'SELECT * FROM t WHERE id > $1', [0])
  assert.is(await add(one, 1, 10), undefined)
  assert.equal(await all(), [['1', '10']])
  await one.query('CREATE TEMPORARY TABLE t AS SELECT 2 AS id, true AS hidden')
  assert.equal(await all(), [['2', 't']])
  await one.query('DROP TABLE t')
  assert.equal(await all(), [['1', '10']])
})

test('a change that is not committed is for its own session only', async () => {
  assert.is(await add(one, 1, 10), undefined)
  await one.query('BEGIN')
  await one.query('ALTER TABLE t ALTER v TYPE VARCHAR')
  assert.is(await add(one, 2, 'text'), undefined)
  assert.is(await add(other, 3, 'text'), '22P02')
  await one.query('ROLLBACK')
  assert.is(await add(one, 4, 'text'), '22P02')
  assert.equal(await rows(other), [['1', '10']])
})

test('in an older snapshot the schema is the older one', async () => {
  assert.is(await add(one, 1, 10), undefined)
  await other.query('BEGIN')
  assert.equal(await rows(other), [['1', '10']])
  await one.query('ALTER TABLE t ALTER v TYPE VARCHAR')
  assert.is(await add(one, 2, 'text'), undefined)
  // To it the column is a number still; and what it writes would meet the table of now.
  assert.is(await add(other, 3, 'text'), '22P02')
  await other.query('ROLLBACK; BEGIN')
  assert.is(await add(other, 3, 'text'), undefined)
  await other.query('COMMIT')
  assert.equal(
    (await rows(one)).map(([id]) => id),
    ['1', '2', '3'],
  )
})

test('in another search path, and beside a temporary table, the name means another table', async () => {
  await engine.sql('CREATE SCHEMA s', 'CREATE TABLE s.t (id INTEGER PRIMARY KEY, v VARCHAR)')
  assert.is(await add(one, 1, 10), undefined)
  await other.query('SET search_path = s')
  assert.is(await add(other, 1, 'in s'), undefined)
  await other.query('SET search_path = main')
  await other.query('CREATE TEMPORARY TABLE t (id INTEGER, v VARCHAR)')
  assert.is(await add(other, 1, 'temporary'), undefined)
  assert.is(await add(one, 2, 20), undefined)
  assert.equal(await rows(other), [['1', 'temporary']])
  assert.equal(await rows(one, 's.t'), [['1', 'in s']])
  assert.equal(await rows(one), [
    ['1', '10'],
    ['2', '20'],
  ])
})

test('what is kept is found again for the same text, types, search path and schema, and no more of it than there is room for', () => {
  const catalog = new Catalog('d')
  const inserts = new PreparedInserts(catalog)
  const read = (sql: string) => parseStatement(sql, tokenize(sql))
  const prepared = (sql: string, insert = true) => ({ sql, insert: insert ? {} : undefined }) as unknown as Prepared
  const statement = read(text)
  const first = inserts.find(statement, [23, 23], 'd.main')
  assert.is(first.known, undefined)
  first.keep(prepared(text))
  assert.is(inserts.find(read(text), [23, 23], 'd.main').known?.sql, text)
  for (const [oids, path] of [
    [[23, 25], 'd.main'],
    [[], 'd.main'],
    [[23, 23], 's'],
  ] as const)
    assert.is(inserts.find(statement, oids, path).known, undefined)
  // What DuckDB was asked before a schema change, and has answered after it.
  const late = inserts.find(statement, [], 'd.main')
  catalog.changed()
  late.keep(prepared(text))
  assert.is(inserts.find(statement, [], 'd.main').known, undefined)
  assert.is(inserts.find(statement, [23, 23], 'd.main').known, undefined)
  // Others, and very long ones, are not kept; nor are those used longest ago.
  const long = `INSERT INTO t (id) VALUES ($1) ${'-'.repeat(5_000)}`
  for (const [sql, isInsert] of [
    [text, false],
    [long, true],
  ] as const) {
    inserts.find({ ...statement, text: sql }, [], 'd.main').keep(prepared(sql, isInsert))
    assert.is(inserts.find({ ...statement, text: sql }, [], 'd.main').known, undefined)
  }
  const nth = (n: number) => inserts.find(statement, [n], 'd.main')
  for (let n = 0; n < 300; n++) {
    nth(n).keep(prepared(text))
    assert.ok(nth(0).known)
  }
  assert.is(nth(1).known, undefined)
  assert.ok(nth(299).known)
})

test.run()
