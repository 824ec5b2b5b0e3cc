// deadline: 180s
// ALTER TABLE … ADD and DROP CONSTRAINT, which DuckDB lacks: what the rows don't allow is named, everything else of the table stays, and a replay gives the same.

import fs from 'node:fs'
import path from 'node:path'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readTransactions } from '../../agent/journal/transactions.ts'
import { schemaEffect } from '../../agent/schema-change.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { difference, stateOf } from './support/state.ts'
import { assertSurvivesKill } from './support/surviving.ts'

const test = suite('constraints')
let engine: TestEngine
let client: pg.Client
let other: pg.Client

async function connectAll(): Promise<void> {
  ;[client, other] = await Promise.all([engine.connect(), engine.connect()])
}

/** The error of a statement: code, message, hint. */
async function errorOf(text: string): Promise<{ code: string; message: string; hint?: string }> {
  try {
    await client.query(text)
  } catch (error) {
    const { code, message, hint } = error as pg.DatabaseError
    return { code: code ?? '', message, hint }
  }
  throw new Error(`it succeeded: ${text}`)
}

async function killAndCompare(): Promise<void> {
  await assertSurvivesKill(engine, client)
  await connectAll()
}

test.before(async () => {
  engine = await TestEngine.start()
  await connectAll()
  await client.query(`
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE SEQUENCE trade_ids START 10;
    CREATE MACRO soon(a) AS to_days(a) + now(); CREATE MACRO half(a) AS a / 2;
    CREATE TABLE brokers (broker_id INTEGER PRIMARY KEY, code VARCHAR UNIQUE, name VARCHAR COLLATE NOCASE);
    CREATE TABLE trades (
      trade_id BIGINT DEFAULT nextval('trade_ids') PRIMARY KEY, broker_id INTEGER NOT NULL, price DECIMAL(18,8) CHECK (price > 0 AND half(price) < 1e9 AND extract(year FROM DATE '2026-01-01') = 2026),
      m mood DEFAULT 'ok', tags VARCHAR[], s STRUCT(a INTEGER, "b c" VARCHAR), j JSON, note VARCHAR DEFAULT 'it''s, UNIQUE' UNIQUE,
      doubled DECIMAL(18,8) GENERATED ALWAYS AS (price * 2), code VARCHAR, x INTEGER, y INTEGER, UNIQUE (x, y));
    CREATE TABLE fills (fill_id INTEGER PRIMARY KEY, trade_id BIGINT REFERENCES trades (trade_id), t2 BIGINT REFERENCES trades (trade_id));
    CREATE TABLE fees (fee_id INTEGER PRIMARY KEY, fill_id INTEGER REFERENCES fills);
    CREATE INDEX by_broker ON trades (broker_id);
    CREATE UNIQUE INDEX by_expression ON trades (lower(note), (x + 1));
    CREATE INDEX by_trade ON fills (trade_id);
    CREATE VIEW dear AS SELECT trade_id, doubled FROM trades WHERE price > 10;
    COMMENT ON TABLE trades IS 'all of them'; COMMENT ON COLUMN trades.price IS 'in USDT'; COMMENT ON INDEX by_broker IS 'for look-ups';
    INSERT INTO brokers VALUES (1, 'A', 'Anna'), (2, 'B', 'Bert');
    INSERT INTO trades (broker_id, price, note, code, x, tags) SELECT 1 + i % 2, i + 1, 'note ' || i, 'A', i, [i::VARCHAR] FROM range(100) r(i);
    INSERT INTO fills VALUES (1, 10, 11), (2, 12, NULL); INSERT INTO fees VALUES (1, 2)`)
})
test.after(() => engine.kill())

