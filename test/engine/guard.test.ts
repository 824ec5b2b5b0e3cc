// deadline: 120s
// What SQL clients must not reach: files, extensions, checkpoints, settings, other catalogs, the engine's own schema. By any spelling.

import fs from 'node:fs'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'

const test = suite('guard')
let engine: TestEngine
let client: pg.Client

test.before(async () => {
  engine = await TestEngine.start()
  client = await engine.connect()
  await client.query('CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR); CREATE SEQUENCE s; CREATE SCHEMA other')
})

test.after(async () => {
  await client.end()
  await engine.kill()
})

/** Each is refused with 42501 or 0A000, by the simple and by the extended protocol. */
function refused(name: string, ...attempts: (string | (() => string))[]): void {
  test(name, async () => {
    for (const attempt of attempts) {
      const text = typeof attempt === 'string' ? attempt : attempt()
      for (const query of [text, { text, values: [], queryMode: 'extended' }]) {
        const code = await codeOf(client.query(query as string))
        assert.ok(code === '42501' || code === '0A000', `${JSON.stringify(text)}: ${code}`)
      }
    }
    assert.ok(engine.running)
  })
}

refused(
  'files are out of reach',
  "SELECT * FROM read_text('/etc/hostname')",
  "SELECT * FROM read_csv('/etc/hostname')",
  "SELECT * FROM read_csv_auto('/etc/hostname')",
  "SELECT * FROM glob('/etc/*')",
  "SELECT * FROM sniff_csv('/etc/hostname')",
  "SELECT * FROM '/etc/hostname.csv'",
  'SELECT * FROM "/etc/hostname.csv"',
  "COPY t TO '/tmp/daemonguard-test'",
  "COPY (SELECT 1) TO '/tmp/daemonguard-test'",
  "COPY t FROM '/etc/hostname'",
  "COPY t FROM PROGRAM 'ls'",
  "ATTACH '/tmp/x.duckdb'",
  "ATTACH ':memory:' AS m",
  'DETACH trade_data',
  'INSTALL httpfs',
  'LOAD httpfs',
  "EXPORT DATABASE '/tmp/x'",
  "IMPORT DATABASE '/tmp/x'",
  'COPY FROM DATABASE trade_data TO memory',
  "CREATE SECRET (TYPE s3, KEY_ID 'x')",
  "CREATE MACRO m() AS TABLE SELECT * FROM read_text('/etc/hostname')",
)

// DuckDB lets everybody read the files of an attached database, even without external access; to close one drops the lock on it.
refused(
  'the database file itself is out of reach',
  () => `SELECT size FROM read_blob('${engine.database}')`,
  () => `SELECT size FROM "read_blob"('${engine.database}')`,
  () => `SELECT size FROM READ_BLOB /* */ ('${engine.database}')`,
  () => `SELECT * FROM read_duckdb('${engine.database}', table_name = 't')`,
  () => `SELECT * FROM '${engine.database}'`,
  () => `SELECT * FROM t, '${engine.database}'`,
  () => `FROM x: '${engine.database}'`,
  () => `FROM "x" : "${engine.database}"`,
  () => `SELECT * FROM t, x: '${engine.database}'`,
  () => `SELECT * FROM t JOIN x: '${engine.database}' ON true`,
  () => `SELECT * FROM t WHERE id IN (FROM x: '${engine.database}')`,
  () => `SELECT * FROM t POSITIONAL JOIN '${engine.database}'`,
  () => `FROM ONLY '${engine.database}'`,
  () => `FROM (PIVOT_LONGER '${engine.database}' ON a)`,
  () => `SHOW '${engine.database}'`,
  () => `DESC '${engine.database}'`,
  () => `DELETE FROM t USING '${engine.database}'`,
  () => `DELETE FROM t USING "${engine.database}"`,
  () => `MERGE INTO t USING '${engine.database}' x ON true WHEN MATCHED THEN DELETE`,
  () => `INSERT INTO t FROM x: '${engine.database}'`,
  () => `CREATE VIEW stolen AS FROM x: '${engine.database}'`,
  () => `CREATE MACRO stolen() AS TABLE FROM x: '${engine.database}'`,
  () => `EXPLAIN FROM x: '${engine.database}'`,
  "FROM x: '/proc/self/cwd/trade_data.duckdb'",
  () => `COPY "${engine.database}" TO STDOUT`,
  () => `COPY (FROM x: '${engine.database}') TO STDOUT`,
  'SELECT * FROM duckdb_secrets()',
  "SELECT * FROM which_secret('s3://x', 's3')",
  () => `SELECT * FROM parquet_metadata('${engine.database}')`,
  () => `COPY t TO '${engine.database}.wal'`,
  () => `EXPLAIN ANALYZE SELECT * FROM read_blob('${engine.database}')`,
)

