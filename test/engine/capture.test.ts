// deadline: 180s
// What the rules demand of capture and replay, demand by demand: orders of events in which a plainer journal, or a plainer replay, gives another
// database. After each, the journal replayed onto the file as it was before gives what is live.

import fs from 'node:fs'
import path from 'node:path'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { TransactionEncoder } from '../../agent/journal/record.ts'
import { repairJournal } from '../../agent/journal/repair.ts'
import type { Change } from '../../agent/journal/types.ts'
import { JournalWriter } from '../../agent/journal/writer.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { rebuiltState } from './support/rebuilding.ts'
import { difference, stateOf } from './support/state.ts'

const test = suite('capture')
const base = path.join(temporaryDirectory('capture'), 'base.duckdb')
let engine: TestEngine
let one: pg.Client
let two: pg.Client

test.before(async () => {
  engine = await TestEngine.start()
})
test.after(() => engine.kill())

test.before.each(async () => {
  ;[one, two] = await Promise.all([engine.connect(), engine.connect()])
  await one.query('DROP SCHEMA IF EXISTS s CASCADE; DROP TABLE IF EXISTS child; DROP TABLE IF EXISTS parent')
  await one.query(`
    CREATE SCHEMA s;
    CREATE TABLE s.t (id INTEGER PRIMARY KEY, x INTEGER UNIQUE, v VARCHAR);
    CREATE TABLE parent (id INTEGER PRIMARY KEY, v INTEGER, w INTEGER);
    CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id));
    INSERT INTO s.t SELECT i, i, 'row ' || i FROM range(1, 6) r(i);
    INSERT INTO parent SELECT i, i, i FROM range(1, 6) r(i);
    INSERT INTO child VALUES (1, 1), (2, 2)`)
  await engine.control.checkpoint()
  fs.copyFileSync(engine.database, base)
})
test.after.each(async () => {
  await Promise.all([one.end(), two.end()])
})

async function assertReplayed(): Promise<void> {
  assert.is(difference(await stateOf(one), await rebuiltState(engine.data, base, { macros: true })), '')
}

test('unique values that swap and keys that shift, in one statement', async () => {
  await one.query('UPDATE s.t SET x = CASE x WHEN 1 THEN 2 ELSE 1 END WHERE x IN (1, 2)')
  await one.query('UPDATE s.t SET x = x + 1')
  await one.query('UPDATE s.t SET id = id + 1')
  assert.equal(await rowsOf(one, 'SELECT id, x FROM s.t ORDER BY id LIMIT 2'), [
    ['2', '3'],
    ['3', '2'],
  ])
  await assertReplayed()
})

test('an update of a referenced parent touches the columns that it changed, and no more', async () => {
  await one.query('CREATE INDEX parent_w ON parent (w)')
  await one.query('UPDATE parent SET v = v + 10')
  const upsert =
    'INSERT INTO parent VALUES (1, 100, 100), (9, 9, 9), (2, 2, 2) ON CONFLICT (id) DO UPDATE SET v = excluded.v WHERE parent.id <> 2'
  assert.is((await one.query(upsert)).rowCount, 2)
  assert.is(
    (await one.query({ text: 'INSERT INTO parent VALUES ($1, 0, 0) ON CONFLICT DO UPDATE SET v = $2', values: [2, 200] })).rowCount,
    1,
  )
  assert.equal(await rowsOf(one, 'SELECT * FROM parent WHERE id IN (1, 2, 9) ORDER BY id'), [
    ['1', '100', '1'],
    ['2', '200', '2'],
    ['9', '9', '9'],
  ])
  await assertReplayed()
})

test('transactions whose order matters are replayed one by one', async () => {
  await one.query('DELETE FROM child WHERE id = 1')
  await one.query('DELETE FROM parent WHERE id = 1')
  await one.query('INSERT INTO parent VALUES (1, 7, 7)')
  await one.query('INSERT INTO child VALUES (1, 1)')
  // A unique value that one row gives up and another takes, by updates and inserts in turn.
  await one.query('UPDATE s.t SET x = 50 WHERE id = 1')
  await one.query("INSERT INTO s.t VALUES (6, 1, 'six')")
  await one.query("INSERT INTO s.t VALUES (7, 70, 'seven')")
  await one.query('UPDATE s.t SET x = 71 WHERE id = 7')
  await one.query("INSERT INTO s.t VALUES (8, 70, 'eight')")
  await assertReplayed()
})