test('a foreign key onto a table with rows is enforced both ways, and all else of the table stays', async () => {
  const before = await stateOf(client)
  const plan = 'SELECT trade_id, note FROM trades WHERE broker_id = 2 ORDER BY trade_id'
  const rows = await rowsOf(client, plan)
  await client.query('ALTER TABLE trades ADD CONSTRAINT fk_broker_id FOREIGN KEY (broker_id) REFERENCES brokers(broker_id)')
  const after = await stateOf(client)
  const withoutKey = (lines: string[] = []) =>
    lines.map((line) => line.replace(', FOREIGN KEY (broker_id) REFERENCES brokers(broker_id)', ''))
  const constraints = after.constraints?.filter((line) => !line.includes('FOREIGN KEY (broker_id)')) ?? []
  assert.is(difference(before, { ...after, tables: withoutKey(after.tables), constraints }), '')
  assert.equal(await rowsOf(client, plan), rows)
  assert.is(await codeOf(client.query('INSERT INTO trades (broker_id, price, note) VALUES (9, 1, NULL)')), '23503')
  assert.is(await codeOf(client.query('DELETE FROM brokers WHERE broker_id = 1')), '23503')
  assert.is(await codeOf(client.query('DELETE FROM trades WHERE trade_id = 10')), '23503')
  assert.is(await codeOf(client.query("INSERT INTO trades (broker_id, price, note, x) VALUES (1, 1, 'NOTE 7', 7)")), '23505')
  await client.query("INSERT INTO trades (broker_id, price, note) VALUES (1, 1, 'next')")
  assert.equal(await rowsOf(client, "SELECT trade_id FROM trades WHERE note = 'next'"), [['112']])
  await killAndCompare()
  assert.equal(await rowsOf(client, plan), rows)
  assert.match((await rowsOf(client, `EXPLAIN ${plan.replace('2', '2::INTEGER')}`)).flat().join('\n'), /trades/)
  assert.is(await codeOf(client.query('DELETE FROM brokers WHERE broker_id = 1')), '23503')
  assert.is(await codeOf(client.query('UPDATE trades SET broker_id = 9 WHERE trade_id = 20')), '23503')
})

test('the journal has the change, and none of the rows again', async () => {
  await client.query('CREATE TABLE wide (id INTEGER PRIMARY KEY, broker INTEGER)')
  await client.query('INSERT INTO wide SELECT i, 1 + i % 2 FROM range(20000) r(i)')
  await client.query('ALTER TABLE wide ADD FOREIGN KEY (broker) REFERENCES brokers')
  const changes = [...([...readTransactions(path.join(engine.data, 'journal'), 1)].at(-1)?.changes ?? [])]
  assert.equal(
    changes.filter(({ kind }) => kind !== 'sequence').map(({ kind }) => kind),
    ['schema'],
  )
  const [change] = changes
  assert.is(change?.kind === 'schema' && change.sql, 'ALTER TABLE wide ADD FOREIGN KEY (broker) REFERENCES brokers')
  assert.equal(change?.kind === 'schema' && schemaEffect(change), { kind: 'other' })
  assert.equal(change?.kind === 'schema' && change.tables, [{ schema: 'main', name: 'wide' }])
})

test('rows without a parent are counted and named, and nothing changes', async () => {
  await client.query('CREATE TABLE orphans (id INTEGER PRIMARY KEY, broker INTEGER)')
  await client.query('INSERT INTO orphans SELECT i, i FROM range(1, 10) r(i); INSERT INTO orphans VALUES (100, NULL)')
  const before = await stateOf(client)
  const error = await errorOf('ALTER TABLE orphans ADD CONSTRAINT fk FOREIGN KEY (broker) REFERENCES brokers (broker_id)')
  assert.is(error.code, '23503')
  assert.is(error.message, '7 rows of orphans have a (broker) that is not in brokers (broker_id): 3, 4, 5, 6, 7, …')
  const found = await rowsOf(client, (error.hint ?? '').replace('find them: ', ''))
  assert.is(found.length, 7)
  assert.is(difference(before, await stateOf(client)), '')
  await client.query('DELETE FROM orphans WHERE broker > 2')
  await client.query('ALTER TABLE orphans ADD CONSTRAINT fk FOREIGN KEY (broker) REFERENCES brokers (broker_id)')
})

