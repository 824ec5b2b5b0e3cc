// deadline: 120s
// MERGE: every action, what it returns, what is refused, and a replay that gives the same.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { difference, stateOf } from './support/state.ts'
import { assertSurvivesKill } from './support/surviving.ts'

const test = suite('merge')
let engine: TestEngine
let client: pg.Client

async function killAndCompare(): Promise<void> {
  client = await assertSurvivesKill(engine, client)
}

const rows = (order = 'id') => rowsOf(client, `SELECT * FROM t ORDER BY ${order}`)

test.before(async () => {
  engine = await TestEngine.start()
  client = await engine.connect()
})
test.after(() => engine.kill())

test.before.each(async () => {
  await client.query('ROLLBACK')
  for (const name of ['child', 't', 'keyless']) await client.query(`DROP TABLE IF EXISTS ${name}`)
  await client.query(`
    CREATE SEQUENCE IF NOT EXISTS ids;
    CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR DEFAULT 'none', n INTEGER UNIQUE, g INTEGER GENERATED ALWAYS AS (n * 2), l VARCHAR[], r DOUBLE DEFAULT random());
    CREATE TABLE keyless (id INTEGER, v VARCHAR);
    INSERT INTO t (id, v, n, r) VALUES (1, 'a', 1, 0), (2, 'b', 2, 0), (3, 'c', 3, 0), (4, 'd', 4, 0)`)
})

/** The same on a plain table, and on one that a foreign key references: there DuckDB's RETURNING refuses. */
for (const referenced of [false, true]) {
  const on = referenced ? ' on a referenced parent' : ''
  const reference = async () => {
    // DuckDB takes no update of an indexed column, or of a list, where a foreign key references the row.
    if (!referenced) await client.query('CREATE INDEX t_v ON t (v)')
    else await client.query('CREATE TABLE child (id INTEGER PRIMARY KEY, t INTEGER REFERENCES t); INSERT INTO child VALUES (1, 1), (2, 2)')
  }

  test(`every action in one statement${on}`, async () => {
    await reference()
    const result = await client.query(`
      WITH source AS (SELECT * FROM (VALUES (1, 'A', 10), (2, 'B', 20), (3, 'C', 30), (9, 'I', 90), (10, 'J', 100)) s(id, v, n))
      MERGE INTO t AS x USING source AS s ON x.id = s.id
      WHEN MATCHED AND s.v = 'C' THEN DELETE
      WHEN MATCHED AND CASE WHEN s.id = 2 THEN true ELSE false END THEN DO NOTHING
      WHEN MATCHED THEN UPDATE SET r = random(), v = CASE WHEN x.n = 1 THEN s.v ELSE 'no' END${referenced ? '' : ', l = [s.v]'}
      WHEN NOT MATCHED AND s.id < 10 THEN INSERT (id, v) VALUES (s.id, s.v)
      WHEN NOT MATCHED BY SOURCE AND x.n = 4 THEN DELETE
      RETURNING merge_action, id, v || '!' AS shout`)
    assert.equal(result.rows.map(({ merge_action: action, id, shout }) => [action, id, shout]).sort(), [
      ['DELETE', 3, 'c!'],
      ['DELETE', 4, 'd!'],
      ['INSERT', 9, 'I!'],
      ['UPDATE', 1, 'A!'],
    ])
    assert.equal([result.command, result.rowCount], ['MERGE', 4])
    assert.equal(
      (await rows()).map((row) => row.slice(0, 5)),
      [
        ['1', 'A', '1', '2', referenced ? null : '{A}'],
        ['2', 'b', '2', '4', null],
        ['9', 'I', null, null, null],
      ],
    )
    await killAndCompare()
    assert.equal(await rowsOf(client, "SELECT id FROM t WHERE v = 'A'"), [['1']])
  })

  test(`parameters, a second MERGE of the same rows in a transaction, unique values that swap${on}`, async () => {
    await reference()
    await client.query('BEGIN')
    const text =
      'MERGE INTO t USING (SELECT $1::INTEGER AS id, $2::VARCHAR AS v) s USING (id) WHEN MATCHED THEN UPDATE SET id = s.id, v = s.v WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v)'
    for (const [id, v] of [
      [1, 'x'],
      [1, 'y'],
      [7, 'seven'],
      [7, 'SEVEN'],
    ])
      assert.is((await client.query(text, [id, v])).rowCount, 1)
    await client.query('MERGE INTO t USING (VALUES (3, 1.5), (4, 2.5)) s(id, r) ON t.id = s.id WHEN MATCHED THEN UPDATE BY NAME')
    await client.query('COMMIT')
    if (!referenced)
      await client.query('MERGE INTO t USING (VALUES (3, 4), (4, 3)) s(id, n) ON t.id = s.id WHEN MATCHED THEN UPDATE SET n = s.n')
    assert.equal(
      (await rows()).map(([id, v, n]) => [id, v, n]),
      [
        ['1', 'y', '1'],
        ['2', 'b', '2'],
        ['3', 'c', referenced ? '3' : '4'],
        ['4', 'd', referenced ? '4' : '3'],
        ['7', 'SEVEN', null],
      ],
    )
    await killAndCompare()
  })

  test(`several source rows for one row: the last update is journaled; an update and a delete are refused${on}`, async () => {
    await reference()
    await client.query(
      'MERGE INTO t USING (SELECT 1 AS id, i AS n FROM range(5000, 12000) r(i)) s USING (id) WHEN MATCHED THEN UPDATE SET r = s.n',
    )
    const twice =
      'MERGE INTO t USING (SELECT 3 AS id, i AS n FROM range(5000, 5002) r(i)) s USING (id) WHEN MATCHED AND s.n = 5000 THEN DELETE WHEN MATCHED THEN UPDATE SET v = s.n'
    const code = await codeOf(client.query(twice))
    assert.ok(code === '21000' || code === undefined, code)
    await killAndCompare()
  })
}

