// deadline: 240s
// What clients may rely on: a transaction is there as a whole or not at all, whatever fails, conflicts, is cancelled or killed.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { bind, errorFields, execute, parse, query, RawClient, startupPacket, sync } from '../fixtures/wire.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { waitFor } from '../support/wait.ts'
import { difference, stateOf } from './support/state.ts'
import { assertSurvivesKill } from './support/surviving.ts'

const test = suite('transactions')
let engine: TestEngine
let one: pg.Client
let two: pg.Client

async function connectAll(): Promise<void> {
  ;[one, two] = await Promise.all([engine.connect(), engine.connect()])
}

async function killAndCompare(): Promise<void> {
  await assertSurvivesKill(engine, one)
  await connectAll()
}

/** Runs `text` by the extended protocol. */
const extended = (client: pg.Client, text: string) => client.query({ text, values: [], queryMode: 'extended' } as pg.QueryConfig)

test.before(async () => {
  engine = await TestEngine.start()
})
test.after(() => engine.kill())

test.before.each(async () => {
  await connectAll()
  for (const name of ['child', 'parent', 't', 'log']) await one.query(`DROP TABLE IF EXISTS ${name}`)
  await one.query(`
    CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR);
    CREATE TABLE log (v VARCHAR);
    CREATE TABLE parent (id INTEGER PRIMARY KEY);
    CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id));
    INSERT INTO t VALUES (1000, 'first');
    INSERT INTO parent VALUES (1), (2)`)
})
test.after.each(async () => {
  await Promise.all([one.end(), two.end()])
})

for (const [protocol, run] of [
  ['simple', (text: string) => one.query(text)],
  ['extended', (text: string) => extended(one, text)],
] as const) {
  test(`COMMIT of a failed transaction answers ROLLBACK and leaves nothing (${protocol} protocol)`, async () => {
    await run('BEGIN')
    await run("INSERT INTO t VALUES (1, 'a')")
    assert.is(await codeOf(run("INSERT INTO t VALUES (1000, 'twice')")), '23505')
    assert.is(await codeOf(run("INSERT INTO t VALUES (2, 'b')")), '25P02')
    assert.is((await run('COMMIT')).command, 'ROLLBACK')
    assert.equal(await rowsOf(two, 'SELECT id FROM t'), [['1000']])
    await run("INSERT INTO t VALUES (1, 'after')")
    assert.equal(await rowsOf(two, 'SELECT id FROM t ORDER BY id'), [['1'], ['1000']])
  })
}

test('a failed statement in a string of several undoes all of them', async () => {
  assert.is(await codeOf(one.query("INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = 'b'; INSERT INTO t VALUES (1, 'c')")), '23505')
  assert.equal(await rowsOf(two, 'SELECT * FROM t'), [['1000', 'first']])
  await killAndCompare()
})

test('of a pipelined cycle with one failing Execute nothing stays', async () => {
  const raw = await RawClient.ready(engine.port)
  try {
    const inserts = [1, 2, 1000, 3].map((id) => Buffer.concat([bind('', 'i', [String(id), 'x']), execute('')]))
    raw.send(parse('i', 'INSERT INTO t VALUES ($1, $2)'), ...inserts, sync)
    const answers = await raw.until('Z')
    assert.is(errorFields(answers.find(({ type }) => type === 'E')).C, '23505')
    assert.equal(await rowsOf(one, 'SELECT id FROM t'), [['1000']])
    raw.send(bind('', 'i', ['3', 'x']), execute(''), sync)
    assert.is(
      (await raw.until('Z')).find(({ type }) => type === 'E'),
      undefined,
    )
    assert.equal(await rowsOf(one, 'SELECT id FROM t ORDER BY id'), [['3'], ['1000']])
  } finally {
    raw.destroy()
  }
  await killAndCompare()
})

test('an empty query ends what was executed before it without Sync, as in Postgres', async () => {
  const raw = await RawClient.ready(engine.port)
  try {
    raw.send(parse('i', 'INSERT INTO t VALUES ($1, $2)'), bind('', 'i', ['7', 'x']), execute(''), query(''))
    await raw.until('Z')
    assert.equal(await rowsOf(one, 'SELECT id FROM t WHERE id = 7'), [['7']])
  } finally {
    raw.destroy()
  }
  await killAndCompare()
})

test('one bad row among 64 concurrent prepared inserts fails alone', async () => {
  const clients = await Promise.all(Array.from({ length: 64 }, () => engine.connect()))
  const insert = (client: pg.Client, id: number) =>
    codeOf(client.query({ name: 'i', text: 'INSERT INTO t VALUES ($1, $2)', values: [id, `row ${id}`] }))
  // Each has it prepared, so that the inserts of the second round arrive together.
  assert.equal(new Set(await Promise.all(clients.map((client, i) => insert(client, 2000 + i)))), new Set([undefined]))
  const codes = await Promise.all(clients.map((client, i) => insert(client, i === 40 ? 1000 : i)))
  assert.equal(
    codes.flatMap((code, i) => (code === undefined ? [] : [[i, code]])),
    [[40, '23505']],
  )
  await Promise.all(clients.map((client) => client.end()))
  const expected = [['63', 'first']]
  const sql = "SELECT count(*) FILTER (v = 'row ' || id), any_value(v) FILTER (id = 1000) FROM t WHERE id <= 1000 AND id <> 40"
  assert.equal(await rowsOf(one, sql), expected)
  await killAndCompare()
  assert.equal(await rowsOf(one, sql), expected)
})