test('several columns, in any order, and names that need quotes', async () => {
  await client.query(`
    CREATE SCHEMA "s ö";
    CREATE TABLE "s ö"."P a""x" ("k ey" INTEGER, "select" VARCHAR, PRIMARY KEY ("k ey", "select"));
    CREATE TABLE "s ö"."C, 1" (id INTEGER PRIMARY KEY, "group" VARCHAR DEFAULT 'FOREIGN KEY (', "k ey" INTEGER);
    INSERT INTO "s ö"."P a""x" VALUES (1, 'a'), (2, 'b');
    INSERT INTO "s ö"."C, 1" VALUES (1, 'a', 1), (2, NULL, 7), (3, 'b', 2);
    CREATE INDEX "on" ON "s ö"."C, 1" ("group", ("k ey" * 2));
    ALTER TABLE "s ö"."C, 1" ADD CONSTRAINT "Big Name" FOREIGN KEY ("group", "k ey") REFERENCES "s ö"."P a""x" ("select", "k ey")`)
  assert.is(await codeOf(client.query(`INSERT INTO "s ö"."C, 1" VALUES (4, 'b', 1)`)), '23503')
  await client.query(`INSERT INTO "s ö"."C, 1" VALUES (4, 'a', 1)`)
  assert.is((await errorOf(`ALTER TABLE "s ö"."C, 1" DROP CONSTRAINT "big name x"`)).code, '42704')
  await killAndCompare()
  await client.query(`ALTER TABLE "s ö"."C, 1" ADD UNIQUE (id, "group"); ALTER TABLE "s ö"."C, 1" DROP CONSTRAINT "Big Name"`)
  await client.query(`INSERT INTO "s ö"."C, 1" VALUES (5, 'b', 1)`)
})

test('a table that references itself keeps its chains of rows', async () => {
  await client.query('CREATE TABLE staff (id INTEGER PRIMARY KEY, boss INTEGER, deputy INTEGER)')
  await client.query('INSERT INTO staff SELECT 20 - i, CASE WHEN i > 0 THEN 21 - i END, CASE WHEN i > 5 THEN 20 END FROM range(20) r(i)')
  await client.query('ALTER TABLE staff ADD CONSTRAINT boss FOREIGN KEY (boss) REFERENCES staff (id)')
  await client.query('ALTER TABLE staff ADD FOREIGN KEY (deputy) REFERENCES staff')
  assert.equal(await rowsOf(client, 'SELECT count(*), count(boss), count(deputy) FROM staff'), [['20', '19', '14']])
  assert.is(await codeOf(client.query('INSERT INTO staff VALUES (30, 31, NULL)')), '23503')
  await client.query('BEGIN; INSERT INTO staff VALUES (40, 1, NULL); INSERT INTO staff VALUES (41, 40, NULL), (42, 40, 1); COMMIT')
  await client.query('BEGIN')
  for (const id of [43, 44, 45]) await client.query('INSERT INTO staff VALUES ($1, $2, $3)', [id, id - 1, null])
  await client.query('COMMIT')
  await killAndCompare()
  await client.query('CREATE TABLE ring (id INTEGER PRIMARY KEY, next INTEGER); INSERT INTO ring VALUES (1, 2), (2, 1), (3, NULL)')
  assert.match((await errorOf('ALTER TABLE ring ADD FOREIGN KEY (next) REFERENCES ring')).message, /circle/)
  assert.is(await codeOf(client.query('ALTER TABLE brokers ADD FOREIGN KEY (broker_id) REFERENCES wide (id)')), '0A000')
})

