// deadline: 120s
// needs: psycopg2
// Portals of the real engine: several open at once, row limits, what becomes of them when other statements run; Describe runs nothing; psycopg2.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { bind, describe, execute, parse, query, RawClient, sync } from '../fixtures/wire.ts'
import { rowsOf, TestEngine } from '../support/engine.ts'
import { python } from '../support/prerequisites.ts'
import { runChild } from '../support/process.ts'

const test = suite('portals')
let engine: TestEngine

test.before(async () => {
  engine = await TestEngine.start()
  await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR); CREATE SEQUENCE s')
})
test.after(() => engine.kill())

const types = (messages: { type: string }[]) => messages.map(({ type }) => type).join('')
const rows = (messages: { type: string; body: Buffer }[]) =>
  messages.filter(({ type }) => type === 'D').map(({ body }) => body.subarray(6).toString())

test('two portals are read in turns, beside an insert, and end with their transaction', async () => {
  const client = await RawClient.ready(engine.port)
  client.send(query('BEGIN'))
  await client.until('Z')
  client.send(
    parse('', 'SELECT range FROM range(5000)'),
    bind('a', ''),
    parse('', 'SELECT -range FROM range(3)'),
    bind('b', ''),
    execute('a', 2),
    execute('b', 2),
    sync,
  )
  const first = await client.until('Z')
  assert.is(types(first), '1212DDsDDsZ')
  assert.equal(rows(first), ['0', '1', '0', '-1'])
  client.send(query("INSERT INTO t VALUES (1, 'x')"))
  await client.until('Z')
  client.send(execute('a', 4997), execute('b'), execute('a'), sync)
  const rest = await client.until('Z')
  assert.is(rows(rest)[0], '2')
  assert.equal(rows(rest).slice(-2), ['-2', '4999'])
  assert.ok(types(rest).endsWith('sDCDCZ'), types(rest).slice(-10))
  client.send(query('COMMIT'))
  await client.until('Z')
  client.send(execute('a'), sync)
  assert.is(types(await client.until('Z')), 'EZ')
  client.socket.destroy()
  assert.equal(await engine.sql('SELECT * FROM t'), [['1', 'x']])
})

test('a portal that would not fit into memory beside another statement is refused, and the engine stays small', async () => {
  const client = await RawClient.ready(engine.port)
  client.send(query('BEGIN'))
  await client.until('Z')
  client.send(parse('', "SELECT repeat('x', 1000) FROM range(10000000)"), bind('a', ''), execute('a', 1), sync)
  await client.until('Z')
  client.send(query('SELECT 1'))
  const answer = await client.until('Z')
  assert.is(types(answer), 'EZ')
  assert.match(answer[0]?.body.toString() ?? '', 'C54000')
  client.send(query('ROLLBACK'), query('SELECT 1'))
  await client.until('Z')
  assert.is(types(await client.until('Z')), 'TDCZ')
  client.socket.destroy()
})

test('Describe says what a statement takes and gives without running it', async () => {
  const client = await RawClient.ready(engine.port)
  const before = await engine.sql('SELECT count(*) FROM t')
  for (const [text, expected] of [
    ["INSERT INTO t VALUES ($1, 'y') RETURNING id", '1tTZ'],
    ['DELETE FROM t', '1tnZ'],
    ["UPDATE t SET v = 'z' WHERE id = $1 RETURNING v", '1tTZ'],
    ["SELECT nextval('s'), $1::INTEGER", '1tTZ'],
    ['CREATE TABLE described (id INTEGER)', '1tnZ'],
    ['COPY t TO STDOUT', '1tnZ'],
    ['TRUNCATE t', '1tnZ'],
    ['BEGIN', '1tnZ'],
    ['SHOW TimeZone', '1tTZ'],
    ["SET statement_timeout = '1s'", '1tnZ'],
    ['', '1tnZ'],
  ] as const) {
    client.send(parse('', text), describe('S', ''), sync)
    assert.is(types(await client.until('Z')), expected, text)
  }
  client.socket.destroy()
  assert.equal(await engine.sql('SELECT count(*) FROM t'), before)
  assert.equal(await engine.sql("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'described'"), [['0']])
  assert.equal(await engine.sql("SELECT nextval('s')"), [['1']], 'nothing was drawn')
})

test('psycopg2 commits, rolls back, copies both ways, and retries a conflict', async () => {
  const script = `
import io, psycopg2, psycopg2.extras
one = psycopg2.connect(host='127.0.0.1', port=${engine.port}, user='trader', dbname='trade_data')
two = psycopg2.connect(host='127.0.0.1', port=${engine.port}, user='trader', dbname='trade_data')
cursor = one.cursor()
cursor.execute('CREATE TABLE p (id INTEGER PRIMARY KEY, v VARCHAR, n NUMERIC(9,2), tags VARCHAR[], at TIMESTAMPTZ)'.replace('at T', '"at" T'))
psycopg2.extras.execute_values(cursor, 'INSERT INTO p VALUES %s', [(i, None if i == 2 else 'v%d' % i, '1.5', ['a', None], '2026-03-01T12:00:00Z') for i in range(3)], template="(%s, %s, %s, [%s, NULL], %s)".replace('[%s, NULL]', '%s'))
one.commit()
cursor.execute('SELECT * FROM p ORDER BY id')
print(cursor.fetchall()[2][:4])
one.rollback()
second = two.cursor()
cursor.execute("UPDATE p SET v = 'one' WHERE id = 1")
try:
    second.execute("UPDATE p SET v = 'two' WHERE id = 1")
    one.commit(); two.commit()
    print('no conflict')
except psycopg2.errors.SerializationFailure as error:
    print(error.pgcode)
    two.rollback()
    one.commit()
    second.execute("UPDATE p SET v = 'two' WHERE id = 1"); two.commit()
out = io.StringIO()
cursor.copy_expert('COPY p (id, v) TO STDOUT', out)
print(repr(out.getvalue()))
cursor.copy_expert('COPY p (id, v) FROM STDIN', io.StringIO('7\\tseven\\n'))
one.commit()
cursor.execute('SELECT v FROM p WHERE id = %s', (7,))
print(cursor.fetchone())
`
  const run = await runChild(python, ['-c', script])
  assert.is(run.stderr, '')
  assert.equal(run.stdout.trim().split('\n'), [
    "(2, None, Decimal('1.50'), ['a', None])",
    '40001',
    "'0\\tv0\\n1\\ttwo\\n2\\t\\\\N\\n'",
    "('seven',)",
  ])
})

test('a cancel ends the reading of a portal too', async () => {
  const client = await engine.connect()
  const waiting = client.query({
    text: 'SELECT count(*) FROM range(10000000000) a, range(10000000000) b WHERE a.range + b.range < 0',
    values: [],
  })
  const other = await engine.connect()
  // Until it runs, a cancel finds nothing.
  const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
  let code: string | undefined
  waiting.catch((error: { code: string }) => {
    code = error.code
  })
  while (code === undefined) {
    const canceller = await RawClient.connect(engine.port)
    const packet = Buffer.alloc(16)
    packet.writeInt32BE(16, 0)
    packet.writeInt32BE(80877102, 4)
    packet.writeInt32BE(processID, 8)
    packet.writeInt32BE(secretKey, 12)
    canceller.send(packet)
    await rowsOf(other, 'SELECT 1')
    canceller.socket.destroy()
  }
  assert.is(code, '57014')
})

test.run()
