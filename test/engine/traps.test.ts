// deadline: 180s
// Where DuckDB 1.5 answers wrongly, or refuses what should pass (duckdb.md, sections 3 and 8): what the engine makes of it, also after a kill.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ExitCode } from '../../agent/errors.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { waitFor } from '../support/wait.ts'
import { assertSurvivesKill } from './support/surviving.ts'

const test = suite('traps')
let engine: TestEngine
let one: pg.Client
let two: pg.Client
let three: pg.Client

async function connectAll(): Promise<void> {
  ;[one, two, three] = await Promise.all([engine.connect(), engine.connect(), engine.connect()])
}

async function killAndCompare(): Promise<void> {
  await assertSurvivesKill(engine, one)
  await connectAll()
}

/** Runs statements in one transaction; the code of the first that fails. */
async function together(...texts: string[]): Promise<string | undefined> {
  await one.query('BEGIN')
  for (const text of texts) {
    const code = await codeOf(one.query(text))
    if (code === undefined) continue
    await one.query('ROLLBACK')
    return code
  }
  return codeOf(one.query('COMMIT'))
}

const orphans = () =>
  rowsOf(one, 'SELECT * FROM child WHERE p NOT IN (SELECT id FROM parent) OR u NOT IN (SELECT u FROM parent WHERE u IS NOT NULL)')

test.before(async () => {
  engine = await TestEngine.start()
  await connectAll()
})
test.after(() => engine.kill())

test.before.each(async () => {
  for (const client of [one, two]) await client.query('ROLLBACK')
  for (const name of ['child', 'parent', 't']) await one.query(`DROP TABLE IF EXISTS ${name}`)
  await one.query(`
    CREATE TABLE parent (id INTEGER PRIMARY KEY, u INTEGER UNIQUE, v VARCHAR DEFAULT 'none', w DOUBLE DEFAULT random(), l INTEGER[], g INTEGER AS (id * 2));
    CREATE TABLE child (id INTEGER PRIMARY KEY, p INTEGER REFERENCES parent, u INTEGER REFERENCES parent (u));
    CREATE TABLE t (id INTEGER PRIMARY KEY, u INTEGER UNIQUE, v VARCHAR);
    CREATE INDEX t_v ON t (v);
    INSERT INTO parent (id, u, v, l) SELECT i, i, 'v' || i, [i] FROM range(5) r(i);
    INSERT INTO child VALUES (1, 1, 1), (2, 2, NULL);
    INSERT INTO t SELECT i, i, 'v' || i FROM range(10) r(i)`)
})

test('a child of a parent that the same transaction has deleted, or given another key, is refused', async () => {
  for (const away of ['DELETE FROM parent WHERE id = 4', 'UPDATE parent SET id = 40 WHERE id = 4']) {
    assert.is(await together(away, 'INSERT INTO child VALUES (9, 4, NULL)'), '23503', away)
    assert.is(await together(away, 'INSERT INTO child SELECT 9, 4, NULL ON CONFLICT DO NOTHING'), '23503', away)
    assert.is(await together(away, 'UPDATE child SET p = 4 WHERE id = 2'), '23503', away)
    assert.is(
      await together(
        away,
        'MERGE INTO child USING (VALUES (9, 4)) s(id, p) USING (id) WHEN NOT MATCHED THEN INSERT (id, p) VALUES (s.id, s.p)',
      ),
      '23503',
      away,
    )
  }
  assert.is(await together('UPDATE parent SET u = 40 WHERE id = 4', 'INSERT INTO child VALUES (9, NULL, 4)'), '23503')
  assert.is(await together('INSERT INTO child VALUES (9, 4, NULL)', 'DELETE FROM parent WHERE id = 4'), '23503')
  assert.is(
    await together(
      'DELETE FROM parent WHERE id = 4',
      "INSERT INTO parent (id, v) VALUES (4, 'again')",
      'INSERT INTO child VALUES (9, 4, NULL)',
    ),
    undefined,
  )
  assert.equal(await orphans(), [])
  await killAndCompare()
  assert.equal(await orphans(), [])
})

for (const [order, steps] of [
  ['the key goes first', [0, 1]],
  ['the child comes first', [1, 0]],
] as const) {
  test(`a referenced UNIQUE value that changes while its child is inserted: one of them fails (${order})`, async () => {
    const texts = ['UPDATE parent SET u = 40 WHERE id = 4', 'INSERT INTO child VALUES (9, NULL, 4)']
    const codes: (string | undefined)[] = []
    for (const client of [one, two]) await client.query('BEGIN')
    for (const step of steps) codes.push(await codeOf([one, two][step]!.query(texts[step]!)))
    for (const client of [one, two]) codes.push(await codeOf(client.query('COMMIT')))
    assert.ok(
      codes.some((code) => code === '40001' || code === '23503'),
      String(codes),
    )
    assert.equal(await orphans(), [])
    await killAndCompare()
  })
}