test('UNIQUE, CHECK and PRIMARY KEY name what breaks them', async () => {
  await client.query('CREATE TABLE loose (a INTEGER, b INTEGER, c VARCHAR)')
  await client.query("INSERT INTO loose VALUES (1, 1, 'x'), (1, 2, 'y'), (NULL, 3, 'y'), (NULL, NULL, 'z')")
  await client.query('CREATE INDEX loose_c ON loose (c)')
  assert.match((await errorOf('ALTER TABLE loose ADD UNIQUE (a)')).message, /1 values of \(a\) .*: 1$/)
  assert.is((await errorOf('ALTER TABLE loose ADD UNIQUE (a)')).code, '23505')
  assert.is((await errorOf('ALTER TABLE loose ADD CONSTRAINT positive CHECK (b > 1)')).code, '23514')
  assert.is((await errorOf('ALTER TABLE loose ADD PRIMARY KEY (b)')).code, '23502')
  assert.is((await errorOf('ALTER TABLE loose ADD CHECK (c < now()::VARCHAR)')).code, '0A000')
  await client.query('ALTER TABLE loose ADD CONSTRAINT ab UNIQUE (a, b)')
  await client.query('ALTER TABLE loose ADD CONSTRAINT positive CHECK (b > 0 AND c <> $$it’s, )$$)')
  await client.query('DELETE FROM loose').catch((error: pg.DatabaseError) => assert.is(error.code, '55000'))
  await client.query('CREATE TABLE keyed AS SELECT * FROM loose WHERE b IS NOT NULL')
  await client.query('CREATE INDEX keyed_c ON keyed (c)')
  await client.query('ALTER TABLE keyed ADD CONSTRAINT keyed_key PRIMARY KEY (b)')
  await client.query('UPDATE keyed SET c = b || c WHERE b > 1')
  assert.is(await codeOf(client.query('INSERT INTO loose VALUES (1, 1, NULL)')), '23505')
  assert.is(await codeOf(client.query('INSERT INTO loose VALUES (1, -1, NULL)')), '23514')
  assert.is(await codeOf(client.query('INSERT INTO keyed VALUES (1, 1, NULL)')), '23505')
  assert.equal(await rowsOf(client, "SELECT b FROM keyed WHERE c = '3y'"), [['3']])
  await killAndCompare()
  assert.equal(await rowsOf(client, "SELECT b FROM keyed WHERE c = '3y'"), [['3']])
})

test('DROP CONSTRAINT knows the name that was written, Postgres’ and DuckDB’s', async () => {
  const definition = () => rowsOf(client, "SELECT sql FROM duckdb_tables() WHERE table_name = 'named'")
  await client.query(`
    CREATE TABLE named (id INTEGER PRIMARY KEY, a INTEGER CHECK (a > 0), b INTEGER UNIQUE, broker INTEGER REFERENCES brokers, CHECK (a < 100), CHECK (a < b));
    INSERT INTO named VALUES (1, 2, 3, 1)`)
  await client.query('ALTER TABLE named DROP CONSTRAINT named_broker_fkey')
  await client.query('ALTER TABLE named DROP CONSTRAINT named_a_check1; ALTER TABLE named DROP CONSTRAINT named_b_key')
  await client.query('ALTER TABLE named DROP CONSTRAINT IF EXISTS named_b_key; ALTER TABLE IF EXISTS no_such DROP CONSTRAINT x')
  assert.equal(await definition(), [
    ['CREATE TABLE named(id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, broker INTEGER, CHECK((a > 0)), CHECK((a < b)));'],
  ])
  await client.query('ALTER TABLE named ADD CONSTRAINT "My Check" CHECK (id < 1000)')
  assert.is((await errorOf('ALTER TABLE named ADD CONSTRAINT "my check" CHECK (id < 2000)')).code, '42710')
  assert.match((await errorOf('ALTER TABLE named DROP CONSTRAINT nothing')).hint ?? '', /named has named_pkey, named_a_check, .*My Check/)
  await engine.control.checkpoint()
  await engine.restart()
  await connectAll()
  await client.query('ALTER TABLE named DROP CONSTRAINT "my check"; ALTER TABLE named DROP CONSTRAINT named_pkey')
  assert.equal(await definition(), [
    ['CREATE TABLE named(id INTEGER NOT NULL, a INTEGER, b INTEGER, broker INTEGER, CHECK((a > 0)), CHECK((a < b)));'],
  ])
  assert.is((await errorOf('ALTER TABLE brokers DROP CONSTRAINT brokers_pkey')).code, '2BP01')
  await killAndCompare()
})

