// deadline: 120s
// needs: psql
// COPY in both directions with real clients: what goes out as text, csv or binary comes back the same; also through psql's \copy.

import fs from 'node:fs'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import type pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { runChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('COPY out')
let engine: TestEngine
let client: pg.Client

const columns =
  'id BIGINT PRIMARY KEY, b BOOLEAN, s SMALLINT, t TINYINT, u UINTEGER, h HUGEINT, f FLOAT, d DOUBLE, n DECIMAL(18,8), v VARCHAR, x BLOB, i UUID, day DATE, at TIME, ts TIMESTAMP, tz TIMESTAMPTZ, span INTERVAL, bits BIT, j JSON'

test.before(async () => {
  engine = await TestEngine.start()
  client = await engine.connect()
  await client.query(
    `CREATE TABLE source (${columns.replace('at TIME,', '"at" TIME,')}); CREATE TABLE target (${columns.replace('at TIME,', '"at" TIME,')})`,
  )
  await client.query(
    `INSERT INTO source VALUES
      (1, true, -3, 7, 4000000000, -170141183460469231731687303715884105727, 1.5, 'nan', -12345.678, 'a,"b"\\c', '\\x00\\xFF'::BLOB, '00112233-4455-6677-8899-aabbccddeeff', '2026-03-01', '12:34:56.789', '1969-12-31 23:59:59.5', '2026-03-01 12:00:00+00', INTERVAL '1 month -2 days 3 hours', '10110', '{"a":[1]}'),
      (2, false, 1, 0, 0, 0, 0, 0, 0, '', ''::BLOB, NULL, 'infinity', NULL, NULL, NULL, NULL, NULL, NULL),
      (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, E'line\\nbreak\\ttab\\rreturn 🦆 \\\\N', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
      (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '\\.', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`,
  )
})
test.after(() => engine.kill())

async function out(sql: string): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of client.query(copyTo(sql))) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

async function back(sql: string, data: Buffer): Promise<void> {
  await pipeline([data], client.query(copyFrom(sql)))
}

for (const options of [
  '',
  '(FORMAT csv, HEADER)',
  "(FORMAT csv, DELIMITER ';', NULL 'nil', QUOTE '''')",
  "(DELIMITER '|', NULL 'nil')",
  '(FORMAT binary)',
]) {
  test(`what goes out ${options === '' ? 'as text' : options} comes back the same`, async () => {
    const data = await out(`COPY source TO STDOUT ${options}`)
    await client.query('TRUNCATE target')
    // In pieces that end anywhere.
    await pipeline(
      Array.from({ length: Math.ceil(data.length / 7) }, (_, i) => data.subarray(i * 7, i * 7 + 7)),
      client.query(copyFrom(`COPY target FROM STDIN ${options}`)),
    )
    assert.equal(await rowsOf(client, 'SELECT * FROM target ORDER BY id'), await rowsOf(client, 'SELECT * FROM source ORDER BY id'))
  })
}

test('a column list, a query, and the older spelling', async () => {
  assert.is((await out('COPY source (id, b) TO STDOUT')).toString(), '1\tt\n2\tf\n3\t\\N\n4\t\\N\n')
  assert.is(
    (await out('COPY (SELECT id AS "a,b", v FROM source WHERE id <= 2 ORDER BY id) TO STDOUT CSV HEADER')).toString(),
    '"a,b",v\n1,"a,""b""\\c"\n2,""\n',
  )
  assert.is(
    (await out('COPY (SELECT 1::SMALLINT) TO STDOUT (FORMAT binary)')).toString('hex'),
    `${Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1').toString('hex')}${'00'.repeat(8)}0001000000020001ffff`,
  )
  assert.is(((await client.query('SELECT 1 AS one')).rows[0] as { one: number }).one, 1)
})