test('a child and its parent go in one transaction only as DuckDB lets them: a clean error, a hint, nothing half', async () => {
  await one.query('BEGIN; DELETE FROM child WHERE id = 1')
  const error = await one.query('DELETE FROM parent WHERE id = 1').catch((caught: pg.DatabaseError) => caught)
  assert.is((error as pg.DatabaseError).code, '23503')
  assert.match((error as pg.DatabaseError).hint ?? '', /COMMIT their DELETE first/)
  assert.is((await one.query('COMMIT')).command, 'ROLLBACK')
  assert.equal(await rowsOf(one, 'SELECT count(*) FROM child'), [['2']])
  await one.query('DELETE FROM child WHERE id = 1')
  await one.query('DELETE FROM parent WHERE id = 1')
  await killAndCompare()
})

test('ON CONFLICT DO UPDATE and UPDATE … RETURNING work on rows that foreign keys reference', async () => {
  const text =
    'INSERT INTO parent (id, v) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = excluded.v || parent.v, w = random() RETURNING id, v, g'
  assert.equal((await one.query(text, [1, 'x'])).rows, [{ id: 1, v: 'xv1', g: 2 }])
  assert.equal((await one.query(text, [77, 'new'])).rows, [{ id: 77, v: 'new', g: 154 }])
  const many = await one.query(
    "INSERT INTO main.parent AS o (id, v) SELECT i, 'm' || i FROM range(100) r(i) ON CONFLICT (id) DO UPDATE SET v = o.v || '!' WHERE o.id <> 3",
  )
  assert.is(many.rowCount, 99)
  await one.query('CREATE UNIQUE INDEX parent_v ON parent (v)')
  await one.query("INSERT INTO parent (id, v, l) VALUES (500, 'v3', [7]) ON CONFLICT (v) DO UPDATE SET w = 0.5")
  assert.equal(await rowsOf(one, "SELECT id, w FROM parent WHERE v IN ('v3') OR id = 500"), [['3', '0.5']])
  assert.is(await codeOf(one.query('INSERT INTO parent (id, u) VALUES (1, 5), (600, 2) ON CONFLICT (id) DO UPDATE SET w = 1')), '23505')
  assert.equal((await rowsOf(one, 'UPDATE parent SET w = id + 1 WHERE id < 3 RETURNING id, w, v')).sort(), [
    ['0', '1', 'v0!'],
    ['1', '2', 'xv1!'],
    ['2', '3', 'v2!'],
  ])
  assert.is((await one.query('INSERT INTO parent (id) VALUES (1) ON CONFLICT (id) DO NOTHING')).rowCount, 0)
  const nameless = await one
    .query('INSERT INTO parent (v) VALUES (1) ON CONFLICT (id) DO UPDATE SET w = 1')
    .catch((error: pg.DatabaseError) => error)
  assert.match((nameless as pg.DatabaseError).message, 'parent.id')
  assert.is(
    await together(
      'UPDATE parent SET w = 9 WHERE id = 2',
      'INSERT INTO parent (id, w) VALUES (2, 10), (2000, 11) ON CONFLICT (id) DO UPDATE SET w = excluded.w + parent.w',
    ),
    undefined,
  )
  assert.equal(await rowsOf(one, 'SELECT id, w FROM parent WHERE id IN (2, 2000) ORDER BY id'), [
    ['2', '19'],
    ['2000', '11'],
  ])
  await killAndCompare()
})

test('UPDATE … FROM … RETURNING gives the new rows, each once', async () => {
  const updated = await rowsOf(
    one,
    "UPDATE parent AS q SET v = d.v || q.v FROM (VALUES (1, 'a'), (3, 'c'), (9, 'z')) d(id, v) WHERE q.id = d.id RETURNING q.id, v, g + 1",
  )
  assert.equal(updated.sort(), [
    ['1', 'av1', '3'],
    ['3', 'cv3', '7'],
  ])
  // Of a column with an index, DuckDB's own may say that a key is there twice.
  for (const [table, value] of [
    ['parent', 'w = 7'],
    ['t', "v = 'x'"],
    ['t', 'u = d.id + 500'],
    ['t', 'v = DEFAULT'],
    ['t', "(v, u) = ('y', d.id + 600)"],
    ['t', "(v, u) = ROW('z', DEFAULT)"],
    ['t', '(v) = (d.id)'],
    ['t', 'id = d.id + t.id + 20'],
  ]) {
    const text = `UPDATE ${table} SET ${value} FROM (VALUES (1), (2), (1)) d(id) WHERE ${table}.id = d.id RETURNING *`
    assert.is((await one.query(text)).rowCount, 2, text)
  }
  const some =
    'WITH few AS (SELECT id FROM t ORDER BY random() LIMIT $2::INTEGER) UPDATE t SET v = few.id || $1, u = coalesce(t.u, t.id + 2000) + 1000 FROM few WHERE t.id = few.id AND random() < 2 RETURNING id, v'
  const chosen = (await one.query(some, ['!', 4])).rows
  assert.equal(
    chosen.map(({ id, v }) => v === `${id}!`),
    [true, true, true, true],
  )
  assert.equal(await rowsOf(one, "SELECT count(*) FROM t WHERE v LIKE '%!' AND u > 999"), [['4']])
  assert.is(await codeOf(one.query("UPDATE t SET v = 'x' FROM (VALUES (1)) d(id) WHERE t.id = d.id RETURNING d.id")), '42601')
  await killAndCompare()
})

