/** The wire with the clients that people use: node pg, postgres.js and psql, over TCP and real SQL. */

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import postgres from 'postgres'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { startWire, type Wire } from '../fixtures/wire.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('clients')
let wire: Wire

test.before(async () => {
  wire = await startWire()
})
test.after(() => wire.stop())

async function withPg<T>(use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ host: '127.0.0.1', port: wire.port, user: 'ann', database: 'db', application_name: 'suite' })
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

function withPostgres<T>(use: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres({ host: '127.0.0.1', port: wire.port, user: 'ann', database: 'db', max: 1, onnotice: () => {}, fetch_types: false })
  return use(sql).finally(() => sql.end({ timeout: 5 }))
}

function psql(args: string[], input = ''): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn('psql', ['-X', '-h', '127.0.0.1', '-p', String(wire.port), '-U', 'ann', '-d', 'db', ...args], { stdio: 'pipe' })
  let [out, err] = ['', '']
  child.stdout.on('data', (data) => (out += data))
  child.stderr.on('data', (data) => (err += data))
  child.stdin.end(input)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, out, err }))
  })
}

test('pg reads text results, null included, and the command tag', () =>
  withPg(async (client) => {
    const result = await client.query(
      `SELECT 1 AS i, 'héllo 🦆' AS t, NULL AS n, true AS b, 1.50::DECIMAL(9,2) AS d, 9007199254740993::BIGINT AS l`,
    )
    assert.equal(result.rows, [{ i: 1, t: 'héllo 🦆', n: null, b: true, d: '1.50', l: '9007199254740993' }])
    assert.is(result.command, 'SELECT')
    assert.is(result.rowCount, 1)
    assert.is(wire.backend.clients.at(-1)?.applicationName, 'suite')
  }))

test('pg binds parameters, named statements are prepared once', () =>
  withPg(async (client) => {
    await client.query('CREATE OR REPLACE TABLE pairs (k INTEGER PRIMARY KEY, v VARCHAR, moment TIMESTAMP, data BLOB)')
    for (const k of [1, 2, 3]) {
      const inserted = await client.query({
        name: 'put',
        text: 'INSERT INTO pairs VALUES ($1, $2, $3, $4)',
        values: [k, k === 2 ? null : `v${k}`, '2026-03-01 12:00:00', Buffer.from([k, 0, 255])],
      })
      assert.is(inserted.rowCount, 1)
    }
    const { rows } = await client.query('SELECT * FROM pairs WHERE k >= $1 ORDER BY k', [2])
    assert.equal(
      rows.map(({ k, v }) => [k, v]),
      [
        [2, null],
        [3, 'v3'],
      ],
    )
    assert.equal([...rows[1].data], [3, 0, 255])
    assert.equal(rows[0].moment, new Date(2026, 2, 1, 12))
  }))

test('pg gets an error with its SQLSTATE and goes on', () =>
  withPg(async (client) => {
    await client.query('CREATE OR REPLACE TABLE once (k INTEGER PRIMARY KEY)')
    await client.query('INSERT INTO once VALUES (1)')
    const failures = [
      ['INSERT INTO once VALUES (1)', '23505'],
      ['SELECT * FROM nowhere', '42P01'],
      ['SELEC 1', '42601'],
      [`SELECT 'x'::INTEGER`, '22P02'],
    ] as const
    for (const [sql, code] of failures) {
      for (const values of [undefined, []]) {
        const error = await client.query({ text: sql, values, ...(values && { name: '' }) }).then(
          () => undefined,
          (error) => error,
        )
        assert.is(error?.code, code, sql)
      }
    }
    assert.equal((await client.query('SELECT count(*)::INTEGER AS n FROM once')).rows, [{ n: 1 }])
  }))

test('a transaction is rolled back when it failed, and its COMMIT says so', () =>
  withPg(async (client) => {
    await client.query('CREATE OR REPLACE TABLE ledger (k INTEGER PRIMARY KEY)')
    await client.query('BEGIN')
    await client.query('INSERT INTO ledger VALUES (1)')
    await client.query('INSERT INTO ledger VALUES (1)').catch(() => {})
    const refused = await client.query('SELECT 1').catch((error) => error)
    assert.is(refused.code, '25P02')
    assert.is((await client.query('COMMIT')).command, 'ROLLBACK')
    assert.is((await client.query('SELECT * FROM ledger')).rowCount, 0)
  }))

