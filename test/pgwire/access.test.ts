/** The gate in detail: names that cannot be probed, guesses that are slowed down, strangers that hold nobody up. */

import pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Access, type AuthConfig } from '../../agent/engine/access.ts'
import { LoginThrottle } from '../../agent/engine/login-throttle.ts'
import type { Challenge, Visitor } from '../../agent/engine/pgwire/login.ts'
import { SqlError } from '../../agent/engine/sql-error.ts'
import { silentLog } from '../../agent/log.ts'
import { formatVerifier, makeVerifier } from '../../agent/verifier.ts'
import { errorFields, message, openDoor, query, RawClient, startup, startWire, typesOf } from '../fixtures/wire.ts'
import { createTestClock } from '../support/clock.ts'
import { seededRandom } from '../support/random.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('gate')

const stored = formatVerifier(await makeVerifier('x', { iterations: 20_000 }))
const auth: AuthConfig = {
  method: 'scram-sha-256',
  socket: 'scram-sha-256',
  users: [
    { name: 'trader', password: 'correct horse', readonly: false },
    { name: 'stored', password: stored, readonly: true },
  ],
}
const access = (more: Partial<AuthConfig> = {}, databaseId = 'a database') =>
  Access.create({ auth: { ...auth, ...more }, databaseId, log: silentLog })
const visitor = (user: string, more: Partial<Visitor> = {}): Visitor => ({
  user,
  from: 'loopback',
  address: '127.0.0.1',
  encrypted: false,
  systemUser: async () => undefined,
  ...more,
})
async function challenge(gate: Access, user: string): Promise<Challenge> {
  const answer = await gate.ask(visitor(user))
  if (!('challenge' in answer)) throw new Error(`${user} came in without a password`)
  return answer.challenge
}

test('what is asked of a name that nobody has looks like what is asked of one that somebody has', async () => {
  const [gate, again, other] = [await access(), await access(), await access({}, 'another database')]
  const asked = async (which: Access, user: string) => {
    const { salt, iterations } = (await challenge(which, user)).verifier
    return `${salt.toString('hex')} ${iterations}`
  }
  const counts = new Set<string>()
  for (let i = 0; i < 50; i++) counts.add((await asked(gate, `guess${i}`)).split(' ')[1]!)
  assert.equal([...counts].sort(), ['20000', '4096'], 'the iterations that the users have')
  for (const user of ['nobody', 'trader']) {
    assert.is(await asked(gate, user), await asked(again, user), 'the same after a restart')
    assert.is.not(await asked(gate, user), await asked(other, user))
    assert.is((await challenge(gate, user)).verifier.salt.length, 16)
  }
  assert.is.not(await asked(gate, 'nobody'), await asked(gate, 'nobody2'))
})

test('from the network nobody comes in unencrypted, whatever the method', async () => {
  for (const method of ['trust', 'scram-sha-256'] as const) {
    const gate = await access({ method })
    const refused = await gate.ask(visitor('trader', { from: 'network', address: '192.0.2.9' })).catch((error) => error)
    assert.instance(refused, SqlError)
    assert.equal([refused.code, refused.severity], ['28000', 'FATAL'])
  }
})

test('nobody but the agent is the agent, even where nobody is asked for a password', async () => {
  const gate = await access({ method: 'trust', socket: 'trust', users: [] })
  assert.equal(await gate.ask(visitor('anybody')), { role: { name: 'anybody', readonly: false } })
  await challenge(gate, 'daemonguard-agent')
})

test('after wrong passwords a login waits, longer each time, and nobody else does', async () => {
  const clock = createTestClock()
  const throttle = new LoginThrottle(clock)
  const { signal } = new AbortController()
  assert.ok(await throttle.pass('a', signal))
  const pauses: number[] = []
  for (let i = 0; i < 8; i++) {
    throttle.failed('a')
    const passed = throttle.pass('a', signal)
    pauses.push(...clock.sleeping(1))
    clock.advance(2_000)
    assert.ok(await passed)
  }
  assert.equal(pauses, [100, 200, 400, 800, 1600, 2000, 2000, 2000])
  assert.ok(await throttle.pass('b', signal))
  assert.equal(clock.sleeping(1), [])
  // One that waits no more guesses than so many at a time: the rest is refused unchecked.
  const waiting = Array.from({ length: 20 }, () => throttle.pass('a', signal))
  assert.not.ok(await throttle.pass('a', signal))
  clock.advance(2_000)
  assert.ok((await Promise.all(waiting)).every(Boolean))
  throttle.succeeded('a')
  assert.ok(await throttle.pass('a', signal))
  throttle.failed('a')
  clock.advance(11 * 60_000)
  assert.ok(await throttle.pass('a', signal), 'forgotten')
  assert.equal(clock.sleeping(1), [])
})