for (const [way, insert] of [
  ['SQL', (client: pg.Client) => client.query('INSERT INTO child VALUES (10, 3)')],
  ['the write buffer', (client: pg.Client) => client.query('INSERT INTO child VALUES ($1, $2)', [10, 3])],
] as const) {
  test(`a parent is deleted, and its child inserted by ${way}: whoever comes later gets 40001`, async () => {
    await one.query('BEGIN')
    await one.query('DELETE FROM parent WHERE id = 3')
    assert.is(await codeOf(insert(two)), '40001')
    await one.query('ROLLBACK')
    // The other way about: the child is there before the parent's deleter looks again.
    await one.query('BEGIN')
    await one.query('SELECT * FROM parent')
    await insert(two)
    assert.is(await codeOf(one.query('DELETE FROM parent WHERE id = 3')), '40001')
    await one.query('ROLLBACK')
    // And a child whose parent has been deleted since its transaction began.
    await one.query('BEGIN')
    await one.query('SELECT * FROM parent')
    await two.query('DELETE FROM parent WHERE id = 4')
    assert.is(await codeOf(one.query('INSERT INTO child VALUES (11, 4)')), '40001')
    await one.query('ROLLBACK')
    assert.equal(await rowsOf(one, 'SELECT * FROM child WHERE parent NOT IN (SELECT id FROM parent)'), [])
    await assertReplayed()
  })
}

for (const [what, mine, theirs] of [
  ['updates of different columns', "UPDATE s.t SET v = 'mine' WHERE id = 1", 'UPDATE s.t SET x = 100 WHERE id = 1'],
  ['an update and a delete', "UPDATE s.t SET v = 'mine' WHERE id = 1", 'DELETE FROM s.t WHERE id = 1'],
] as const) {
  for (const [order, steps] of [
    ['while it is open', [mine, theirs]],
    ['before it writes', [theirs, mine]],
  ] as const) {
    test(`${what} of one row: the transaction that commits later gets 40001 (the other commits ${order})`, async () => {
      await one.query('BEGIN')
      await one.query('SELECT * FROM s.t')
      const codes: (string | undefined)[] = []
      for (const text of steps) {
        const client = text === mine ? one : two
        codes.push(await codeOf(client.query(text)))
      }
      const committed = await codeOf(one.query('COMMIT'))
      assert.is(codes[steps.indexOf(theirs)], undefined)
      assert.is(codes[steps.indexOf(mine)] ?? committed, '40001')
      await one.query('ROLLBACK')
      assert.equal(await rowsOf(one, "SELECT * FROM s.t WHERE v = 'mine'"), [])
      await assertReplayed()
    })
  }
}

test('a rename waits for an update that is open: its rows go into the right table', async () => {
  await one.query('BEGIN')
  await one.query("UPDATE s.t SET v = 'changed' WHERE id = 1")
  const rename = two.query('ALTER TABLE s.t RENAME TO was_t; CREATE TABLE s.t (id INTEGER PRIMARY KEY, x INTEGER, v VARCHAR)')
  let renamed = false
  const noted = rename.then(() => {
    renamed = true
  })
  for (const end = performance.now() + 1_000; performance.now() < end && !renamed; ) await engine.control.status()
  assert.is(renamed, false)
  await one.query("UPDATE s.t SET v = 'changed' WHERE id = 2")
  await one.query('COMMIT')
  await noted
  assert.equal(await rowsOf(one, "SELECT id FROM s.was_t WHERE v = 'changed' ORDER BY id"), [['1'], ['2']])
  assert.equal(await rowsOf(one, 'SELECT count(*) FROM s.t'), [['0']])
  await assertReplayed()
})

test('a transaction that began before a schema change does not write by the old one', async () => {
  await one.query('BEGIN')
  await one.query('SELECT * FROM s.t')
  await two.query('ALTER TABLE s.t RENAME COLUMN v TO w')
  assert.is(await codeOf(one.query("INSERT INTO s.t VALUES (20, 20, 'x')")), '40001')
  await one.query('ROLLBACK')
  await assertReplayed()
})

test('a schema change means what its session’s search_path and TimeZone make of it', async () => {
  await one.query("SET search_path = s; SET TimeZone = 'Asia/Tokyo'")
  await one.query("CREATE TABLE unqualified (id INTEGER PRIMARY KEY, moment TIMESTAMPTZ DEFAULT '2026-11-25 00:30:00')")
  await one.query("INSERT INTO unqualified VALUES (1, '2026-11-24 23:00:00Z')")
  await one.query('ALTER TABLE unqualified ALTER COLUMN moment DROP DEFAULT')
  await one.query('ALTER TABLE unqualified ALTER COLUMN moment TYPE TIMESTAMP')
  assert.equal(await rowsOf(one, 'SELECT * FROM s.unqualified'), [['1', '2026-11-25 08:00:00']])
  await assertReplayed()
})

