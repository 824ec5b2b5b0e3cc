// deadline: 240s
// needs: openssl, psql
// Who may connect from where: by TCP from this machine and from another one, by the Unix socket with the system's own names; modes of files.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Authority } from '../support/certificates.ts'
import { onExit } from '../support/cleanup.ts'
import { TestEngine } from '../support/engine.ts'
import { runChild } from '../support/process.ts'

const test = suite('access by address')

const password = 'correct horse'
const me = os.userInfo().username
/** An address of this machine that is not loopback: who connects to it is taken for somebody from elsewhere. */
const outside = Object.values(os.networkInterfaces())
  .flat()
  .find((one) => one !== undefined && !one.internal && one.family === 'IPv4')?.address

async function withEngine(lines: readonly string[], use: (engine: TestEngine) => Promise<void>): Promise<void> {
  const engine = await TestEngine.prepare()
  engine.configure(lines)
  await engine.start()
  try {
    await use(engine)
  } finally {
    await engine.kill()
  }
}

/** The user that the server says one is, or the SQLSTATE with which it refuses. */
async function logIn(engine: TestEngine, options: pg.ClientConfig): Promise<string> {
  const client = new pg.Client({ port: engine.port, database: 'trade_data', ...options })
  client.on('error', () => {})
  try {
    await client.connect()
    return (await client.query('SHOW session_authorization')).rows[0].session_authorization
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  } finally {
    await client.end().catch(() => {})
  }
}

test('from another machine only encrypted, and the watchdog’s probe gets in as well', async () => {
  // A machine without a network has nobody to refuse: test/pgwire/access.test.ts asks the gatekeeper itself.
  const host = outside ?? '127.0.0.1'
  const { cert, key } = new Authority().issue()
  const auth = JSON.stringify({ method: 'scram-sha-256', users: [{ name: 'trader', password }] })
  const lines = ['listen: 0.0.0.0:0', `tls: { cert: ${cert}, key: ${key} }`, `auth: ${auth}`, 'socket_dir: null']
  const engine = await TestEngine.prepare()
  engine.configure(lines)
  // The config's listen line is the second one of `engine` now.
  const text = fs
    .readFileSync(engine.config, 'utf8')
    .replace(/ {2}listen: "127.*\n/, '')
    .replace('0.0.0.0:0', `0.0.0.0:${engine.port}`)
  fs.writeFileSync(engine.config, text)
  await engine.start()
  try {
    const ssl = { rejectUnauthorized: false }
    assert.is(await logIn(engine, { host, user: 'trader', password, ssl }), 'trader')
    if (outside !== undefined) assert.is(await logIn(engine, { host, user: 'trader', password }), '28000')
    assert.is(await logIn(engine, { host: '127.0.0.1', user: 'trader', password }), 'trader')
    assert.is(await logIn(engine, { host, user: 'trader', password: 'wrong', ssl }), '28P01')
    assert.ok((await engine.control.probe()) > 0)
  } finally {
    await engine.kill()
  }
})

test('with peer the Unix socket takes the system’s word for it, and TCP asks for the password', async () => {
  // Not below the test's own directory, which nobody else can enter.
  const socketDir = fs.mkdtempSync('/tmp/dg-peer-')
  onExit(() => fs.rmSync(socketDir, { recursive: true, force: true }))
  fs.chmodSync(socketDir, 0o755)
  const users = [
    { name: me, password },
    { name: 'trader', peer: ['nobody', me] },
    { name: 'grafana', peer: ['nobody'], readonly: true },
    { name: 'nobody' },
  ]
  const auth = JSON.stringify({ method: 'scram-sha-256', socket: 'peer', users })
  await withEngine([`auth: ${auth}`, `socket_dir: ${socketDir}`], async (engine) => {
    assert.is(await logIn(engine, { host: socketDir, user: me }), me)
    assert.is(await logIn(engine, { host: socketDir, user: 'trader' }), 'trader')
    assert.is(await logIn(engine, { host: socketDir, user: 'grafana' }), '28000')
    assert.is(await logIn(engine, { host: socketDir, user: 'nobody' }), '28000')
    assert.is(await logIn(engine, { host: socketDir, user: 'whoever' }), '28000')
    assert.is(await logIn(engine, { host: '127.0.0.1', user: me, password }), me)
    assert.is(await logIn(engine, { host: '127.0.0.1', user: 'trader', password }), '28P01')
    assert.ok((await engine.control.probe()) > 0)
    if (process.getuid?.() !== 0) return
    // As root one can be somebody else.
    fs.chmodSync(path.join(socketDir, `.s.PGSQL.${engine.port}`), 0o666)
    const asNobody = (user: string) => {
      const psql = [
        'psql',
        '-X',
        '-At',
        '-w',
        '-h',
        socketDir,
        '-p',
        String(engine.port),
        '-U',
        user,
        '-d',
        'x',
        '-c',
        'SHOW session_authorization',
      ]
      return runChild('setpriv', ['--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', ...psql], { cwd: '/', env: { HOME: '/' } })
    }
    for (const user of ['nobody', 'trader', 'grafana']) {
      const run = await asNobody(user)
      assert.is(run.stdout, `${user}\n`, run.stderr)
    }
    const refused = await asNobody(me)
    assert.is(refused.code, 2)
    assert.match(refused.stderr, new RegExp(`peer authentication failed for user "${me}"`))
  })
})

test('with trust and users only these may come, each with its rights', async () => {
  await withEngine(['auth: { users: [{ name: trader }, { name: grafana, readonly: true }] }'], async (engine) => {
    assert.is(await logIn(engine, { host: '127.0.0.1', user: 'grafana' }), 'grafana')
    assert.is(await logIn(engine, { host: engine.data, user: 'trader' }), 'trader')
    assert.is(await logIn(engine, { host: '127.0.0.1', user: 'whoever' }), '28000')
    assert.is(await logIn(engine, { host: engine.data, user: 'daemonguard-agent', password: 'x' }), '28P01')
  })
})

test.run()