test('a hundred logins that wait after wrong passwords keep no good one waiting', async () => {
  const gatekeeper = await access()
  const wire = await startWire({ gatekeeper })
  try {
    const guess = async (user: string) => {
      const client = await RawClient.connect(wire.port)
      client.send(startup({ user, database: 'db' }))
      const nonce = /r=([^,]*)/.exec((await firstAnswer(client)).body.toString('latin1'))![1]
      client.send(response(`c=biws,r=${nonce},p=${Buffer.alloc(32).toString('base64')}`))
      return client
    }
    for (let i = 0; i < 6; i++) {
      const refused = errorFields((await (await guess('victim')).untilClosed())[0])
      assert.equal([refused.C, refused.M], ['28P01', 'password authentication failed for user "victim"'])
    }
    const waiting = await Promise.all(Array.from({ length: 100 }, () => guess('victim')))
    const good = await RawClient.connect(wire.port)
    good.send(startup({ user: 'daemonguard-agent', database: 'db' }))
    const { body } = await firstAnswer(good)
    assert.equal([body.readInt32BE(0), body.toString('latin1', 4, 6)], [11, 'r='])
    good.destroy()
    for (const client of waiting) client.destroy()
  } finally {
    await wire.stop()
  }
})

test('the agent gets in when every place is taken', async () => {
  const gatekeeper = await access({ method: 'trust', users: [] })
  const wire = await startWire({ gatekeeper, maxConnections: 2 })
  const about = { host: '127.0.0.1', port: wire.port, database: 'db' }
  try {
    const taken = [await RawClient.ready(wire.port), await RawClient.ready(wire.port)]
    const third = await RawClient.connect(wire.port)
    third.send(startup())
    assert.is(errorFields((await third.untilClosed())[0]).C, '53300')
    const agent = new pg.Client({ ...about, user: 'daemonguard-agent', password: gatekeeper.agentPassword })
    await agent.connect()
    assert.equal((await agent.query('SELECT 1 AS n')).rows, [{ n: 1 }])
    await agent.end()
    for (const client of taken) client.destroy()
  } finally {
    await wire.stop()
  }
})

test('strangers that never finish are cut off when more come, and a good client gets in', async () => {
  const wire = await startWire({ gatekeeper: openDoor, startupTimeout: 60_000 })
  try {
    const stuck: RawClient[] = []
    for (let i = 0; i < 150; i++) {
      const client = await RawClient.connect(wire.port)
      client.send(Buffer.from([0, 0]))
      stuck.push(client)
    }
    await waitFor('the oldest to be cut off', () => stuck.filter(({ closed }) => closed).length >= 50)
    const good = await RawClient.ready(wire.port)
    good.send(query('SELECT 1'))
    assert.is(typesOf(await good.until('Z')), 'TDCZ')
    assert.ok(!stuck.at(-1)?.closed)
    for (const client of stuck) client.destroy()
  } finally {
    await wire.stop()
  }
})

test('garbage in place of SASL messages is refused, and a client that says nothing is cut off', async () => {
  const wire = await startWire({ gatekeeper: await access(), startupTimeout: 5_000 })
  const random = seededRandom('sasl')
  try {
    const silent = await RawClient.connect(wire.port)
    silent.send(startup({ user: 'trader', database: 'db' }))
    await silent.until('R')
    for (let round = 0; round < 100; round++) {
      const client = await RawClient.connect(wire.port)
      client.send(startup({ user: random.pick(['trader', 'nobody']), database: 'db' }))
      await client.until('R')
      const types = ['p', 'p', 'p', 'Q', 'X', 'P', 'd', '\0']
      for (let i = random.int(1, 3); i > 0; i--) client.send(message(random.pick(types), (w) => w.bytes(random.bytes(random.int(0, 60)))))
      client.socket.end()
      for (const { type, body } of await client.untilClosed()) {
        assert.ok(type === 'E' || (type === 'R' && body.readInt32BE(0) !== 0), 'never in')
      }
    }
    // A statement's length may be a gigabyte, a stranger's message may not.
    const long = await RawClient.connect(wire.port)
    long.send(startup({ user: 'trader', database: 'db' }), Buffer.from([0x51, 0x3f, 0, 0, 0, 0x20]))
    assert.is(errorFields((await long.untilClosed()).at(-1)).C, '08P01')
    assert.is(wire.backend.clients.length, 0)
    assert.is(typesOf(await silent.untilClosed()), '')
  } finally {
    await wire.stop()
  }
})

function response(text: string): Buffer {
  return message('p', (w) => w.bytes(Buffer.from(text)))
}

/** Sends a client's first SASL message; the server's answer to it. */
async function firstAnswer(client: RawClient) {
  await client.until('R')
  const first = Buffer.from('n,,n=,r=abcdefgh')
  client.send(
    message('p', (w) => {
      w.cstring('SCRAM-SHA-256')
      w.int32(first.length)
      w.bytes(first)
    }),
  )
  const [answer] = await client.until('R')
  return answer!
}

test.run()
