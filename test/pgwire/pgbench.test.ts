// deadline: 180s
// needs: pgbench
// pgbench as Debian has it: its initialization, and its built-in scripts by every protocol that it speaks.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { runChild } from '../support/process.ts'

const test = suite('pgbench')
const asText = { getTypeParser: () => String }
let engine: TestEngine

test.before(async () => {
  engine = await TestEngine.start()
})
test.after(() => engine.kill())

async function pgbench(...args: string[]): Promise<string> {
  const run = await runChild('pgbench', ['-h', '127.0.0.1', '-p', String(engine.port), '-U', 'trader', ...args, 'trade_data'])
  assert.is(run.code, 0, run.stderr)
  return run.stdout
}

test('pgbench -i creates, fills, vacuums and indexes its tables, also a second time', async () => {
  await pgbench('-i', '-q')
  await pgbench('-i', '-q', '-I', 'dtgvpf')
  await pgbench('-i', '-q')
  assert.equal(await engine.sql('SELECT count(*), sum(abalance) FROM pgbench_accounts'), [['100000', '0']])
  assert.equal(await engine.sql('SELECT count(*) FROM pgbench_tellers'), [['10']])
  const duplicate = engine.sql('INSERT INTO pgbench_accounts VALUES (1, 1, 0, NULL)')
  assert.is(await codeOf(duplicate), '23505')
})

for (const mode of ['simple', 'extended', 'prepared']) {
  test(`its three scripts run by the ${mode} protocol, with retries where rows conflict`, async () => {
    for (const script of ['tpcb-like', 'simple-update', 'select-only']) {
      const before = Number((await engine.sql('SELECT count(*) FROM pgbench_history'))[0]?.[0])
      const out = await pgbench('-n', '-M', mode, '-b', script, '-c', '4', '-t', '5', '--max-tries=1000')
      assert.match(out, 'number of transactions actually processed: 20/20')
      assert.match(out, 'number of failed transactions: 0')
      const after = Number((await engine.sql('SELECT count(*) FROM pgbench_history'))[0]?.[0])
      assert.is(after - before, script === 'select-only' ? 0 : 20)
    }
  })
}

test('a list of tables is dropped and truncated as one', async () => {
  const client = await engine.connect()
  await client.query(
    'CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE "b,c" (id INTEGER PRIMARY KEY); CREATE TABLE keyless (n INTEGER)',
  )
  await client.query('INSERT INTO a VALUES (1); INSERT INTO "b,c" VALUES (2)')
  const truncated = await client.query('TRUNCATE a, "b,c", keyless')
  assert.is(truncated.command, 'TRUNCATE')
  assert.equal(await rowsOf(client, 'SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM "b,c")'), [['0', '0']])
  assert.is(await codeOf(client.query('DROP TABLE a, missing, "b,c"')), '42P01')
  assert.equal(await rowsOf(client, 'SELECT count(*) FROM a'), [['0']], 'nothing of a list that fails is done')
  await client.query('DROP TABLE IF EXISTS a, missing, "b,c", keyless CASCADE')
  assert.is(await codeOf(client.query('SELECT * FROM "b,c"')), '42P01')
})

test('a parameter that nothing determines is text, or what stands beside it', async () => {
  const client = await engine.connect()
  await client.query('CREATE TABLE numbers (id INTEGER PRIMARY KEY, amount DECIMAL(18,8), day DATE)')
  await client.query("INSERT INTO numbers VALUES (1, 2.5, '2026-03-01')")
  for (const [text, values, expected, oid] of [
    ['SELECT $1 AS x', ['abc'], 'abc', 25],
    ['SELECT id + $1 AS x FROM numbers', ['41'], '42', 23],
    ['SELECT amount * $1 AS x FROM numbers', ['2'], '5.0000000000000000', 1700],
    ['SELECT day - $1 AS x FROM numbers', ['2026-02-01'], '28', 20],
    ['SELECT day + $1 AS x FROM numbers', ['1 day'], '2026-03-02 00:00:00', 1114],
    ['SELECT id AS x FROM numbers WHERE id + $1 > $2', ['2', '2'], '1', 23],
    ['SELECT abs($1) AS x', ['-4.5'], '4.5', 701],
    ['SELECT $1 || $2 AS x', ['a', '5'], 'a5', 25],
  ] as const) {
    const result = await client.query<string[]>({ text, values: [...values], rowMode: 'array', types: asText } as pg.QueryArrayConfig)
    assert.equal([result.rows[0], result.fields[0]?.dataTypeID], [[expected], oid], text)
  }
  await client.query('UPDATE numbers SET id = id + $1, amount = $2', ['1', '3.25'])
  assert.equal(await rowsOf(client, 'SELECT id, amount FROM numbers'), [['2', '3.25000000']])
  assert.is(await codeOf(client.query('SELECT $1 + $2', ['1', '2'])), '42883')
  assert.is(await codeOf(client.query('SELECT id + $1 FROM numbers', ['1.5'])), '22P02', 'DuckDB would round it')
})

test.run()