test('a key that a child references cannot be merged away, and a failed MERGE leaves nothing', async () => {
  await client.query('CREATE TABLE child (id INTEGER PRIMARY KEY, t INTEGER REFERENCES t); INSERT INTO child VALUES (1, 1)')
  const before = await stateOf(client)
  const text =
    "MERGE INTO t USING (VALUES (1), (2), (50)) s(id) USING (id) WHEN MATCHED AND id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 'u' WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)"
  assert.is(await codeOf(client.query(text)), '23503')
  assert.is(
    await codeOf(
      client.query('MERGE INTO child USING (VALUES (5, 77)) s(id, t) USING (id) WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.t)'),
    ),
    '23503',
  )
  assert.is(await codeOf(client.query('MERGE INTO t USING (VALUES (1)) s(id) USING (id) WHEN MATCHED THEN ERROR')), '23000')
  assert.is(
    await codeOf(client.query('MERGE INTO t USING (VALUES (8)) s(id) USING (id) WHEN NOT MATCHED THEN INSERT (id, n) VALUES (8, 4)')),
    '23505',
  )
  assert.is(difference(before, await stateOf(client)), '')
})

test('inserts alone need no key; a key that might move is refused', async () => {
  await client.query("MERGE INTO keyless USING (VALUES (1, 'a'), (2, 'b')) s(id, v) ON keyless.id = s.id WHEN NOT MATCHED THEN INSERT")
  assert.equal(await rowsOf(client, 'SELECT id FROM keyless ORDER BY id'), [['1'], ['2']])
  for (const [text, code] of [
    ['MERGE INTO keyless USING (VALUES (1)) s(id) ON keyless.id = s.id WHEN MATCHED THEN DELETE', '55000'],
    ['MERGE INTO t USING (VALUES (1)) s(id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET id = s.id + 100', '0A000'],
    ['MERGE INTO t USING (VALUES (1, 7)) s(n, id) ON t.n = s.n WHEN MATCHED THEN UPDATE SET id = s.id', '0A000'],
    ['MERGE INTO t USING (VALUES (1, 7)) s(n, id) ON t.n = s.n WHEN MATCHED THEN UPDATE BY NAME', '0A000'],
    ['MERGE INTO t USING (VALUES (1, 7)) s(n, id) ON t.id = s.id OR t.n = s.n WHEN MATCHED THEN UPDATE BY NAME', '0A000'],
    ['MERGE INTO t USING (VALUES (1)) s(id) ON t.id = s.id', '42601'],
    // DuckDB returns memory of anybody's, or becomes invalid.
    ['MERGE INTO t USING (VALUES (1)) s(id) USING (id) WHEN NOT MATCHED BY SOURCE AND t.id < 9 THEN UPDATE SET r = 1', '0A000'],
    ['MERGE INTO daemonguard.probe USING (VALUES (1)) s(id) ON true WHEN NOT MATCHED THEN INSERT VALUES (now())', '42501'],
    ['MERGE INTO memory.main.x USING (VALUES (1)) s(id) ON true WHEN NOT MATCHED THEN INSERT VALUES (1)', '42P01'],
  ] as const) {
    assert.is(await codeOf(client.query(text)), code, text)
  }
  await client.query(
    'CREATE TEMP TABLE own (id INTEGER); MERGE INTO own USING (VALUES (1)) s(id) ON own.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id)',
  )
  assert.equal(await rowsOf(client, 'SELECT * FROM own'), [['1']])
  await killAndCompare()
})

test.run()
