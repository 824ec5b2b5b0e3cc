/** Where clients connect, how many may, and how it ends. */

import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Listener } from '../../agent/engine/pgwire/listener.ts'
import { DaemonGuardError } from '../../agent/errors.ts'
import { silentLog } from '../../agent/log.ts'
import { DuckdbBackend } from '../fixtures/duckdb-backend.ts'
import { errorFields, message, openDoor, query, RawClient, startup, startWire, typesOf } from '../fixtures/wire.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('listener')

test('psql connects over the Unix socket, which the group may use', async () => {
  const socketDir = temporaryDirectory('s')
  const wire = await startWire({ socketDir })
  try {
    const { socket, port } = wire.listener.address!
    assert.is(socket, path.join(socketDir, `.s.PGSQL.${port}`))
    assert.is(fs.statSync(socket!).mode & 0o777, 0o660)
    const child = spawn('psql', ['-X', '-At', '-h', socketDir, '-p', String(port), '-U', 'ann', '-d', 'db', '-c', 'SELECT 42'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let out = ''
    child.stdout.on('data', (data) => (out += data))
    assert.is(await new Promise((resolve) => child.once('close', resolve)), 0)
    assert.is(out, '42\n')
    assert.is(wire.backend.clients[0]?.remote, 'local')
  } finally {
    await wire.stop()
  }
  assert.equal(fs.readdirSync(socketDir), [])
})

test('a socket file left by a killed server is replaced, one that answers is not', async () => {
  const socketDir = temporaryDirectory('s')
  const wire = await startWire({ socketDir })
  const { port, socket } = wire.listener.address!
  try {
    const second = new Listener({
      backend: wire.backend,
      gatekeeper: openDoor,
      host: '127.0.0.2',
      port,
      socketDir,
      tls: null,
      version: 'test',
      log: silentLog,
    })
    const refused = await second.start().catch((error) => error)
    assert.instance(refused, DaemonGuardError)
    assert.match(refused.describe(), /another server is listening/)
    assert.ok(fs.existsSync(socket!))
    const samePort = new Listener({
      backend: wire.backend,
      gatekeeper: openDoor,
      host: '127.0.0.1',
      port,
      socketDir: null,
      tls: null,
      version: 'test',
      log: silentLog,
    })
    assert.match((await samePort.start().catch((error) => error)).message, /EADDRINUSE/)
  } finally {
    await wire.stop()
  }
  // A socket file that nobody serves: its process was killed.
  spawnSync(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`,
  ])
  assert.ok(fs.existsSync(socket!))
  const again = await startWire({ socketDir, port })
  assert.is(again.listener.address?.socket, socket)
  await again.stop()
})

test('a path too long for a Unix socket is refused with a hint, and nothing stays open', async () => {
  const socketDir = path.join(temporaryDirectory('s'), 'x'.repeat(100))
  fs.mkdirSync(socketDir)
  const backend = await DuckdbBackend.create()
  const listener = new Listener({
    backend,
    gatekeeper: openDoor,
    host: '127.0.0.1',
    port: 0,
    socketDir,
    tls: null,
    version: 'test',
    log: silentLog,
  })
  const error = await listener.start().catch((error) => error)
  assert.instance(error, DaemonGuardError)
  assert.match(error.hint, /socket_dir/)
  await listener.close()
  backend.close()
})

test('more sessions than allowed are refused with 53300, and the place is free again after one has left', async () => {
  const wire = await startWire({ maxConnections: 2 })
  try {
    const [first] = [await RawClient.ready(wire.port), await RawClient.ready(wire.port)]
    const third = await RawClient.connect(wire.port)
    third.send(startup())
    const refusal = errorFields((await third.untilClosed())[0])
    assert.equal([refusal.C, refusal.V], ['53300', 'FATAL'])
    first.send(message('X'))
    await first.untilClosed()
    await waitFor('the place to be free', () => wire.listener.sessionCount === 1)
    await RawClient.ready(wire.port)
  } finally {
    await wire.stop()
  }
})

test('a client that says nothing is cut off', async () => {
  const wire = await startWire({ startupTimeout: 50 })
  try {
    const silent = await RawClient.connect(wire.port)
    silent.socket.write(Buffer.from([0, 0]))
    assert.equal(await silent.untilClosed(), [])
    const spoken = await RawClient.ready(wire.port)
    await waitFor('the time to be over', () => wire.listener.sessionCount === 1)
    spoken.send(query('SELECT 1'))
    assert.is(typesOf(await spoken.until('Z')), 'TDCZ')
  } finally {
    await wire.stop()
  }
})

test('closing tells idle clients at once, lets a statement end, then interrupts, and ends every session', async () => {
  const wire = await startWire()
  const idle = await RawClient.ready(wire.port)
  const inBlock = await RawClient.ready(wire.port)
  inBlock.send(query('BEGIN'))
  await inBlock.until('Z')
  const busy = await RawClient.ready(wire.port)
  busy.send(query('SELECT sum(a.range * b.range % 7) FROM range(10000000) a, range(1000000) b'))
  // The answer of a statement that was under way still comes before the goodbye.
  const committing = await RawClient.ready(wire.port)
  let release = () => {}
  wire.backend.barrier = () =>
    new Promise<void>((resolve) => {
      release = resolve
    })
  committing.send(query('SELECT 7'))
  await waitFor('its answer to wait for the disk', () => release.toString() !== '() => {}')
  wire.backend.barrier = () => undefined
  const closed = wire.listener.close({ grace: 300 })
  for (const client of [idle, inBlock]) {
    const said = await client.untilClosed()
    assert.equal([typesOf(said), errorFields(said[0]).C], ['E', '57P01'])
  }
  release()
  assert.is(typesOf(await committing.untilClosed()), 'TDCZE')
  const said = await busy.untilClosed()
  assert.equal(
    said.filter(({ type }) => type === 'E').map((error) => errorFields(error).C),
    ['57P01'],
  )
  await closed
  assert.is(wire.backend.sessions.size, 0)
  await expectRefused(wire.port)
  await wire.stop()
})

async function expectRefused(port: number): Promise<void> {
  const socket = net.connect({ host: '127.0.0.1', port })
  assert.is(
    await new Promise((resolve) =>
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code)).once('connect', () => resolve('connected')),
    ),
    'ECONNREFUSED',
  )
}

test('a client that neither reads nor hangs up does not hold up the close', async () => {
  const wire = await startWire()
  const stuck = await RawClient.ready(wire.port)
  stuck.socket.pause()
  stuck.send(query(`SELECT repeat('x', 1000) FROM range(1000000)`))
  await waitFor('rows to be under way', () => wire.backend.chunks > 0)
  await wire.listener.close({ grace: 100 })
  assert.is(wire.backend.sessions.size, 0)
  stuck.destroy()
  await wire.stop()
})

test.run()