test('queries sent without waiting are answered in order, errors among them', () =>
  withPg(async (client) => {
    const answers = await Promise.allSettled(
      Array.from({ length: 200 }, (_, i) =>
        client.query(i % 10 === 7 ? 'SELECT boom' : 'SELECT $1::INTEGER AS i', i % 10 === 7 ? [] : [i]),
      ),
    )
    for (const [i, answer] of answers.entries()) {
      if (i % 10 === 7) assert.is(answer.status, 'rejected')
      else assert.is(answer.status === 'fulfilled' && answer.value.rows[0].i, i)
    }
  }))

test('pg-copy-streams copies rows in', () =>
  withPg(async (client) => {
    await client.query('CREATE OR REPLACE TABLE bulk (a INTEGER, b VARCHAR)')
    const stream = client.query(copyFrom('COPY bulk FROM STDIN'))
    const done = new Promise((resolve, reject) => stream.once('finish', resolve).once('error', reject))
    for (let i = 0; i < 1000; i++) stream.write(`${i}\t${i % 3 === 0 ? '\\N' : `line\\n${i}`}\n`)
    stream.end()
    await done
    const { rows } = await client.query(`SELECT count(*)::INTEGER AS n, count(b)::INTEGER AS b, max(b) AS m FROM bulk`)
    assert.equal(rows, [{ n: 1000, b: 666, m: 'line\n998' }])
  }))

test('postgres.js describes, binds and reads arrays, dates and json-like values', () =>
  withPostgres(async (sql) => {
    const [row] =
      await sql`SELECT ${7}::INTEGER AS i, ${'x'}::VARCHAR AS t, [1, 2, NULL] AS l, {'a': 1, 'b': ['x']} AS s, DATE '2024-02-29' AS d, ${true}::BOOLEAN AS b`
    assert.is(row?.i, 7)
    assert.is(row?.t, 'x')
    assert.equal(row?.s, { a: 1, b: ['x'] })
    assert.equal(row?.d, new Date('2024-02-29'))
    assert.is(row?.b, true)
  }))

test('postgres.js runs transactions and pipelines inserts', () =>
  withPostgres(async (sql) => {
    await sql`CREATE OR REPLACE TABLE orders (id INTEGER PRIMARY KEY, price DOUBLE)`
    await sql.begin((tx) => Array.from({ length: 50 }, (_, i) => tx`INSERT INTO orders VALUES (${i}, ${i / 4})`))
    const failed = await sql.begin((tx) => [tx`DELETE FROM orders`, tx`INSERT INTO missing VALUES (1)`]).catch((error) => error)
    assert.is(failed.code, '42P01')
    const [row] = await sql`SELECT count(*)::INTEGER AS n, sum(price) AS s FROM orders`
    assert.equal({ ...row }, { n: 50, s: 306.25 })
  }))

test('postgres.js reads a cursor in pieces, beside other statements', () =>
  withPostgres(async (sql) => {
    const sizes: number[] = []
    let sum = 0
    await sql.begin(async (tx) => {
      await tx`SELECT i::INTEGER AS i FROM range(1000) t(i)`.cursor(300, (rows) => {
        sizes.push(rows.length)
        for (const row of rows) sum += row.i
      })
    })
    assert.equal(sizes, [300, 300, 300, 100])
    assert.is(sum, 499_500)
  }))

test('psql runs several statements of one -c as one transaction and prints each result', async () => {
  const { code, out, err } = await psql([
    '-At',
    '-c',
    `CREATE OR REPLACE TABLE p (a INT, b VARCHAR); INSERT INTO p VALUES (1, 'x'), (2, NULL); SELECT * FROM p ORDER BY a; SELECT 'last';`,
  ])
  assert.is(err, '')
  assert.is(code, 0)
  assert.is(out, 'CREATE\nINSERT 0 2\n1|x\n2|\nlast\n')
  const failed = await psql(['-At', '-c', `INSERT INTO p VALUES (3, 'y'); SELECT 1/x FROM p`])
  assert.is(failed.code, 1)
  assert.is((await psql(['-At', '-c', 'SELECT count(*) FROM p'])).out, '2\n')
})