test('a child that went in with its parent, which another client inserted at the same moment, is there after a replay', async () => {
  const clients = await Promise.all(Array.from({ length: 24 }, () => engine.connect()))
  const parent = { name: 'parent', text: 'INSERT INTO parent VALUES ($1)' }
  const child = { name: 'child', text: 'INSERT INTO child VALUES ($1, $2)' }
  let children = 0
  for (let round = 0; round < 20; round++) {
    const key = (at: number) => 1000 + round * clients.length + at
    // Every other client has a child of what its neighbour inserts: which of them share a group is chance.
    const codes = await Promise.all(
      clients.map((client, at) =>
        codeOf(client.query(at % 2 === 0 ? { ...parent, values: [key(at)] } : { ...child, values: [key(at), key(at - 1)] })),
      ),
    )
    assert.equal(new Set(codes.filter((_, at) => at % 2 === 0)), new Set([undefined]))
    children += codes.filter((code, at) => at % 2 === 1 && code === undefined).length
  }
  process.stdout.write(`[${children} of 240 children met their parents] `)
  assert.ok(children > 0)
  await Promise.all(clients.map((client) => client.end()))
  await killAndCompare()
})

test('of two transactions that insert the same key one wins, and nothing of the loser stays', async () => {
  const outcomes = await Promise.all(
    [one, two].map(async (client, i) => {
      await client.query('BEGIN')
      await client.query(`INSERT INTO log VALUES ('session ${i}')`)
      const code = await codeOf(client.query(`INSERT INTO t VALUES (1, 'session ${i}')`))
      return code ?? (await codeOf(client.query('COMMIT')))
    }),
  )
  const winner = outcomes.indexOf(undefined)
  const [lost, ...others] = outcomes.filter((code) => code !== undefined)
  assert.equal(others, [])
  assert.ok(lost === '23505' || lost === '40001', lost)
  for (const client of [one, two]) await client.query('ROLLBACK')
  assert.equal(await rowsOf(one, 'SELECT v FROM t WHERE id = 1'), [[`session ${winner}`]])
  assert.equal(await rowsOf(one, 'SELECT v FROM log'), [[`session ${winner}`]])
  await killAndCompare()
})

test('of two transactions that update the same row the later one gets 40001', async () => {
  await one.query('BEGIN')
  await two.query('BEGIN')
  await one.query("UPDATE t SET v = 'one' WHERE id = 1000")
  const early = await codeOf(two.query("UPDATE t SET v = 'two' WHERE id = 1000"))
  await one.query('COMMIT')
  assert.is(early ?? (await codeOf(two.query('COMMIT'))), '40001')
  await two.query('ROLLBACK')
  assert.equal(await rowsOf(two, 'SELECT v FROM t'), [['one']])
  await killAndCompare()
})

for (const [order, steps] of [
  ['the parent goes first', ['delete', 'insert']],
  ['the child comes first', ['insert', 'delete']],
] as const) {
  test(`a parent that is deleted while its child is inserted: one of them fails, no child dangles (${order})`, async () => {
    const statements = { delete: 'DELETE FROM parent WHERE id = 1', insert: 'INSERT INTO child VALUES (10, 1)' }
    await one.query('BEGIN')
    await two.query('BEGIN')
    const codes = [await codeOf(one.query(statements[steps[0]])), await codeOf(two.query(statements[steps[1]]))]
    for (const [i, client] of [one, two].entries()) codes[i] ??= await codeOf(client.query('COMMIT'))
    for (const client of [one, two]) await client.query('ROLLBACK')
    const failed = codes.filter((code) => code !== undefined)
    assert.is(failed.length, 1, JSON.stringify(codes))
    assert.ok(['40001', '23503'].includes(failed[0] as string), failed[0])
    assert.equal(await rowsOf(one, 'SELECT * FROM child WHERE parent NOT IN (SELECT id FROM parent)'), [])
    await killAndCompare()
  })
}

test('a schema change waits for an open writer, fails with 55P03 after 5 s, and works once the writer has ended', async () => {
  await one.query('BEGIN')
  await one.query("INSERT INTO t VALUES (1, 'open')")
  const started = performance.now()
  assert.is(await codeOf(two.query('ALTER TABLE t ADD COLUMN w INTEGER')), '55P03')
  const waited = performance.now() - started
  assert.ok(waited > 4_900 && waited < 15_000, `${waited} ms`)
  const change = codeOf(two.query('ALTER TABLE t ADD COLUMN w INTEGER'))
  await one.query('COMMIT')
  assert.is(await change, undefined)
  assert.equal(await rowsOf(two, 'SELECT * FROM t WHERE id = 1'), [['1', 'open', null]])
  await killAndCompare()
})