refused(
  'checkpoints and what decides about them are the guard’s',
  'CHECKPOINT',
  'CHECKPOINT trade_data',
  'FORCE CHECKPOINT',
  "SELECT * FROM checkpoint('trade_data')",
  "FROM force_checkpoint('trade_data')",
  'SELECT * FROM "checkpoint"(\'trade_data\')',
  "SELECT * FROM CHECKPOINT\n--\n('trade_data')",
  "SELECT * FROM system.main.checkpoint('trade_data')",
  "CALL checkpoint('trade_data')",
  'EXPLAIN ANALYZE CHECKPOINT',
  'EXPLAIN ANALYZE FORCE CHECKPOINT',
  "EXPLAIN ANALYZE CALL checkpoint('trade_data')",
  'EXPLAIN (ANALYZE) CHECKPOINT',
  'PRAGMA enable_checkpoint_on_shutdown',
  'PRAGMA force_checkpoint',
  'EXPLAIN PRAGMA enable_checkpoint_on_shutdown',
  'EXPLAIN SET threads = 1',
  "CREATE VIEW cp AS SELECT * FROM checkpoint('trade_data')",
  "CREATE MACRO cp() AS TABLE SELECT * FROM checkpoint('trade_data')",
  "SELECT * FROM json_execute_serialized_sql('{}')",
  "SELECT * FROM query('SELECT 1')",
  "SELECT * FROM query_table('t')",
  'SELECT * FROM enable_logging()',
  'SELECT * FROM enable_peg_parser()',
  'SELECT sleep_ms(1)',
  'SELECT (1).sleep_ms()',
  'SELECT list_transform([1], lambda x: sleep_ms(x))',
  'SELECT sleep_ms/* */(1)',
  'CREATE MACRO hidden(x) AS x.sleep_ms()',
  'FROM main."query"(\'SELECT 1\')',
  "FROM pg_catalog.checkpoint('trade_data')",
  "SELECT * FROM range(1) JOIN LATERAL checkpoint('trade_data') ON true",
)

refused(
  'settings that matter to the guard cannot be set',
  'SET threads = 1',
  "SET memory_limit = '1GB'",
  "SET GLOBAL memory_limit = '1GB'",
  "SET SESSION checkpoint_threshold = '1MB'",
  "SET wal_autocheckpoint_entries TO '1'",
  'SET wal_autocheckpoint_entries = 1',
  'SET enable_external_access = true',
  "SET temp_directory = '/tmp'",
  'SET "temp_directory" = \'/tmp\'',
  'SET immediate_transaction_mode = true',
  'SET lock_configuration = true',
  'SET VARIABLE x = 1',
  'RESET memory_limit',
  'RESET checkpoint_threshold',
  'PRAGMA threads = 1',
  "PRAGMA memory_limit = '1GB'",
  'PRAGMA database_list',
  'PREPARE p AS SELECT 1',
  'SET SESSION "THREADS" TO 1',
)

