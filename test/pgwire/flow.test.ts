/** When answers leave and when they must not: the barrier, back-pressure, cancel, lost clients, the end of a session. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { SqlError } from '../../agent/engine/sql-error.ts'
import {
  bind,
  describe,
  errorFields,
  execute,
  message,
  parse,
  query,
  RawClient,
  rowValues,
  startup,
  startupPacket,
  startWire,
  sync,
  typesOf,
  type Wire,
} from '../fixtures/wire.ts'
import { seededRandom } from '../support/random.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('flow')
let wire: Wire
let client: RawClient

test.before(async () => {
  wire = await startWire()
})
test.after(() => wire.stop())
test.before.each(async () => {
  client = await RawClient.ready(wire.port)
})
test.after.each(async () => {
  wire.backend.barrier = () => undefined
  wire.backend.foreseen = undefined
  wire.backend.copyGate = undefined
  wire.backend.deafness = 0
  client.destroy()
  await waitFor('every session and row stream to be closed', () => wire.backend.sessions.size === 0 && wire.backend.streams === 0)
})

test('nothing leaves before the barrier allows it, and pipelined commits share one wait', async () => {
  let release = () => {}
  let waits = 0
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  wire.backend.barrier = () => {
    waits++
    return gate
  }
  const before = client.bytes
  client.send(
    query('CREATE OR REPLACE TABLE b (a INTEGER)'),
    ...Array.from({ length: 20 }, (_, i) => query(`INSERT INTO b VALUES (${i})`)),
    query('SELECT boom'),
  )
  await waitFor('all to have been executed', () => waits >= 22)
  assert.is(client.bytes, before)
  release()
  const answers: string[] = []
  for (let i = 0; i < 22; i++) answers.push(typesOf(await client.until('Z')))
  assert.equal(answers, [...Array(21).fill('CZ'), 'EZ'])
})

test('an answer that tells of no later commit waits for no more than it tells of; with any other it waits for all', async () => {
  const asked: (number | undefined)[] = []
  wire.backend.foreseen = 7
  wire.backend.barrier = (seq) => {
    asked.push(seq)
    return undefined
  }
  const ask = async (...messages: Buffer[]) => {
    asked.length = 0
    client.send(...messages)
    await client.until('Z')
    return [...asked]
  }
  const run = (name: string) => [bind('', name), describe('P', ''), execute('')]
  assert.equal(
    await ask(parse('begin', 'BEGIN'), parse('select', 'SELECT 1'), parse('write', 'CREATE OR REPLACE TABLE f (a INTEGER)'), sync),
    [undefined],
  )
  assert.equal(await ask(...run('begin'), sync), [7])
  assert.equal(await ask(...run('begin'), ...run('select'), sync), [undefined])
  assert.equal(await ask(...run('select'), ...run('begin'), sync), [undefined])
  assert.equal(await ask(...run('select'), sync), [undefined])
  assert.equal(await ask(query('BEGIN')), [7])
  assert.equal(await ask(query('BEGIN; SELECT 1')), [undefined])
  assert.equal(await ask(...run('begin'), parse('', 'SELECT 2'), sync), [undefined])
  // An error is told before Sync comes, and what comes then is nothing but its end.
  assert.equal(await ask(...run('begin'), bind('', 'unknown'), sync), [undefined, 0])
  assert.equal(await ask(query('ROLLBACK')), [undefined])
  // Sync commits it.
  assert.equal(await ask(...run('write'), sync), [undefined])
})

test('answers keep their order when a later barrier opens first', async () => {
  const opened: (() => void)[] = []
  wire.backend.barrier = () => (opened.length === 2 ? undefined : new Promise<void>((resolve) => opened.push(resolve)))
  const before = client.bytes
  client.send(query('SELECT 1'), query('SELECT 2'), query('SELECT 3'))
  const { chunks } = wire.backend
  await waitFor('the third to have been executed', () => opened.length === 2 && wire.backend.streams === 0 && wire.backend.chunks >= chunks)
  opened[1]!()
  // A round trip of another client: long enough for a wrong answer to have come.
  const other = await RawClient.ready(wire.port)
  other.destroy()
  assert.is(client.bytes, before)
  opened[0]!()
  const rows: (string | null)[] = []
  for (let i = 0; i < 3; i++) rows.push(rowValues((await client.until('Z'))[1]!)[0]!)
  assert.equal(rows, ['1', '2', '3'])
})

test('COPY data waits in the client while the engine is busy', async () => {
  client.send(query('CREATE OR REPLACE TABLE heavy (a VARCHAR)'))
  await client.until('Z')
  let open = () => {}
  wire.backend.copyGate = new Promise<void>((resolve) => {
    open = resolve
  })
  client.send(query('COPY heavy FROM STDIN'))
  await client.until('G')
  const row = message('d', (w) => w.utf8(`${'x'.repeat(1_000_000)}\n`))
  let sent = 0
  const sending = (async () => {
    while (sent < 60) {
      await new Promise((resolve) => client.socket.write(row, resolve))
      sent++
    }
    client.send(message('c'))
  })()
  let seen = -1
  await waitFor(
    'the client to be held back',
    () => {
      const still = sent === seen
      seen = sent
      return still
    },
    { every: 200 },
  )
  assert.ok(sent < 30, `${sent} MB taken`)
  open()
  await sending
  assert.is((await client.until('Z'))[0]?.body.toString(), 'COPY 60\0')
})

test('COPY data in pieces of any size arrives whole, whether the engine waits for it or it for the engine', async () => {
  const random = seededRandom('copy pieces')
  client.send(query('CREATE OR REPLACE TABLE pieces (a VARCHAR)'))
  await client.until('Z')
  for (let round = 0; round < 25; round++) {
    const rows = Array.from({ length: random.int(1, 12) }, (_, i) => String(i % 10).repeat(random.pick([3, 5_000, 300_000])))
    const bytes = Buffer.concat([
      query('TRUNCATE pieces'),
      query('COPY pieces FROM STDIN'),
      ...rows.map((row) => message('d', (w) => w.utf8(`${row}\n`))),
      message('c'),
      query('SELECT a FROM pieces'),
    ])
    let open = () => {}
    wire.backend.copyGate = new Promise<void>((resolve) => {
      open = resolve
    })
    if (random.chance(0.5)) open()
    for (let at = 0; at < bytes.length; ) {
      const end = at + random.int(1, random.pick([100_000, 1_000_000]))
      await new Promise((resolve) => setImmediate(resolve))
      client.socket.write(bytes.subarray(at, end))
      at = end
    }
    open()
    assert.is(typesOf(await client.until('Z')), 'CZ')
    assert.is((await client.until('Z')).at(-2)?.body.toString(), `COPY ${rows.length}\0`)
    const read = (await client.until('Z')).filter(({ type }) => type === 'D').map((row) => rowValues(row)[0])
    assert.ok(read.length === rows.length && read.every((row, i) => row === rows[i]), `round ${round}`)
  }
})

test('a rejected barrier cuts the connection without a word', async () => {
  wire.backend.barrier = () => Promise.reject(new Error('fsync failed'))
  const before = client.bytes
  client.send(query('SELECT 1'))
  assert.equal(await client.untilClosed(), [])
  assert.is(client.bytes, before)
})

test('a cancel needs the right secret, and does nothing to an idle connection', async () => {
  const raw = await RawClient.connect(wire.port)
  raw.send(startup())
  const key = (await raw.until('Z')).find(({ type }) => type === 'K')!.body
  const cancel = async (id: number, secret: number) => {
    const other = await RawClient.connect(wire.port)
    other.send(
      startupPacket(80877102, (w) => {
        w.int32(id)
        w.uint32(secret)
      }),
    )
    assert.equal(await other.untilClosed(), [])
  }
  await cancel(key.readInt32BE(0), key.readUInt32BE(4))
  raw.send(query('SELECT 1'))
  assert.is(typesOf(await raw.until('Z')), 'TDCZ')
  raw.send(query('SELECT sum(a.range * b.range % 7) FROM range(10000000) a, range(1000000) b'))
  await cancel(key.readInt32BE(0), (key.readUInt32BE(4) + 1) >>> 0)
  let answered = false
  const answer = raw.until('Z').then((messages) => {
    answered = true
    return messages
  })
  await waitFor('the cancel to hit the running statement', async () => {
    await cancel(key.readInt32BE(0), key.readUInt32BE(4))
    return answered
  })
  assert.is(errorFields((await answer)[0]).C, '57014')
  raw.send(query('COPY nosuch FROM STDIN'))
  assert.is(errorFields((await raw.until('Z'))[0]).C, '42P01')
  raw.send(query('CREATE OR REPLACE TABLE cc (a INT)'), query('COPY cc FROM STDIN'))
  await raw.until('G')
  await cancel(key.readInt32BE(0), (key.readUInt32BE(4) + 1) >>> 0)
  raw.send(message('c'))
  assert.is(typesOf(await raw.until('Z')), 'CZ')
  raw.send(query('COPY cc FROM STDIN'))
  await raw.until('G')
  await cancel(key.readInt32BE(0), key.readUInt32BE(4))
  assert.is(errorFields((await raw.until('Z'))[0]).C, '57014')
  raw.destroy()
})

test('a client that vanishes is rolled back: idle in a block, in the middle of COPY, in a long statement', async () => {
  const long = query('SELECT sum(a.range * b.range % 7) FROM range(10000000) a, range(1000000) b')
  const cases: [Buffer[], string | undefined][] = [
    [[query('BEGIN; INSERT INTO v VALUES (1)')], 'Z'],
    [[query('COPY v FROM STDIN'), message('d', (w) => w.utf8('1\n2'))], 'G'],
    [[query('COPY v FROM STDIN'), message('d', (w) => w.utf8('1\n2')).subarray(0, 6)], 'G'],
    [[long], undefined],
  ]
  client.send(query('CREATE OR REPLACE TABLE v (a INT)'))
  await client.until('Z')
  for (const [messages, answer] of cases) {
    for (const leave of ['end', 'resetAndDestroy'] as const) {
      const raw = await RawClient.ready(wire.port)
      wire.backend.deafness = 2
      raw.send(...messages)
      if (answer !== undefined) await raw.until(answer)
      raw.socket[leave]()
      await waitFor(`its session to end after ${leave}`, () => wire.backend.sessions.size === 1, { deadline: 30_000 })
      raw.destroy()
    }
  }
  client.send(query('SELECT count(*)::INTEGER FROM v'))
  assert.equal(rowValues((await client.until('Z'))[1]!), ['0'])
})

test('what was sent before a half-close is still done and answered', async () => {
  client.send(query('SELECT 1'), query('SELECT 2'))
  client.socket.end()
  assert.is(typesOf(await client.untilClosed()), 'TDCZTDCZ')
})

test('the engine can end a session: at once when idle, after the interrupted statement when busy', async () => {
  const reason = new SqlError('25P03', 'terminating connection due to idle-in-transaction timeout', { severity: 'FATAL' })
  const idle = await RawClient.ready(wire.port)
  wire.backend.clients.at(-1)!.end(reason)
  const said = await idle.untilClosed()
  assert.equal([typesOf(said), errorFields(said[0]).C, errorFields(said[0]).V], ['E', '25P03', 'FATAL'])
  const busy = await RawClient.ready(wire.port)
  const told = wire.backend.clients.at(-1)!
  busy.send(query('SELECT sum(a.range * b.range % 7) FROM range(10000000) a, range(1000000) b'))
  await waitFor('the statement to be interrupted', () => {
    told.end(reason)
    return busy.closed
  })
  const errors = (await busy.untilClosed()).filter(({ type }) => type === 'E')
  assert.equal(
    errors.map((error) => errorFields(error).C),
    ['25P03'],
  )
})

test('more than the socket takes: 40 pipelined large results are all answered', async () => {
  client.send(...Array.from({ length: 40 }, (_, i) => query(`SELECT repeat('${i % 10}', 1000000) AS t`)))
  for (let i = 0; i < 40; i++) {
    const row = (await client.until('Z'))[1]!
    assert.is(row.body.length, 1_000_006)
    assert.is(row.body.at(-1), 0x30 + (i % 10))
  }
})

test.run()