test('a prepared insert goes on after another session has added a column', async () => {
  const insert = (id: number) => one.query({ name: 'i', text: 'INSERT INTO t (id, v) VALUES ($1, $2)', values: [id, 'x'] })
  await insert(1)
  await two.query('ALTER TABLE t ADD COLUMN w INTEGER DEFAULT 7')
  await insert(2)
  await insert(3)
  assert.equal(await rowsOf(two, 'SELECT id, w FROM t WHERE id < 10 ORDER BY id'), [
    ['1', '7'],
    ['2', '7'],
    ['3', '7'],
  ])
  await killAndCompare()
})

test('UPDATE and DELETE on a table without a key are refused with what to do', async () => {
  await one.query("INSERT INTO log VALUES ('kept')")
  for (const text of ["UPDATE log SET v = 'x'", 'DELETE FROM log', 'TRUNCATE log']) {
    const error = await one.query(text).then(
      () => undefined,
      (caught: pg.DatabaseError) => caught,
    )
    assert.is(error?.code, '55000', text)
    assert.match(error?.hint ?? '', /ADD PRIMARY KEY/)
  }
  assert.equal(await rowsOf(one, 'SELECT v FROM log'), [['kept']])
})

test('temporary tables work and are not journaled', async () => {
  const { durableSeq } = await engine.control.status()
  await one.query('CREATE TEMPORARY TABLE mine (id INTEGER, v VARCHAR)')
  await one.query("INSERT INTO mine VALUES (1, 'a'), (2, 'b')")
  await one.query("UPDATE mine SET v = 'c' WHERE id = 2")
  await one.query('DELETE FROM mine WHERE id = 1')
  assert.equal(await rowsOf(one, 'SELECT * FROM mine'), [['2', 'c']])
  assert.is((await engine.control.status()).durableSeq, durableSeq)
  assert.is(await codeOf(two.query('SELECT * FROM mine')), '42P01')
  await one.query('INSERT INTO log SELECT v FROM mine')
  await engine.restart()
  await connectAll()
  assert.is(await codeOf(one.query('SELECT * FROM mine')), '42P01')
  assert.equal(await rowsOf(one, 'SELECT v FROM log'), [['c']])
})

test('a long query that is cancelled ends with 57014, and its session goes on', async () => {
  const { processID, secretKey } = one as unknown as { processID: number; secretKey: number }
  let code: string | undefined
  const query = codeOf(one.query('SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = -1')).then(
    (ended) => {
      code = ended ?? 'no error'
    },
  )
  await waitFor('the query to be cancelled', async () => {
    const raw = await RawClient.connect(engine.port)
    raw.send(
      startupPacket(80877102, (w) => {
        w.int32(processID)
        w.int32(secretKey)
      }),
    )
    await raw.untilClosed() // the engine closes it when it has acted
    raw.destroy()
    return code !== undefined
  })
  await query
  assert.is(code, '57014')
  await one.query("INSERT INTO t VALUES (1, 'after')")
  assert.equal(await rowsOf(one, 'SELECT v FROM t WHERE id = 1'), [['after']])
})

test('a session that idles in a transaction for too long ends with 25P03, and nothing of it stays', async () => {
  const impatient = await TestEngine.start({ engine: ['idle_in_transaction_timeout: 200ms'] })
  try {
    await impatient.sql('CREATE TABLE t (id INTEGER PRIMARY KEY)')
    const client = await impatient.connect()
    const ended = new Promise<{ code?: string }>((resolve) => client.once('error', resolve))
    await client.query('BEGIN; INSERT INTO t VALUES (1)')
    assert.is((await ended).code, '25P03')
    assert.equal(await impatient.sql('SELECT * FROM t'), [])
    await waitFor(
      'its pass to be given back',
      async () => (await codeOf(impatient.sql('ALTER TABLE t ADD COLUMN v INTEGER'))) === undefined,
    )
  } finally {
    await impatient.kill()
  }
})

test('labels of an ENUM that could not be replayed as text are refused', async () => {
  assert.is(await codeOf(one.query("CREATE TYPE label AS ENUM (SELECT 'a' || chr(0) || 'b')")), '0A000')
  await one.query("CREATE TYPE label AS ENUM (SELECT unnest(['it''s', 'b']))")
  await killAndCompare()
  await one.query('DROP TYPE label')
})

test('an uncommitted transaction leaves nothing after SIGKILL', async () => {
  const live = await stateOf(two)
  await one.query("BEGIN; INSERT INTO t SELECT range, 'x' FROM range(500); UPDATE t SET v = 'y'; DELETE FROM parent")
  assert.equal(await rowsOf(one, 'SELECT count(*) FROM t'), [['501']])
  await engine.restart()
  await connectAll()
  assert.is(difference(live, await stateOf(one)), '')
})

test.run()