refused(
  'the engine’s own schema is out of reach',
  'SELECT * FROM daemonguard.watermark',
  'SELECT * FROM DaemonGuard.watermark',
  'SELECT * FROM "daemonguard".watermark',
  'SELECT * FROM "DAEMONGUARD"."watermark"',
  'SELECT * FROM trade_data.daemonguard.watermark',
  'FROM daemonguard.probe',
  'TABLE daemonguard.probe',
  'DELETE FROM daemonguard.watermark',
  'INSERT INTO daemonguard.probe VALUES (now())',
  'UPDATE daemonguard.watermark SET seq = 0',
  'DROP TABLE daemonguard.watermark',
  'DROP SCHEMA daemonguard CASCADE',
  'ALTER TABLE daemonguard.watermark ADD COLUMN x INTEGER',
  'CREATE TABLE daemonguard.mine (a INTEGER)',
  'CREATE VIEW w AS SELECT * FROM daemonguard.watermark',
  'CREATE INDEX i ON daemonguard.watermark (seq)',
  'DESCRIBE daemonguard.watermark',
  'SET search_path = daemonguard',
  "SET search_path = 'daemonguard'",
  "SET search_path = 'main, DaemonGuard'",
  "SET search_path = 'trade_data.daemonguard'",
  'SET search_path = \'"daemonguard"\'',
  'SET search_path TO "DAEMONGUARD", main',
  "SET schema = 'daemonguard'",
  'USE daemonguard',
  'USE trade_data.daemonguard',
  'COPY daemonguard.probe FROM STDIN',
  'TRUNCATE daemonguard.watermark',
  'TRUNCATE t, daemonguard.watermark',
  'DROP TABLE t, daemonguard.watermark',
  'SHOW TABLES FROM daemonguard',
  'COPY (SELECT * FROM daemonguard.watermark) TO STDOUT',
  "SELECT * FROM pragma_table_info('daemonguard.watermark')",
  'SELECT * FROM pragma_table_info(\'trade_data."DaemonGuard".watermark\')',
  "SELECT * FROM pragma_storage_info('daemonguard.watermark')",
  "SELECT * FROM pragma_show('daemonguard.watermark')",
)

// Characters and forms that DuckDB reads in its own way: a tokenizer that reads them otherwise would not see the name.
refused(
  'a name cannot hide behind spaces, comments, strings and numbers',
  'SELECT * FROM\u00a0daemonguard.watermark',
  'SELECT * FROM\u200bdaemonguard.watermark',
  'SELECT * FROM\u2060daemonguard.watermark',
  'SELECT * FROM\u3000daemonguard.watermark',
  'SELECT * FROM\ufeffdaemonguard.watermark',
  'SELECT * -- x\rFROM daemonguard.watermark',
  'SELECT * /* a /* b */ */ FROM daemonguard.watermark',
  'SELECT 1 /* /*/ */ */ FROM daemonguard.watermark',
  "SELECT E'\\' ' FROM daemonguard.watermark --'",
  "SELECT E'a''\\'' FROM daemonguard.watermark --'",
  "SELECT e'\\\\' FROM daemonguard.watermark --'",
  "SELECT '\\' FROM daemonguard.watermark --'",
  "SELECT N'\\' FROM daemonguard.watermark --'",
  "SELECT x'\\' FROM daemonguard.watermark --'",
  'SELECT $a$ $$ $a$ FROM daemonguard.watermark --$$',
  `SELECT $${'a'.repeat(200)}$ ' $${'a'.repeat(200)}$ FROM daemonguard.watermark --'`,
  "SELECT $é$ ' $é$ FROM daemonguard.watermark --'",
  'SELECT a$$ FROM (SELECT 1) x(a$$), daemonguard.watermark --$$',
  'SELECT 1_000 FROM daemonguard.watermark',
  "SELECT 0x1e'\\' FROM daemonguard.watermark --'",
  'SELECT """" FROM (SELECT 1) y(""""), daemonguard.watermark',
)

refused(
  'other catalogs cannot be written to',
  'CREATE TABLE memory.main.x (a INTEGER)',
  'CREATE TABLE memory.x (a INTEGER)',
  'CREATE TABLE MEMORY.main.x AS SELECT 1',
  'CREATE TABLE "Memory"."main".x (a INTEGER)',
  'CREATE SCHEMA memory.x',
  'CREATE TABLE temp.x (a INTEGER)',
  'CREATE SEQUENCE memory.main.sq',
  "CREATE TYPE memory.main.ty AS ENUM ('a')",
  'CREATE VIEW system.main.v AS SELECT 1',
  'CREATE MACRO memory.main.mac() AS 1',
  'USE memory',
  'USE "Memory"',
  'USE system',
  'USE temp',
  "SET search_path = 'memory'",
  "SET search_path = 'MEMORY.main'",
  "SET search_path = 'Temp'",
  'CREATE UNLOGGED TABLE x (a INTEGER)',
  'CREATE DATABASE x',
  'DROP VIEW memory.postgres.pg_class',
  'CREATE OR REPLACE VIEW memory.postgres.pg_class AS SELECT 1',
  'CREATE OR REPLACE MACRO memory.postgres.quote_ident(a) AS 1',
  'DROP SCHEMA memory.postgres CASCADE',
  "SET search_path = 'memory.postgres'",
)