test('psql reports the SQLSTATE, and \\copy brings a csv file in', async () => {
  const failed = await psql(['-v', 'VERBOSITY=verbose', '-c', 'SELECT * FROM nowhere'])
  assert.match(failed.err, /ERROR: {2}42P01: /)
  const file = path.join(temporaryDirectory('copy'), 'rows.csv')
  fs.writeFileSync(file, `a,b\n${Array.from({ length: 5000 }, (_, i) => `${i},"line ${i}\nwith ""quotes"", and commas"`).join('\n')}\n`)
  const { code, out, err } = await psql([
    '-At',
    '-c',
    'CREATE OR REPLACE TABLE c (a INT, b VARCHAR)',
    '-c',
    `\\copy c FROM '${file}' WITH (FORMAT csv, HEADER)`,
    '-c',
    'SELECT count(*), min(length(b)) FROM c',
  ])
  assert.is(err, '')
  assert.is(code, 0)
  assert.is(out, 'CREATE\nCOPY 5000\n5000|32\n')
  const bad = await psql(['-c', `\\copy c FROM STDIN`], '1\tx\nnot a row\n')
  assert.is(bad.code, 1)
  assert.match(bad.err, /missing data/)
  assert.is((await psql(['-At', '-c', 'SELECT count(*) FROM c'])).out, '5000\n')
})

test('psql prints a notice and notices a changed setting', async () => {
  const { out, err } = await psql(['-c', 'NOTIFY me'])
  assert.match(err, /NOTICE: {2}as you wish/)
  assert.is(out, 'NOTIFY\n')
})

test('Ctrl-C in psql cancels the running statement', async () => {
  const child = spawn(
    'psql',
    [
      '-X',
      '-h',
      '127.0.0.1',
      '-p',
      String(wire.port),
      '-U',
      'ann',
      '-d',
      'db',
      '-At',
      '-c',
      "SELECT 'begun'",
      '-c',
      'SELECT sum(a.range * b.range % 7) FROM range(10000000) a, range(1000000) b',
    ],
    { stdio: 'pipe' },
  )
  let err = ''
  child.stderr.on('data', (data) => (err += data))
  const exit = new Promise((resolve) => child.once('close', resolve))
  // Before its first statement it does not catch the signal yet.
  let out = ''
  child.stdout.on('data', (data) => (out += data))
  await waitFor('psql to be at work', () => out === 'begun\n')
  // A SIGINT before the statement runs is not a cancel for psql: repeat until it ends.
  await waitFor('the statement to be cancelled', async () => {
    child.kill('SIGINT')
    return (await Promise.race([exit.then(() => true), new Promise((resolve) => setTimeout(resolve, 100, false))])) as boolean
  })
  assert.match(err, /57014|[Ii]nterrupt|cancel/)
  await waitFor('the session to end', () => wire.backend.sessions.size === 0)
})

test('a client that reads slowly holds the engine back, and gets every row', () =>
  withPg(async (client) => {
    const socket = (client as unknown as { connection: { stream: import('node:net').Socket } }).connection.stream
    const before = wire.backend.chunks
    let rows = 0
    const reading = new Promise<void>((resolve, reject) => {
      const big = client.query(new pg.Query(`SELECT i, repeat('x', 200) AS t FROM range(200000) t(i)`))
      big.on('row', () => rows++)
      big.on('end', () => resolve())
      big.on('error', reject)
    })
    socket.pause()
    // 200,000 rows are 98 chunks and 42 MB: with nobody reading only what buffers hold is pulled.
    let seen = -1
    await waitFor(
      'the engine to be held back',
      () => {
        const pulled = wire.backend.chunks - before
        const still = pulled > 0 && pulled === seen
        seen = pulled
        return still
      },
      { every: 300 },
    )
    assert.ok(wire.backend.chunks - before < 60, `${wire.backend.chunks - before} chunks pulled`)
    socket.resume()
    await reading
    assert.is(rows, 200_000)
  }))

test.run()