test('arrays and records go out as text; arrays come back', async () => {
  await client.query('CREATE TABLE lists (id INTEGER PRIMARY KEY, l VARCHAR[], n INTEGER[][], r STRUCT(a INTEGER))')
  await client.query("INSERT INTO lists VALUES (1, ['a', NULL, '', 'b\"c\\', '{x}, y'], [[1, 2], [NULL]], {'a': 1}), (2, [], NULL, NULL)")
  const data = await out('COPY lists (id, l, n) TO STDOUT')
  assert.match((await out('COPY lists TO STDOUT')).toString(), '{"a":1}')
  await client.query('CREATE TABLE lists_again (id INTEGER PRIMARY KEY, l VARCHAR[], n INTEGER[][])')
  await back('COPY lists_again FROM STDIN', data)
  assert.equal(
    await rowsOf(client, 'SELECT * FROM lists_again ORDER BY id'),
    await rowsOf(client, 'SELECT id, l, n FROM lists ORDER BY id'),
  )
})

test('the tag counts the rows, and the transaction goes on', async () => {
  await client.query('BEGIN')
  await client.query('INSERT INTO source (id) VALUES (9)')
  const stream = client.query(copyTo('COPY source TO STDOUT'))
  stream.resume()
  await new Promise((resolve, reject) => stream.once('end', resolve).once('error', reject))
  assert.is((stream as unknown as { rowCount: number }).rowCount, 5)
  await client.query('ROLLBACK')
  assert.equal(await rowsOf(client, 'SELECT count(*) FROM source'), [['4']])
})

test('broken binary data is refused, and nothing of it stays', async () => {
  await client.query('CREATE TABLE small (id INTEGER PRIMARY KEY)')
  const head = `${Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1').toString('hex')}${'00'.repeat(8)}`
  for (const [hex, code] of [
    ['', '22P04'],
    ['00', '22P04'],
    [head, '22P04'],
    [`${head}0001`, '22P04'],
    [`${head}0002`, '22P04'],
    [`${head}000100000004000000010001`, '22P04'],
    [`${head}000100000003000001`, '22P03'],
    [`${head}0001fffffff0`, '22P04'],
    [`${head.slice(0, 22)}00000001${'00'.repeat(4)}`, '22P04'],
  ] as const)
    assert.is(await codeOf(back('COPY small FROM STDIN (FORMAT binary)', Buffer.from(hex, 'hex'))), code, hex)
  assert.equal(await rowsOf(client, 'SELECT count(*) FROM small'), [['0']])
  await back('COPY small FROM STDIN (FORMAT binary)', Buffer.from(`${head}00010000000400000007ffff`, 'hex'))
  assert.equal(await rowsOf(client, 'SELECT * FROM small'), [['7']])
})

test('files stay out of reach, and what is no query', async () => {
  for (const text of [
    "COPY source TO '/tmp/x'",
    "COPY source TO PROGRAM 'cat'",
    'COPY "/etc/hostname.csv" TO STDOUT',
    'COPY daemonguard.watermark TO STDOUT',
    'COPY (SELECT * FROM daemonguard.watermark) TO STDOUT',
  ])
    assert.is(await codeOf(client.query(text)), '42501', text)
  assert.is(await codeOf(client.query('COPY (DELETE FROM source RETURNING *) TO STDOUT')), '0A000')
})

test('psql \\copy writes a file and reads it back', async () => {
  const file = path.join(temporaryDirectory('c'), 'rows.csv')
  const psql = (command: string) =>
    runChild('psql', ['-X', '-h', '127.0.0.1', '-p', String(engine.port), '-U', 'trader', '-d', 'trade_data', '-c', command])
  const written = await psql(`\\copy source (id, v) to '${file}' csv`)
  assert.is(written.stdout.trim(), 'COPY 4', written.stderr)
  assert.match(fs.readFileSync(file, 'utf8'), '1,"a,""b""')
  await client.query('CREATE TABLE again (id INTEGER PRIMARY KEY, v VARCHAR)')
  const read = await psql(`\\copy again from '${file}' csv`)
  assert.is(read.stdout.trim(), 'COPY 4', read.stderr)
  assert.equal(await rowsOf(client, 'SELECT * FROM again ORDER BY id'), await rowsOf(client, 'SELECT id, v FROM source ORDER BY id'))
})

test.run()