test('CREATE TABLE AS keeps the rows that it gave', async () => {
  await one.query('CREATE TABLE s.made AS SELECT *, random() AS r, now() AS at, uuid() AS u FROM s.t')
  await one.query('CREATE OR REPLACE TABLE s.made AS SELECT id, random() AS r FROM s.made')
  await assertReplayed()
})

test('CREATE TABLE AS with names for its columns keeps these, also when it replaces a table that it reads', async () => {
  await one.query('CREATE TABLE s.named (a, "as", "it""s") AS SELECT id, v, random() FROM s.t')
  await one.query('CREATE OR REPLACE TABLE s.named ("From", check_, c) AS SELECT a + 1, "as" || random(), 3 FROM s.named')
  await one.query('CREATE OR REPLACE TABLE s.named (x, y) AS WITH n AS (FROM s.named) SELECT "From", random(), c FROM n')
  await one.query('CREATE TABLE IF NOT EXISTS s.named (other, names) AS SELECT 1, 2')
  await one.query('CREATE TABLE s.empty (k, w) AS (SELECT id, now() FROM s.t) WITH NO DATA; INSERT INTO s.empty VALUES (7, now())')
  assert.equal(
    await rowsOf(one, "SELECT column_name FROM information_schema.columns WHERE table_name = 'named' ORDER BY ordinal_position"),
    [['x'], ['y'], ['c']],
  )
  assert.is((await rowsOf(one, 'SELECT x, y, c FROM s.named')).length, (await rowsOf(one, 'SELECT id FROM s.t')).length)
  await assertReplayed()
})

test('a default that is not the same each time is journaled as what it gave; without a key it is refused', async () => {
  await one.query('ALTER TABLE s.t ADD COLUMN r DOUBLE DEFAULT random()')
  await one.query("CREATE SEQUENCE s.q START 5; ALTER TABLE s.t ADD COLUMN n BIGINT DEFAULT nextval('s.q')")
  await one.query('ALTER TABLE s.t ALTER COLUMN v SET DATA TYPE DOUBLE USING random()')
  await one.query('CREATE TABLE s.keyless (a INTEGER); INSERT INTO s.keyless VALUES (1), (2)')
  assert.is(await codeOf(one.query('ALTER TABLE s.keyless ADD COLUMN r DOUBLE DEFAULT random()')), '55000')
  await one.query('ALTER TABLE s.keyless ADD COLUMN c INTEGER DEFAULT 7')
  await assertReplayed()
})

for (const [what, change] of [
  ['an update', "UPDATE s.t SET v = 'x'"],
  ['a delete', 'DELETE FROM s.t WHERE id < 3'],
  ['a column with a volatile default', 'ALTER TABLE s.t ADD COLUMN r DOUBLE DEFAULT random()'],
] as const) {
  test(`${what}, and then another column in one transaction: refused as a whole, and nobody else is the worse for it`, async () => {
    assert.is(await codeOf(one.query(`BEGIN; ${change}; ALTER TABLE s.t ADD COLUMN later INTEGER; COMMIT`)), '0A000')
    await one.query('ROLLBACK')
    for (let id = 1; id <= 5; id++) assert.equal(await rowsOf(two, `SELECT * FROM s.t WHERE id = ${id}`), [[`${id}`, `${id}`, `row ${id}`]])
    for (let x = 1; x <= 5; x++) assert.is(await codeOf(two.query(`INSERT INTO s.t VALUES (${x + 10}, ${x}, 'twice')`)), '23505')
    await two.query("INSERT INTO s.t VALUES (101, 101, 'x'); UPDATE s.t SET x = x + 1; DELETE FROM s.t WHERE id = 1")
    await assertReplayed()
  })
}

test('sequences hand out after a replay what they would have handed out: SELECT nextval, rollbacks, steps down', async () => {
  await one.query('CREATE SEQUENCE s.up START 10; CREATE SEQUENCE s.down INCREMENT -3 START 100 MAXVALUE 100 MINVALUE -1000')
  await one.query("SELECT nextval('s.up'), nextval('s.down') FROM range(5)")
  await one.query("BEGIN; SELECT nextval('s.up') FROM range(7); INSERT INTO s.t VALUES (nextval('s.down'), 0, 'gone'); ROLLBACK")
  assert.is(await codeOf(one.query("INSERT INTO s.t VALUES (nextval('s.up')::INTEGER * 0 + 1, 0, 'twice')")), '23505')
  await assertReplayed()
})