test('an UPDATE with FROM, and one that changes keys, is evaluated once: what it says is what it did, live and replayed', async () => {
  await one.query('DELETE FROM child')
  await one.query('DELETE FROM parent')
  await one.query("INSERT INTO parent (id, u, v) SELECT i, i, 'old' FROM range(1000) r(i)")
  const changed = async (text: string, counts: string) => {
    const { rowCount } = await one.query(text)
    assert.equal(await rowsOf(one, `SELECT count(*) FROM parent WHERE ${counts}`), [[String(rowCount)]], text)
    assert.equal(await rowsOf(one, 'SELECT count(*) FROM parent'), [['1000']], text)
  }
  const some = 'FROM range(1000) d(i) WHERE q.u = d.i AND random() < 0.5'
  await changed(`UPDATE parent q SET id = q.id + 10000 ${some}`, 'id >= 10000')
  await changed(`UPDATE parent q SET (v, w) = ('new', random()) ${some}`, "v = 'new'")
  await changed(`UPDATE parent q SET v = DEFAULT, w = DEFAULT ${some}`, "v = 'none'")
  assert.equal(await rowsOf(one, "SELECT count(DISTINCT w) > 1 FROM parent WHERE v = 'none'"), [['t']], 'a default for each row')
  await changed('UPDATE parent SET id = id + 100000 WHERE random() < 0.5', 'id >= 100000')
  await changed("UPDATE parent SET id = id + 1000000, v = 'moved' WHERE random() < 0.5 RETURNING id, g", "v = 'moved'")
  assert.is((await rowsOf(one, 'UPDATE parent SET id = $1 WHERE id = (SELECT min(id) FROM parent) RETURNING id, g', [-7])).join(), '-7,-14')
  // What DuckDB refuses in an UPDATE stays refused.
  for (const [text, code] of [
    ['UPDATE parent SET id = count(*)', '42601'],
    ['UPDATE parent SET id = unnest([1, 2])', '42601'],
    ['UPDATE parent SET id = row_number() OVER ()', '42601'],
    ['UPDATE parent SET id = 1, id = 2', '42601'],
    ['UPDATE parent SET (id, v) = ROW(1, 2, 3)', '42601'],
    ['UPDATE parent SET id = u FROM nowhere', '42P01'],
  ])
    assert.is(await codeOf(one.query(text as string)), code, text)
  await killAndCompare()
})

test('unique values that swap and keys that shift: scans and indexes agree, before and after a kill', async () => {
  await one.query('UPDATE t SET u = CASE u WHEN 1 THEN 2 ELSE 1 END WHERE u IN (1, 2)')
  await one.query('UPDATE t SET id = CASE id WHEN 4 THEN 5 ELSE 4 END WHERE id IN (4, 5)')
  await one.query('UPDATE t SET id = id + 1; UPDATE t SET u = u + 1')
  assert.is(
    await together(
      'DELETE FROM t',
      "INSERT INTO t SELECT i, i, 'n' || i FROM range(1000) r(i)",
      'DELETE FROM t WHERE id < 500',
      "INSERT INTO t SELECT i, i, 'm' || i FROM range(500) r(i)",
      'UPDATE t SET u = u + 100',
      "UPDATE t SET v = 'a' WHERE id = 1",
      'DELETE FROM t WHERE id = 1',
      "INSERT INTO t VALUES (1, 5000, 'b')",
    ),
    undefined,
  )
  const check = async () => {
    assert.equal(await rowsOf(one, 'SELECT count(*), count(DISTINCT id), count(DISTINCT u), count(DISTINCT v) FROM t'), [
      ['1000', '1000', '1000', '1000'],
    ])
    assert.equal(await rowsOf(one, "SELECT id, u FROM t WHERE v = 'b'"), [['1', '5000']])
    assert.equal(await rowsOf(one, 'SELECT id, v FROM t WHERE u = 400'), [['300', 'm300']])
    assert.equal(await rowsOf(one, 'SELECT v FROM t WHERE id = 700'), [['n700']])
    assert.is(await codeOf(one.query("INSERT INTO t VALUES (1, -1, 'twice')")), '23505')
    assert.is(await codeOf(one.query("INSERT INTO t VALUES (-1, 5000, 'twice')")), '23505')
  }
  await check()
  await killAndCompare()
  await check()
})

