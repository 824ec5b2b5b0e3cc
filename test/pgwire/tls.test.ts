// deadline: 120s
// needs: openssl, psql, psycopg2
/** Encrypted connections: with real clients, with clients that verify, with renewed certificates, and with those who meddle. */

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import tls from 'node:tls'
import pg from 'pg'
import postgres from 'postgres'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Access } from '../../agent/engine/access.ts'
import { silentLog } from '../../agent/log.ts'
import { errorFields, query, RawClient, startup, startupPacket, startWire, type Wire } from '../fixtures/wire.ts'
import { Authority } from '../support/certificates.ts'
import { python } from '../support/prerequisites.ts'
import { runChild } from '../support/process.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('tls')

const password = 'correct horse'
const authority = new Authority()
/** What the server uses: replaced as a renewal does it. */
const files = { cert: path.join(authority.directory, 'server.pem'), key: path.join(authority.directory, 'server.key') }
const sslRequest = startupPacket(80877103, () => {})
const socketDir = temporaryDirectory('s')
let wire: Wire

function install({ cert, key }: { cert: string; key: string }): void {
  for (const [from, to] of [
    [cert, files.cert],
    [key, files.key],
  ] as const) {
    fs.copyFileSync(from, `${to}.new`)
    fs.renameSync(`${to}.new`, to)
  }
}

test.before(async () => {
  install(authority.issue())
  const auth = { method: 'scram-sha-256', socket: 'scram-sha-256', users: [{ name: 'ann', password, readonly: false }] } as const
  const gatekeeper = await Access.create({ auth, databaseId: 'x', log: silentLog })
  wire = await startWire({ tls: files, gatekeeper, socketDir, startupTimeout: 5_000 })
})
test.after(() => wire.stop())

function psql(connection: string, sql = 'SELECT 42') {
  const where = `port=${wire.port} user=ann dbname=db ${connection}`
  return runChild('psql', ['-X', '-At', '-w', '-c', sql, where], { env: { PGPASSWORD: password } })
}