refused(
  'a write cannot pass for a query',
  "WITH values AS (SELECT 1) INSERT INTO t SELECT 1, 'x' UNION ALL FROM daemonguard.watermark",
  'EXPLAIN ANALYZE DELETE FROM t',
  "EXPLAIN ANALYZE INSERT INTO t VALUES (1, 'x')",
  'EXPLAIN (ANALYZE, FORMAT json) DELETE FROM t',
  'EXPLAIN ANALYZE MERGE INTO t USING (SELECT 1 AS id) n ON t.id = n.id WHEN MATCHED THEN DELETE',
  'EXPLAIN ANALYZE CREATE TABLE x (a INTEGER)',
  "CREATE VIEW draws AS SELECT nextval('s') AS n",
  'CREATE VIEW draws AS SELECT "NEXTVAL"(\'s\') AS n',
  "CREATE MACRO draw() AS nextval('s')",
  "CREATE TABLE draws (a INTEGER, b BIGINT AS (nextval('s')))",
  "SELECT setval('s', 1)",
)

test('statements whose names are keywords are still what they are', async () => {
  await client.query("WITH values AS (SELECT 7 AS id) INSERT INTO t SELECT id, 'seven' FROM values")
  await client.query('WITH "select" AS (SELECT 8 AS id) INSERT INTO t SELECT id, \'eight\' FROM "select"')
  await client.query(
    'WITH RECURSIVE update (id) AS (SELECT 7 UNION ALL SELECT 8) DELETE FROM t WHERE id IN (SELECT id FROM update WHERE id = 8)',
  )
  assert.equal(await rowsOf(client, 'SELECT * FROM t'), [['7', 'seven']])
  await engine.restart()
  client = await engine.connect()
  assert.equal(await rowsOf(client, 'SELECT * FROM t'), [['7', 'seven']])
  assert.equal(engine.control.hello.recovery.refused, [])
})

test('one statement at a time where only one is expected', async () => {
  assert.equal(await codeOf(client.query({ text: 'SELECT 1; SELECT 2', values: [], queryMode: 'extended' } as pg.QueryConfig)), '42601')
  assert.equal(await codeOf(client.query('SELECT (1; DELETE FROM t')), '42601')
  assert.equal(await codeOf(client.query('SELECT 1); DELETE FROM t; SELECT (2')), '42601')
  assert.equal(await rowsOf(client, 'SELECT count(*) FROM t'), [['1']])
})

test('what is harmless works', async () => {
  for (const text of [
    'SELECT count(*) FROM information_schema.tables',
    'SELECT * FROM duckdb_settings()',
    'SET search_path = other, main',
    "SET search_path = 'other,main'",
    'SET search_path TO DEFAULT',
    'USE other',
    'USE trade_data',
    'USE trade_data.main',
    "SET TimeZone = 'Europe/Berlin'",
    'RESET TimeZone',
    'RESET ALL',
    'EXPLAIN SELECT 1',
    'EXPLAIN ANALYZE SELECT count(*) FROM t',
    'EXPLAIN DELETE FROM t',
    'SHOW TABLES',
    'DESCRIBE t',
    'SUMMARIZE t',
    'FROM t',
    'SELECT "daemonguard-ish" FROM (SELECT 1) x("daemonguard-ish")',
    "SELECT 'daemonguard'",
    "SELECT {'path': 'a/b', k: 'c/d'}, MAP {'x': 'e/f'}, ['a/b', 'c'][1:1], 'a/b'::VARCHAR",
    'SELECT pg_sleep(0)',
    "SELECT 1, 'a/b', 'x.csv' WHERE 'a/b' IS DISTINCT FROM 'c/d' AND 'x' IN ('y', 'a/b')",
    "SELECT trim(BOTH ' ' FROM 'a/b') FROM t GROUP BY v, 'a/b' ORDER BY 1",
    "INSERT INTO t VALUES (100, 'a/b'), (101, 'c.json') ON CONFLICT (id) DO UPDATE SET v = 'a/b'",
    "UPDATE t SET v = 'a/b' WHERE v IS DISTINCT FROM 'x/y'",
    "COMMENT ON COLUMN main.t.v IS 'a/b'",
    'CREATE LOCAL TEMPORARY TABLE tmp (a INTEGER)',
    'DROP TABLE tmp',
  ]) {
    assert.equal(await codeOf(client.query(text)), undefined, text)
  }
  const names = fs.readdirSync(engine.data).filter((name) => name.includes('.wal'))
  assert.equal(names, [])
})

test.run()
