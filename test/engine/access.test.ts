// deadline: 180s
// Who may connect: passwords, users who may only read, the agent's own way in. Real engines and real clients.

import fs from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import postgres from 'postgres'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { formatVerifier, makeVerifier, parseVerifier } from '../../agent/verifier.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { python } from '../support/prerequisites.ts'
import { runChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('access')

// Passwords that SASLprep changes, that look odd in a connection string, and that are kept as a verifier.
const passwords = { trader: 'correct horse', grafana: 'pässword\u00a0Ⅸ', stored: '%:@/ $x$ \\' }
let engine: TestEngine
let socketDir: string

test.before(async () => {
  socketDir = temporaryDirectory('s')
  const file = path.join(socketDir, 'trader')
  fs.writeFileSync(file, `${passwords.trader}\n`, { mode: 0o600 })
  const users = [
    { name: 'trader', password: `file:${file}` },
    { name: 'grafana', password: passwords.grafana, readonly: true },
    { name: 'stored', password: formatVerifier(await makeVerifier(passwords.stored, { iterations: 5000 })) },
  ]
  engine = await TestEngine.prepare()
  engine.configure([`auth: ${JSON.stringify({ method: 'scram-sha-256', users })}`, `socket_dir: ${socketDir}`])
  await engine.start()
})
test.after(() => engine.kill())

type Name = keyof typeof passwords

async function connect(user: string, password: string, options: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = new pg.Client({ host: '127.0.0.1', port: engine.port, user, password, database: 'trade_data', ...options })
  client.on('error', () => {})
  await client.connect()
  return client
}

async function as<T>(user: Name, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await connect(user, passwords[user])
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

function psql(host: string, user: string, password: string, sql: string) {
  const args = ['-X', '-At', '-w', '-h', host, '-p', String(engine.port), '-U', user, '-d', 'trade_data', '-c', sql]
  return runChild('psql', args, { env: { PGPASSWORD: password } })
}

test('every client logs in with its password, over TCP and over the Unix socket', async () => {
  for (const [user, password] of Object.entries(passwords)) {
    for (const host of ['127.0.0.1', socketDir]) {
      const byPsql = await psql(host, user, password, 'SHOW session_authorization')
      assert.equal([byPsql.code, byPsql.stdout], [0, `${user}\n`], byPsql.stderr)
      const client = await connect(user, password, { host })
      assert.equal(await rowsOf(client, 'SHOW session_authorization'), [[user]])
      assert.equal(await rowsOf(client, 'SELECT current_user, session_user'), [[user, user]])
      await client.end()
    }
    const sql = postgres({ host: '127.0.0.1', port: engine.port, user, password, database: 'x', max: 1, fetch_types: false })
    // It does no SASLprep, so a password that this changes is not one that it can send.
    if (user !== 'grafana') assert.equal([...(await sql`SHOW session_authorization`)], [{ session_authorization: user }])
    await sql.end({ timeout: 5 })
    const script =
      'import psycopg2, sys\nc = psycopg2.connect(host=sys.argv[1], port=sys.argv[2], user=sys.argv[3], dbname="x")\nq = c.cursor()\nq.execute("SHOW session_authorization")\nprint(q.fetchone()[0])'
    const byPython = await runChild(python, ['-c', script, socketDir, String(engine.port), user], { env: { PGPASSWORD: password } })
    assert.equal([byPython.code, byPython.stdout], [0, `${user}\n`], byPython.stderr)
  }
})

test('a verifier that libpq makes is the one that we make: of every kind of password', async () => {
  const script = `import psycopg2, sys, json
from psycopg2.extensions import encrypt_password
c = psycopg2.connect(host=sys.argv[1], port=sys.argv[2], user="trader", dbname="x")
for password in json.load(sys.stdin):
    print(encrypt_password(password, "trader", scope=c, algorithm="scram-sha-256"))`
  // Mapped to nothing, to a space, to other letters; forbidden, from right to left, unassigned, nothing but what is dropped.
  const odd = [
    'a\u00adb',
    'a\u3000b',
    '\u2168\ufb01',
    'é',
    'e\u0301',
    'x\u0007\u2168',
    '\u0627\u0031',
    '\u0627\u0628',
    'x\u0378\u2168',
    '\u00ad',
    '🦆',
  ]
  const all = [...Object.values(passwords), ...odd]
  const run = await runChild(python, ['-c', script, socketDir, String(engine.port)], {
    env: { PGPASSWORD: passwords.trader },
    input: JSON.stringify(all),
  })
  assert.is(run.code, 0, run.stderr)
  const made = run.stdout.trim().split('\n')
  assert.is(made.length, all.length)
  for (const [i, password] of all.entries()) {
    const theirs = parseVerifier(made[i]!)
    assert.ok(theirs, made[i])
    assert.equal(await makeVerifier(password, theirs), theirs, JSON.stringify(password))
  }
})

test('a wrong password, no password and a name that nobody has are refused alike', async () => {
  for (const host of ['127.0.0.1', socketDir]) {
    for (const [user, password] of [
      ['trader', 'wrong'],
      ['trader', passwords.stored],
      ['nobody', 'wrong'],
      ['daemonguard-agent', 'wrong'],
    ] as const) {
      const error = await connect(user, password, { host }).catch((error) => error)
      assert.equal([error.code, error.severity], ['28P01', 'FATAL'])
      assert.is(error.message, `password authentication failed for user "${user}"`)
    }
  }
  const without = await psql('127.0.0.1', 'trader', '', 'SELECT 1')
  assert.is(without.code, 2)
  assert.match(engine.output(), /"user":"nobody".*a login was refused/)
  await as('trader', (client) => rowsOf(client, 'SELECT 1'))
})

test('no password and no verifier is told anywhere: log, status, engine.json, process list', async () => {
  const { agentPassword } = engine.control.hello
  assert.ok(agentPassword.length >= 32)
  const told = [
    engine.output(),
    JSON.stringify(await engine.control.status()),
    fs.readFileSync(path.join(engine.data, 'engine.json'), 'utf8'),
    fs.readFileSync(`/proc/${engine.pid}/cmdline`, 'utf8'),
  ].join('\n')
  for (const secret of [...Object.values(passwords), agentPassword, 'SCRAM-SHA-256$']) assert.not.ok(told.includes(secret))
})

test('the watchdog’s probe goes the way a client goes, without a password of the operator’s', async () => {
  assert.ok((await engine.control.probe()) > 0)
})

test('a user who may only read gets 25006 for every write, and works with temporary tables', async () => {
  await as('trader', async (client) => {
    await client.query('CREATE TABLE trades (id BIGINT PRIMARY KEY, price DOUBLE)')
    await client.query('CREATE SEQUENCE numbers')
    await client.query('INSERT INTO trades VALUES (1, 2.5)')
  })
  await as('grafana', async (client) => {
    assert.equal(await rowsOf(client, 'SELECT price FROM trades'), [['2.5']])
    assert.equal(await rowsOf(client, 'SELECT price FROM trades WHERE id = $1', [1]), [['2.5']])
    assert.equal(await rowsOf(client, 'SHOW transaction_read_only'), [['on']])
    const writes = [
      'INSERT INTO trades VALUES (2, 1)',
      'UPDATE trades SET price = 1',
      'DELETE FROM trades',
      'TRUNCATE trades',
      'MERGE INTO trades USING (SELECT 9 AS id) AS s ON trades.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (9, 1)',
      'CREATE TABLE more (id BIGINT)',
      'CREATE TABLE more AS SELECT * FROM trades',
      'DROP TABLE trades',
      'ALTER TABLE trades ADD COLUMN x INTEGER',
      'ALTER TABLE trades ADD CONSTRAINT positive CHECK (id > 0)',
      'CREATE INDEX i ON trades (price)',
      'CREATE VIEW v AS SELECT 1',
      'CREATE SCHEMA s',
      'CREATE MACRO m() AS 1',
      "CREATE TYPE mood AS ENUM ('sad')",
      'DROP SEQUENCE numbers',
      "COMMENT ON TABLE trades IS 'mine'",
      'COPY trades FROM STDIN',
      "SELECT nextval('numbers')",
      'INSERT INTO trades SELECT id + 1, price FROM trades RETURNING *',
      'DAEMONGUARD PROBE',
      'PRAGMA wal_autocheckpoint = 7',
      'SET wal_autocheckpoint = 7',
      'RESET wal_autocheckpoint',
      'SET transaction_read_only = off',
      'SET default_transaction_read_only TO off',
      'SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE',
    ]
    for (const sql of writes) {
      assert.is(await codeOf(client.query(sql)), '25006', sql)
      for (const begin of ['BEGIN', 'BEGIN READ WRITE']) {
        await client.query(begin)
        assert.is(await codeOf(client.query(sql)), '25006', `${begin}; ${sql}`)
        await client.query('ROLLBACK')
      }
    }
    // Bound parameters go another way, through the write buffer.
    assert.is(await codeOf(client.query('INSERT INTO trades VALUES ($1, $2)', [2, 1])), '25006')
    assert.is(await codeOf(client.query('SET application_name = x; INSERT INTO trades VALUES (2, 1)')), '25006')
    await client.query('CREATE TEMP TABLE mine (id BIGINT)')
    await client.query('INSERT INTO mine SELECT id FROM trades')
    assert.equal(await rowsOf(client, 'SELECT * FROM mine'), [['1']])
    await client.query('BEGIN')
    await client.query('DELETE FROM mine')
    await client.query('COMMIT')
    assert.equal(await rowsOf(client, 'SELECT * FROM mine'), [])
    assert.is(await codeOf(client.query('SELECT * FROM daemonguard.probe')), '42501')
  })
  const listed = await psql(socketDir, 'grafana', passwords.grafana, '\\d trades')
  assert.is(listed.code, 0, listed.stderr)
  assert.match(listed.stdout, /price\|double precision/)
  const tool = await psql(socketDir, 'grafana', passwords.grafana, 'DELETE FROM trades')
  assert.match(tool.stderr, /may read, and change nothing/)
  await as('trader', async (client) => assert.equal(await rowsOf(client, 'SELECT * FROM trades'), [['1', '2.5']]))
})

test.run()