test('psql connects encrypted, verifies the certificate, and binds its login to it', async () => {
  const verified = `sslmode=verify-full sslrootcert=${authority.file}`
  for (const connection of [
    'host=127.0.0.1',
    'host=127.0.0.1 sslmode=require',
    `host=localhost hostaddr=127.0.0.1 ${verified}`,
    `host=127.0.0.1 ${verified} channel_binding=require`,
    'host=127.0.0.1 sslmode=require channel_binding=disable',
    'host=127.0.0.1 sslmode=disable',
  ]) {
    const run = await psql(connection)
    assert.equal([run.code, run.stdout], [0, '42\n'], `${connection}: ${run.stderr}`)
  }
  const info = await psql('host=127.0.0.1', '\\conninfo')
  assert.match(info.stdout, /SSL connection \(protocol: TLSv1\.3/)
  // As with Postgres, the Unix socket is not encrypted: nobody can listen in.
  const local = await psql(`host=${socketDir}`, '\\conninfo')
  assert.match(local.stdout, /^You are connected .* via socket in .*"\.\n$/)
})

test('a client that verifies refuses another name, another authority, and an old protocol', async () => {
  const other = new Authority()
  for (const [connection, expected] of [
    [`host=elsewhere hostaddr=127.0.0.1 sslmode=verify-full sslrootcert=${authority.file}`, /does not match host name "elsewhere"/],
    [`host=127.0.0.1 sslmode=verify-ca sslrootcert=${other.file}`, /certificate verify failed/],
    ['host=127.0.0.1 sslmode=require ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.1', /SSL error|version/],
  ] as const) {
    const run = await psql(connection)
    assert.is(run.code, 2, connection)
    assert.match(run.stderr, expected)
  }
  const run = await psql('host=127.0.0.1 sslmode=require ssl_max_protocol_version=TLSv1.2')
  assert.is(run.code, 0, run.stderr)
})

test('pg, postgres.js and psycopg2 connect encrypted, with channel binding where they know it', async () => {
  const ca = fs.readFileSync(authority.file, 'utf8')
  const about = { host: '127.0.0.1', port: wire.port, user: 'ann', database: 'db', password }
  for (const enableChannelBinding of [true, false]) {
    const client = new pg.Client({ ...about, ssl: { ca }, enableChannelBinding } as pg.ClientConfig)
    await client.connect()
    assert.equal((await client.query('SELECT 42 AS n')).rows, [{ n: 42 }])
    await client.end()
  }
  const sql = postgres({ ...about, ssl: { ca, servername: 'localhost' }, max: 1, fetch_types: false })
  assert.equal([...(await sql`SELECT 42 AS n`)], [{ n: 42 }])
  await sql.end({ timeout: 5 })
  const script = `import psycopg2, sys
c = psycopg2.connect(sys.argv[1])
q = c.cursor()
q.execute("SELECT 42")
print(q.fetchone()[0], c.info.ssl_in_use)`
  const dsn = `host=127.0.0.1 port=${wire.port} user=ann dbname=db sslmode=verify-full sslrootcert=${authority.file} channel_binding=require`
  const run = await runChild(python, ['-c', script, dsn], { env: { PGPASSWORD: password } })
  assert.equal([run.code, run.stdout], [0, '42 True\n'], run.stderr)
})

test('certificates of every usual kind work, with channel binding where Postgres’ clients know one for them', async () => {
  for (const [kind, binding] of [
    [{ key: ['-newkey', 'rsa:2048'], sign: ['-sha384'] }, 'require'],
    [{ sign: ['-sha512'] }, 'require'],
    [{ key: ['-newkey', 'ed25519'] }, 'prefer'],
  ] as const) {
    install(authority.issue(kind))
    const run = await psql(`host=127.0.0.1 sslmode=verify-full sslrootcert=${authority.file} channel_binding=${binding}`)
    assert.equal([run.code, run.stdout], [0, '42\n'], `${JSON.stringify(kind)}: ${run.stderr}`)
  }
})

test('a renewed certificate serves the next connection; a pair that does not match leaves the one before', async () => {
  const subject = async () => {
    const socket = await handshake({ ALPNProtocols: ['postgresql'] })
    const { subject } = socket.getPeerCertificate()
    socket.destroy()
    return subject.CN
  }
  install(authority.issue({ name: 'first' }))
  assert.is(await subject(), 'first')
  const next = authority.issue({ name: 'second' })
  fs.copyFileSync(next.cert, files.cert)
  assert.is(await subject(), 'first', 'its key is still to come')
  fs.writeFileSync(files.key, 'garbage')
  assert.is(await subject(), 'first')
  fs.copyFileSync(next.key, files.key)
  assert.is(await subject(), 'second')
  fs.rmSync(files.cert)
  assert.is(await subject(), 'second')
  install(authority.issue())
})

test('a client may begin with TLS at once, when it names the protocol', async () => {
  const client = await handshake({ ALPNProtocols: ['postgresql'] })
  client.write(startup({ user: 'ann', database: 'db' }))
  const [first] = await once(client, 'data')
  assert.match(first.toString('latin1'), /^R.*SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0$/s)
  client.destroy()
  for (const options of [{}, { ALPNProtocols: ['http/1.1'] }]) {
    const refused = tls.connect({ host: '127.0.0.1', port: wire.port, rejectUnauthorized: false, ...options })
    refused.on('error', () => {})
    refused.on('secureConnect', () => refused.write(startup()))
    refused.resume()
    await once(refused, 'close')
  }
})

test('what somebody slips in before the handshake is never taken for what the client says', async () => {
  for (const injected of [startup({ user: 'mallory', database: 'db' }), query('DROP TABLE x'), Buffer.from([0])]) {
    const client = await RawClient.connect(wire.port)
    client.send(sslRequest, injected)
    const seen = wire.backend.clients.length
    const refusal = errorFields((await client.untilClosed())[0])
    assert.equal([refusal.C, refusal.M], ['08P01', 'received unencrypted data after SSL request'])
    assert.is(wire.backend.clients.length, seen)
  }
})

test('a cancel request goes over TLS too', async () => {
  const client = new pg.Client({
    host: '127.0.0.1',
    port: wire.port,
    user: 'ann',
    database: 'db',
    password,
    ssl: { rejectUnauthorized: false },
  })
  await client.connect()
  const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
  const busy = client.query('SELECT sum(a.range * b.range % 7) FROM range(10000000) a, range(1000000) b').catch((error) => error)
  const sendCancel = async () => {
    const canceller = await handshake({ ALPNProtocols: ['postgresql'] })
    canceller.resume()
    canceller.write(
      startupPacket(80877102, (w) => {
        w.int32(processID)
        w.int32(secretKey)
      }),
    )
    await once(canceller, 'close')
  }
  let error: { code?: string } | undefined
  void busy.then((reason) => (error = reason))
  // One that comes before the statement runs does nothing, as with Postgres.
  const cancelled = async () => {
    if (error === undefined) await sendCancel()
    return error !== undefined
  }
  await waitFor('the statement to be cancelled', cancelled, { deadline: 30_000 })
  assert.is(error?.code, '57014')
  await client.end()
})

test('garbage, half a handshake and a second request for TLS end that connection only', async () => {
  const good = await RawClient.connect(wire.port)
  const stuck = await RawClient.connect(wire.port)
  stuck.socket.write(sslRequest)
  const garbled = await RawClient.connect(wire.port)
  garbled.socket.write(sslRequest)
  await waitFor('an S', () => garbled.bytes > 0)
  garbled.socket.write(Buffer.from('this is no ClientHello at all, and long enough to be read as a record'))
  await garbled.untilClosed()
  const twice = await handshake({ ALPNProtocols: ['postgresql'] })
  twice.write(sslRequest)
  const [answer] = await once(twice, 'data')
  assert.match(answer.toString('latin1'), /08P01/)
  twice.destroy()
  // The one in mid-handshake is cut off when its time is over.
  await stuck.untilClosed()
  good.destroy()
})

test('bytes of every kind in place of a handshake leave the server as it was', async () => {
  const random = seededRandom('handshakes')
  const hello = await clientHello()
  const strangers = Array.from({ length: 150 }, async () => {
    const bytes = Buffer.from(random.chance(0.3) ? random.bytes(random.int(1, 300)) : hello)
    for (let changes = random.int(0, 4); changes > 0; changes--) bytes[random.int(0, bytes.length - 1)] = random.int(0, 255)
    const cut = bytes.subarray(0, random.chance(0.5) ? random.int(1, bytes.length) : bytes.length)
    const [begin, end] = [random.chance(0.7), random.pick(['end', 'destroy', 'resetAndDestroy'] as const)]
    const client = net.connect({ host: '127.0.0.1', port: wire.port })
    client.on('error', () => {})
    await once(client, 'connect')
    if (begin) {
      client.write(sslRequest)
      await new Promise((resolve) => client.once('data', resolve).once('close', resolve))
    }
    client.write(cut)
    client[end]()
    client.resume()
    if (!client.closed) await once(client, 'close')
  })
  await Promise.all(strangers)
  assert.is(wire.listener.sessionCount, 0)
  const run = await psql('host=127.0.0.1 sslmode=require', 'SELECT * FROM range(200000)')
  assert.equal([run.code, run.stdout.split('\n').length], [0, 200_001], run.stderr)
})

test('without a usable certificate clients are told that there is no encryption', async () => {
  const plain = await startWire({ tls: { cert: '/nowhere', key: '/nowhere' } })
  try {
    const client = net.connect({ host: '127.0.0.1', port: plain.port })
    client.write(sslRequest)
    assert.equal(await once(client, 'data'), [Buffer.from('N')])
    client.write(startup())
    const [answer] = await once(client, 'data')
    assert.is(answer[0], 'R'.charCodeAt(0))
    client.destroy()
    const direct = tls.connect({ host: '127.0.0.1', port: plain.port, rejectUnauthorized: false, ALPNProtocols: ['postgresql'] })
    direct.on('error', () => {})
    await once(direct, 'close')
  } finally {
    await plain.stop()
  }
})

test('a password is asked for over TLS as well, and a wrong one refused', async () => {
  const run = await runChild(
    'psql',
    ['-X', '-w', '-c', 'SELECT 1', `host=127.0.0.1 port=${wire.port} user=ann dbname=db sslmode=require`],
    {
      env: { PGPASSWORD: 'wrong' },
    },
  )
  assert.is(run.code, 2)
  assert.match(run.stderr, /password authentication failed for user "ann"/)
})

/** The first bytes of a client that begins with TLS at once. */
function clientHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const server = net.createServer((socket) => {
      socket.once('data', (bytes) => {
        socket.destroy()
        server.close(() => resolve(bytes))
      })
    })
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo
      tls.connect({ host: '127.0.0.1', port, ALPNProtocols: ['postgresql'] }).on('error', () => {})
    })
  })
}

/** A finished handshake, without a request for it first. */
async function handshake(options: tls.ConnectionOptions): Promise<tls.TLSSocket> {
  const socket = tls.connect({ host: '127.0.0.1', port: wire.port, rejectUnauthorized: false, ...options })
  await once(socket, 'secureConnect')
  return socket
}

// biome-ignore lint/suspicious/noExplicitAny: whatever the event brings
function once(emitter: net.Socket, event: string): Promise<any[]> {
  return new Promise((resolve, reject) => {
    emitter.once(event, (...values) => resolve(values))
    if (event !== 'close') emitter.once('error', reject)
  })
}

test.run()