// 78 MB, 30 of them DuckDB's: its indexes of 3 million keys do not fit, and it says so only while it commits.
test('a column is made anew of its latest values, or not at all while an older snapshot keeps DuckDB from them', async () => {
  const ways: [alter: string, value: string][] = [
    ['ALTER n TYPE VARCHAR', '7777'],
    ['ALTER COLUMN n SET DATA TYPE BIGINT', '7777'],
    ['ALTER n TYPE BIGINT USING n + u', '7778'],
    ['ALTER "n" TYPE VARCHAR USING substring(n::VARCHAR FROM 2)', '777'],
    ['ADD COLUMN s.y INTEGER', '7777'],
  ]
  for (const [i, [alter, value]] of ways.entries()) {
    const table = `remade${i}`
    await one.query(`CREATE TABLE ${table} (id INTEGER PRIMARY KEY, n INTEGER, u INTEGER, s STRUCT(x INTEGER));
      INSERT INTO ${table} SELECT i, i + 100, 1, {x: i} FROM range(3000) r(i)`)
    await two.query('BEGIN; SELECT count(*) FROM t')
    await one.query(`UPDATE ${table} SET n = 7777, s = {x: 5555} WHERE id = 5`)
    const altering = one.query(`ALTER TABLE ${table} ${alter}`)
    // It waits for the older snapshot, and others' changes for it.
    await waitFor(
      'it waits',
      async () => (await codeOf(three.query(`SET lock_timeout = '20ms'; INSERT INTO t VALUES (900, 900, '')`))) === '55P03',
    )
    await two.query('COMMIT')
    await altering
    assert.equal(await rowsOf(one, `SELECT n, s.x FROM ${table} WHERE id = 5`), [[value, '5555']], alter)
  }
  await two.query('BEGIN; SELECT count(*) FROM t')
  await one.query('UPDATE remade1 SET n = 8888 WHERE id = 6')
  assert.is(await codeOf(one.query('ALTER TABLE remade1 ALTER n TYPE INTEGER')), '55P03')
  assert.is(await codeOf(two.query('ALTER TABLE remade1 ALTER n TYPE INTEGER')), '40001')
  // Another table's rows are not in the way.
  await one.query('ALTER TABLE remade0 ALTER u TYPE BIGINT')
  await two.query('ROLLBACK')
  await killAndCompare()
  assert.equal(await rowsOf(one, 'SELECT n FROM remade1 WHERE id IN (5, 6) ORDER BY id'), [['7777'], ['8888']])
  for (const i of ways.keys()) await one.query(`DROP TABLE remade${i}`)
})

test('a prepared query without parameters sees rows that came after it was prepared, though DuckDB keeps its plan', async () => {
  const count = () => one.query({ name: 'count', text: 'SELECT count(*)::INTEGER AS n FROM t WHERE id > 1000' })
  assert.equal((await count()).rows, [{ n: 0 }])
  await two.query("INSERT INTO t VALUES (2000, 2000, 'x')")
  assert.equal((await count()).rows, [{ n: 1 }])
})

test('out of memory in a COMMIT ends the engine with its own code; what was acknowledged is there, and nothing else', async () => {
  const small = await TestEngine.start({ engine: ['memory: 78MB'] })
  try {
    const client = await small.connect()
    await client.query('CREATE TABLE big (id INTEGER PRIMARY KEY, v INTEGER); INSERT INTO big SELECT i, i FROM range(1000) r(i)')
    await client.query('BEGIN')
    let code: string | undefined
    for (let from = 1000; from < 3_000_000 && code === undefined; from += 250_000) {
      code = await codeOf(client.query(`INSERT INTO big SELECT i, i FROM range(${from}, ${from + 250_000}) r(i)`))
    }
    assert.is(code, undefined, 'the statements themselves fit')
    assert.ok((await codeOf(client.query('COMMIT'))) !== undefined)
    assert.equal(await small.exit(), { code: ExitCode.suspect, signal: null })
    await small.start()
    assert.equal(small.control.hello.recovery.refused, [])
    assert.equal(await small.sql('SELECT count(*), min(id), max(id) FROM big'), [['1000', '0', '999']])
    assert.equal(await small.sql('INSERT INTO big VALUES (4000000, -1)', 'SELECT * FROM big WHERE id = 10'), [['10', '10']])
    assert.equal(await small.sql('SELECT v FROM big WHERE id = 4000000'), [['-1']])
    assert.is(await codeOf(small.sql('INSERT INTO big VALUES (10, 10)')), '23505')
  } finally {
    await small.kill()
  }
})

test.run()