test('names that a CREATE TABLE gives are known, follow what is renamed, and go with their table', async () => {
  await client.query(`
    CREATE TABLE made (id INTEGER CONSTRAINT made_id PRIMARY KEY, a INTEGER CONSTRAINT not_null NOT NULL CONSTRAINT a_low CHECK (a < 100) CHECK (a <> 50),
      b INTEGER UNIQUE, c INTEGER DEFAULT 1 CONSTRAINT c_once UNIQUE, broker INTEGER CONSTRAINT "Our Broker" REFERENCES brokers,
      CONSTRAINT ab UNIQUE (a, b), CHECK (b < 9), CONSTRAINT "a, b" CHECK (a < b), CONSTRAINT again FOREIGN KEY (b) REFERENCES brokers);
    INSERT INTO made VALUES (1, 1, 2, 1, 1);
    ALTER TABLE made RENAME COLUMN c TO cc;
    ALTER TABLE made DROP CONSTRAINT again;
    ALTER TABLE made DROP CONSTRAINT "our broker";
    ALTER TABLE made RENAME TO remade;
    ALTER TABLE remade ADD COLUMN d INTEGER DEFAULT 5`)
  await killAndCompare()
  const drop = (name: string) => client.query(`ALTER TABLE remade DROP CONSTRAINT "${name}"`)
  for (const name of ['c_once', 'a, b', 'a_low', 'ab', 'made_id']) await drop(name)
  assert.equal(await rowsOf(client, "SELECT sql FROM duckdb_tables() WHERE table_name = 'remade'"), [
    [
      'CREATE TABLE remade(id INTEGER NOT NULL, a INTEGER NOT NULL, b INTEGER UNIQUE, cc INTEGER DEFAULT(1), broker INTEGER, d INTEGER DEFAULT(5), CHECK((a != 50)), CHECK((b < 9)));',
    ],
  ])
  await client.query('DROP TABLE remade; CREATE TABLE remade (id INTEGER PRIMARY KEY, b INTEGER CHECK (b < 9))')
  assert.is(await codeOf(drop('made_id')), '42704')
})

test('a rolled back change leaves nothing, a committed one stands with what the transaction wrote before', async () => {
  await client.query('CREATE TABLE late (id INTEGER PRIMARY KEY, broker INTEGER); INSERT INTO late VALUES (1, 1), (2, 2), (3, 1)')
  const before = await stateOf(client)
  await client.query('BEGIN; INSERT INTO late VALUES (4, 2); ALTER TABLE late ADD CONSTRAINT fk FOREIGN KEY (broker) REFERENCES brokers')
  assert.is(await codeOf(client.query('INSERT INTO late VALUES (5, 77)')), '23503')
  await client.query('ROLLBACK')
  assert.is(difference(before, await stateOf(client)), '')
  await client.query(`BEGIN; INSERT INTO late VALUES (4, 2); UPDATE late SET broker = 2 WHERE id = 1; DELETE FROM late WHERE id = 3;
    ALTER TABLE late ADD CONSTRAINT fk FOREIGN KEY (broker) REFERENCES brokers; INSERT INTO late VALUES (9, 1); UPDATE late SET broker = 1 WHERE id = 4;
    ALTER TABLE late ADD CONSTRAINT u UNIQUE (id, broker); COMMIT`)
  assert.equal(await rowsOf(client, 'SELECT * FROM late ORDER BY id'), [
    ['1', '2'],
    ['2', '2'],
    ['4', '1'],
    ['9', '1'],
  ])
  await killAndCompare()
})

