// Temporary tables beside guarded ones of the same name: what is written goes to one of them, and the journal has what the guarded one got; also when a rollback brings the
// temporary one back, and while another session changes the schema.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'

const test = suite('temporary tables')
let engine: TestEngine
let client: pg.Client

test.before.each(async () => {
  engine = await TestEngine.start()
  await engine.sql('CREATE TABLE t (id VARCHAR PRIMARY KEY, v VARCHAR)', "INSERT INTO t VALUES ('1', 'one'), ('2', 'two')")
  client = await engine.connect()
})
test.after.each(() => engine.kill())

const guarded = () => engine.sql('SELECT * FROM t ORDER BY id')
const hidden = () => rowsOf(client, 'SELECT * FROM temp.t ORDER BY id')

/** What is live is what a replay gives. */
async function replays(): Promise<void> {
  const live = await guarded()
  await engine.restart()
  assert.equal(engine.control.hello.recovery.refused, [])
  assert.equal(await guarded(), live)
}

test('main.t is the temporary one, as DuckDB reads it, and trade_data.main.t the other', async () => {
  await client.query("CREATE TEMPORARY TABLE t (id VARCHAR PRIMARY KEY, v VARCHAR); INSERT INTO t VALUES ('1', 'temporary')")
  await client.query("INSERT INTO main.t VALUES ('7', 'seven')")
  await client.query("UPDATE main.t SET v = 'changed' WHERE id = '1'")
  await client.query("DELETE FROM Main.T WHERE id = '7'")
  await client.query('INSERT INTO main.t VALUES ($1, $2)', ['8', 'eight'])
  assert.equal(await hidden(), [
    ['1', 'changed'],
    ['8', 'eight'],
  ])
  await client.query("INSERT INTO trade_data.main.t VALUES ('3', 'three')")
  await client.query("DELETE FROM trade_data.t WHERE id = '2'")
  assert.equal(await guarded(), [
    ['1', 'one'],
    ['3', 'three'],
  ])
  await replays()
})

for (const [how, begin] of [
  ['DROP TABLE', 'DROP TABLE t'],
  ['DISCARD TEMP', 'DISCARD TEMP'],
] as const) {
  for (const [end, statement] of [
    ['a rollback', 'ROLLBACK'],
    ['a failed statement', 'SELECT nothing'],
  ] as const) {
    test(`${how} that ${end} takes back: a statement prepared meanwhile writes into the temporary table again`, async () => {
      await client.query('CREATE TEMPORARY TABLE t (id VARCHAR, v VARCHAR)')
      const add = (id: string) => client.query('INSERT INTO t VALUES ($1, $2)', [id, 'new'])
      await client.query(`BEGIN; ${begin}`)
      await add('8')
      await codeOf(client.query(statement))
      await client.query('ROLLBACK')
      await add('9')
      assert.equal(await hidden(), [['9', 'new']])
      assert.is((await guarded()).length, 2)
      await replays()
    })
  }
}

test('something temporary of another kind has the name of a table, and hides nothing', async () => {
  await engine.sql(...['u', 'w', 'm', 'gone'].map((name) => `CREATE TABLE ${name} (id INTEGER)`))
  await client.query('CREATE TEMPORARY SEQUENCE t; CREATE TEMPORARY SEQUENCE gone; CREATE TEMPORARY TABLE x (a INTEGER)')
  await client.query("CREATE INDEX u ON x (a); CREATE TEMPORARY MACRO w(a) AS a; CREATE TEMPORARY TYPE m AS ENUM ('a')")
  await client.query("INSERT INTO t VALUES ('3', 'three'); INSERT INTO main.t VALUES ('4', 'four')")
  await client.query('INSERT INTO t VALUES ($1, $2)', ['5', 'five'])
  await client.query('INSERT INTO u VALUES (1); INSERT INTO w VALUES (1); INSERT INTO m VALUES (1)')
  // A schema change that names it could not be replayed, so it is refused.
  assert.is(await codeOf(client.query('DROP TABLE gone')), '0A000')
  // And what is temporary goes by its own name.
  await client.query('DROP SEQUENCE t; DROP INDEX u; DROP MACRO w; DROP TYPE m; DROP SEQUENCE gone; DROP TABLE gone')
  assert.is((await guarded()).length, 5)
  await replays()
  for (const name of ['u', 'w', 'm']) assert.equal(await engine.sql(`SELECT * FROM ${name}`), [['1']])
  assert.is(await codeOf(engine.sql('SELECT * FROM gone')), '42P01')
})

test('what is refused for its description has changed no temporary table either', async () => {
  await client.query('CREATE TEMPORARY TABLE rows (id INTEGER)')
  const add = () => codeOf(client.query({ name: 'add', text: 'INSERT INTO rows (id) VALUES ($1) RETURNING *', values: [1] }))
  assert.is(await add(), undefined)
  await client.query('ALTER TABLE rows ADD COLUMN more INTEGER')
  assert.is(await add(), '0A000')
  assert.equal(await rowsOf(client, 'SELECT count(*) FROM rows'), [['1']])
})

test('CREATE TEMPORARY that a rollback takes back leaves no description behind', async () => {
  const all = () => rowsOf(client, 'SELECT * FROM t WHERE id > $1', ['1'])
  await client.query("BEGIN; CREATE TEMPORARY TABLE t AS SELECT '9' AS id, true AS hidden, 5 AS more")
  assert.equal(await all(), [['9', 't', '5']])
  await client.query('ROLLBACK')
  assert.equal(await all(), [['2', 'two']])
})

test('whoever has temporary tables meets a schema change as others do', async () => {
  await client.query('CREATE TEMPORARY TABLE other (id INTEGER)')
  const changer = await engine.connect()
  await changer.query('BEGIN')
  await changer.query('ALTER TABLE t RENAME TO renamed')
  await client.query('BEGIN')
  const added = codeOf(client.query("INSERT INTO t VALUES ('3', 'three')"))
  await changer.query('COMMIT')
  assert.match((await added) as string, /^(40001|42P01)$/)
  await client.query('ROLLBACK')
  await engine.restart()
  assert.equal(engine.control.hello.recovery.refused, [])
  assert.is((await engine.sql('SELECT * FROM renamed')).length, 2)
})

test('temporary tables that take long to fill leave threads to those who commit', async () => {
  const busy = await TestEngine.start()
  try {
    await busy.sql('CREATE TABLE t (id INTEGER PRIMARY KEY)')
    const clients = await Promise.all(Array.from({ length: 17 }, () => busy.connect()))
    // More than there are threads; none ends before the engine does.
    const filling = clients.map((each) => codeOf(each.query('CREATE TEMP TABLE long AS SELECT sum(range) FROM range(1000000000000)')))
    for (let id = 0; id < 20; id++) await busy.sql(`INSERT INTO t VALUES (${id})`)
    assert.equal(await busy.sql('SELECT count(*) FROM t'), [['20']])
    await busy.kill()
    await Promise.all(filling)
  } finally {
    await busy.kill()
  }
})

test.run()