test('a sequence that cycles is where it was, however often it has begun anew', async () => {
  const sequences = [
    'INCREMENT 3 MINVALUE -5 MAXVALUE 5 START 0',
    'INCREMENT -2 MINVALUE -5 MAXVALUE 5 START 1',
    'MINVALUE 1 MAXVALUE 3 START 3',
    'INCREMENT -4 MINVALUE -5 MAXVALUE 6 START 2',
  ]
  const draw = (name: string, count: number) => one.query(`SELECT nextval('s.${name}') FROM range(${count})`)
  for (const [i, options] of sequences.entries()) {
    // At once, so that the first pass and the later ones, on other values, are replayed as one.
    for (let count = 1; count <= 9; count++) {
      await one.query(`CREATE SEQUENCE s.c${i}_${count} ${options} CYCLE`)
      await draw(`c${i}_${count}`, count)
    }
    await one.query(`CREATE SEQUENCE s.c${i} ${options} CYCLE`)
    for (const count of [1, 2, 5, 6, 7, 11, 12, 23]) await draw(`c${i}`, count)
    await assertReplayed()
  }
})

test('names that mean something to JavaScript are names; the one that cannot be carried is refused', async () => {
  await one.query(
    'CREATE TABLE s."__proto__" (id INTEGER PRIMARY KEY, "__proto__" INTEGER, "constructor" STRUCT("constructor" INTEGER, "0" INTEGER))',
  )
  await one.query(`INSERT INTO s."__proto__" VALUES (1, 2, {'constructor': 3, '0': 4})`)
  await one.query('UPDATE s."__proto__" SET "__proto__" = 5')
  await one.query('CREATE TABLE s.held (id INTEGER PRIMARY KEY, v STRUCT("__proto__" INTEGER))')
  assert.is(await codeOf(one.query("INSERT INTO s.held VALUES (1, {'__proto__': 5})")), '0A000')
  await assertReplayed()
})

test('what DuckDB spills lies under the data directory', async () => {
  const [row] = await rowsOf(one, "SELECT current_setting('temp_directory')")
  assert.is(path.dirname(row?.[0] ?? ''), engine.data)
})

test('a transaction that DuckDB refuses to replay is named by its seq, at every start; all others are there', async () => {
  const other = await TestEngine.start()
  try {
    await other.sql('CREATE TABLE t (id INTEGER PRIMARY KEY)', 'INSERT INTO t VALUES (1)')
    await other.kill()
    const table = {
      schema: 'main',
      name: 't',
      columns: [{ name: 'id', type: { kind: 'INTEGER' }, sqlType: 'INTEGER', nullable: false }],
      primaryKey: [0],
    } as const
    const rows = (id: number) => ({ count: 1, columns: [[id]] })
    await appendToJournal(other, [
      { kind: 'delete', table, rows: rows(77) },
      { kind: 'insert', table, rows: rows(2) },
      { kind: 'insert', table, rows: rows(1) },
      { kind: 'insert', table, rows: rows(3) },
    ])
    for (let start = 0; start < 2; start++) {
      await other.start()
      const { refused, gaps } = other.control.hello.recovery
      assert.equal(
        refused.map(({ seq }) => seq),
        [3, 5],
      )
      assert.equal(gaps, [])
      assert.equal(await other.sql('SELECT id FROM t ORDER BY id'), [['1'], ['2'], ['3']])
      await other.kill()
    }
  } finally {
    await other.kill()
  }
})

/** Each change as a transaction of its own, behind what a stopped engine has written. */
async function appendToJournal({ data }: TestEngine, changes: readonly Change[]): Promise<void> {
  const directory = path.join(data, 'journal')
  const { databaseId } = JSON.parse(fs.readFileSync(path.join(data, 'identity.json'), 'utf8')) as { databaseId: string }
  const { lastSeq, epoch } = repairJournal(directory, databaseId, path.join(data, 'quarantine'))
  const writer = new JournalWriter({
    directory,
    databaseId,
    epoch,
    nextSeq: lastSeq + 1,
    onFailure: (error) => {
      throw error
    },
  })
  for (const change of changes) {
    const encoder = new TransactionEncoder()
    encoder.add(change)
    const encoded = encoder.finish()
    writer.reserve([encoded])
    writer.append(encoded, Date.now())
  }
  await writer.durable(lastSeq + changes.length)
  await writer.close()
}

test.run()