test('an engine that is killed in the midst of it has the table as it was, or with its constraint', async () => {
  await client.query('CREATE TABLE parts (id INTEGER PRIMARY KEY, broker INTEGER, note VARCHAR); CREATE INDEX parts_note ON parts (note)')
  await client.query("INSERT INTO parts SELECT i, 1 + i % 2, 'note ' || i FROM range(50000) r(i)")
  const random = seededRandom('constraints')
  for (let round = 0; round < 3; round++) {
    const change = codeOf(client.query('ALTER TABLE parts ADD CONSTRAINT parts_broker FOREIGN KEY (broker) REFERENCES brokers'))
    // It is under way when the journal or DuckDB is at work: any moment will do.
    await Promise.race([change, new Promise((resolve) => setTimeout(resolve, random.int(5, 400)))])
    await engine.restart()
    await connectAll()
    assert.equal(engine.control.hello.recovery.refused, [])
    assert.equal(await rowsOf(client, 'SELECT count(*), count(DISTINCT note), sum(id) FROM parts'), [['50000', '50000', '1249975000']])
    assert.equal(await rowsOf(client, "SELECT id FROM parts WHERE note = 'note 777'"), [['777']])
    const there = (
      await rowsOf(client, "SELECT 1 FROM duckdb_constraints() WHERE table_name = 'parts' AND constraint_type = 'FOREIGN KEY'")
    ).length
    assert.is(await codeOf(client.query(`INSERT INTO parts VALUES (${-1 - round}, 99, NULL)`)), there === 1 ? '23503' : undefined)
    await client.query('DELETE FROM parts WHERE id < 0')
    if (there === 1) await client.query('ALTER TABLE parts DROP CONSTRAINT parts_broker')
  }
})

test('it runs alone: writers of other clients are waited for, and a snapshot that is too old is refused', async () => {
  await client.query('CREATE TABLE busy (id INTEGER PRIMARY KEY, broker INTEGER); INSERT INTO busy VALUES (1, 1)')
  await other.query('BEGIN; INSERT INTO busy VALUES (2, 2)')
  const change = client.query('ALTER TABLE busy ADD FOREIGN KEY (broker) REFERENCES brokers')
  await other.query('INSERT INTO busy VALUES (3, 1); COMMIT')
  await change
  assert.equal(await rowsOf(client, 'SELECT count(*) FROM busy'), [['3']])
  // A reader keeps the table that it sees.
  await other.query('BEGIN; SELECT count(*) FROM busy')
  await client.query('ALTER TABLE busy DROP CONSTRAINT busy_broker_fkey; INSERT INTO busy VALUES (4, 77)')
  assert.equal(await rowsOf(other, 'SELECT count(*) FROM busy'), [['3']])
  assert.is(await codeOf(other.query('ALTER TABLE busy ADD UNIQUE (broker, id)')), '40001')
  await other.query('ROLLBACK')
  await killAndCompare()
})

for (const [text, code] of [
  ['ALTER TABLE trades ADD FOREIGN KEY (nothing) REFERENCES brokers', '42703'],
  ['ALTER TABLE trades ADD FOREIGN KEY (broker_id) REFERENCES brokers (name)', '42830'],
  ['ALTER TABLE trades ADD FOREIGN KEY (broker_id) REFERENCES nothing', '42P01'],
  ['ALTER TABLE trades ADD FOREIGN KEY (trade_id) REFERENCES brokers', '42804'],
  ['ALTER TABLE trades ADD FOREIGN KEY (broker_id, x) REFERENCES brokers', '42830'],
  ['ALTER TABLE trades ADD FOREIGN KEY (broker_id) REFERENCES brokers ON DELETE CASCADE', '0A000'],
  ['ALTER TABLE trades ADD FOREIGN KEY (broker_id) REFERENCES brokers NOT VALID', '0A000'],
  ['ALTER TABLE trades ADD FOREIGN KEY (broker_id) REFERENCES daemonguard.watermark', '42501'],
  ['ALTER TABLE trades ADD CONSTRAINT FOREIGN KEY (broker_id) REFERENCES brokers', '42601'],
  ['ALTER TABLE trades ADD PRIMARY KEY (x)', '42P16'],
  ['ALTER TABLE trades ADD UNIQUE (x, y)', '42710'],
  ['ALTER TABLE no_such ADD UNIQUE (x, y)', '42P01'],
  // A row that passes today would not when it is replayed.
  ['CREATE TABLE future (at TIMESTAMP, CHECK (at > now()))', '0A000'],
  ['CREATE TABLE future (at DATE CHECK (at > current_date))', '0A000'],
  ['CREATE TABLE future (at TIMESTAMPTZ CHECK (at < soon(1)))', '0A000'],
] as const) {
  test(`${text}: ${code}`, async () => {
    assert.is((await errorOf(text)).code, code)
  })
}

test('a CHECK that only this search path can read is refused: for all others DuckDB would list no constraint any more', async () => {
  await client.query('CREATE SCHEMA rules; CREATE MACRO rules.positive(v) AS v > 0; SET search_path = rules')
  await client.query('CREATE MACRO main.sound(v) AS positive(v) AND v < 10; CREATE TABLE main.plain (a INTEGER)')
  for (const text of [
    'CREATE TABLE main.ruled (a INTEGER, CHECK (positive(a)))',
    'CREATE TABLE main.ruled (a INTEGER CHECK (a < 10 AND "Positive" (a)))',
    'CREATE TABLE main.ruled (a INTEGER CHECK (main.sound(a)))',
    'ALTER TABLE main.plain ADD CONSTRAINT ruled CHECK (positive(a))',
  ]) {
    const { code, hint } = await errorOf(text)
    assert.equal([code, hint], ['0A000', 'write rules.positive(…)'], text)
  }
  await client.query('CREATE TABLE main.ruled (a INTEGER PRIMARY KEY, CHECK (rules.positive(a)), CHECK (half(a) < 100))')
  await client.query('ALTER TABLE main.plain ADD CONSTRAINT ruled CHECK (rules.positive(a))')
  await client.query('RESET search_path')
  for (const each of [client, other]) await each.query(`INSERT INTO ruled VALUES (${each === client ? 1 : 2})`)
  for (const table of ['ruled', 'plain']) assert.is(await codeOf(other.query(`INSERT INTO ${table} VALUES (-1)`)), '23514')
  await killAndCompare()
  assert.is(await codeOf(client.query('INSERT INTO ruled VALUES (-1)')), '23514')
  // A name in main is found by everybody, unless this path has another one before it.
  await client.query('CREATE MACRO rules.half(a) AS a * 2; SET search_path = rules')
  assert.is((await errorOf('CREATE TABLE main.twice (a INTEGER CHECK (half(a) > 1))')).code, '0A000')
  await client.query('RESET search_path; CREATE TABLE twice (a INTEGER CHECK (half(a) > 1)); DROP TABLE twice')
})

test('the journal alone gives the same database', async () => {
  const live = await stateOf(client)
  const copy = await TestEngine.prepare({ data: path.join(temporaryDirectory('c'), 'data') })
  fs.copyFileSync(path.join(engine.data, 'identity.json'), path.join(copy.data, 'identity.json'))
  fs.cpSync(path.join(engine.data, 'journal'), path.join(copy.data, 'journal'), { recursive: true })
  try {
    await copy.start()
    assert.equal([copy.control.hello.recovery.refused, copy.control.hello.recovery.gaps], [[], []])
    assert.is(difference(live, await stateOf(await copy.connect())), '')
  } finally {
    await copy.kill()
  }
})

test.run()
