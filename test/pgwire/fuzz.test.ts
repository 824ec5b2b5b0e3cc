/** Broken and hostile bytes end their own connection, never the process, and leave no session behind. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { MessageReader } from '../../agent/engine/pgwire/messages.ts'
import {
  bind,
  close,
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
  type Wire,
} from '../fixtures/wire.ts'
import { seededRandom } from '../support/random.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('fuzz')
let wire: Wire
let witness: RawClient
const rejections: unknown[] = []

test.before(async () => {
  process.on('unhandledRejection', (error) => rejections.push(error))
  wire = await startWire({ maxConnections: 50, startupTimeout: 2_000 })
  witness = await RawClient.ready(wire.port)
})
test.after(() => wire.stop())
test.after.each(async () => {
  witness.send(query('SELECT 1'))
  assert.equal(rowValues((await witness.until('Z'))[1]!), ['1'])
  await waitFor('all other sessions to end', () => wire.backend.sessions.size === 1 && wire.listener.sessionCount === 1)
  assert.equal(rejections, [])
})

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

test('each breach of the framing gets FATAL 08P01', async () => {
  const breaches: Buffer[] = [
    Buffer.concat([Buffer.from('Q'), u32(3)]),
    Buffer.concat([Buffer.from('Q'), u32(0)]),
    Buffer.concat([Buffer.from('Q'), u32(0x4000_0001)]),
    Buffer.concat([Buffer.from('Q'), u32(0xffff_ffff)]),
    Buffer.concat([Buffer.from('S'), u32(10_001)]),
    Buffer.from('%'),
    Buffer.from([0]),
    message('S', (w) => w.uint8(1)),
    message('Q', (w) => w.utf8('no terminator')),
    message('Q', (w) => {
      w.cstring('SELECT 1')
      w.cstring('more')
    }),
    message('P', (w) => {
      w.cstring('')
      w.cstring('SELECT 1')
      w.int16(-1)
    }),
    message('B', (w) => {
      w.cstring('')
      w.cstring('')
      w.int16(1)
      w.int16(7)
      w.int16(0)
      w.int16(0)
    }),
    message('B', (w) => {
      w.cstring('')
      w.cstring('')
      w.int16(0)
      w.int16(1)
      w.int32(-2)
      w.int16(0)
    }),
    message('D', (w) => {
      w.uint8(0x58)
      w.cstring('')
    }),
    message('E', (w) => w.cstring('')),
    message('p', (w) => w.cstring('secret')),
    Buffer.concat([query('CREATE OR REPLACE TABLE z (a INT)'), query('COPY z FROM STDIN'), query('SELECT 1')]),
  ]
  for (const breach of breaches) {
    const client = await RawClient.ready(wire.port)
    client.send(breach)
    const fields = errorFields((await client.untilClosed()).at(-1))
    assert.equal([fields.C, fields.V], ['08P01', 'FATAL'], breach.toString('latin1'))
  }
})

test('a conversation cut off anywhere leaves nothing behind', async () => {
  const conversation = Buffer.concat([
    startup(),
    query('BEGIN'),
    parse('s', 'SELECT $1::INTEGER', [23]),
    bind('p', 's', ['1']),
    describe('P', 'p'),
    execute('p', 1),
    sync,
    query('CREATE OR REPLACE TEMP TABLE cut (a INT)'),
    query('COPY cut FROM STDIN'),
    message('d', (w) => w.utf8('1\n2\n')),
    message('c'),
    query('COMMIT'),
  ])
  const random = seededRandom('cuts')
  const cuts = Array.from({ length: 120 }, () => random.int(0, conversation.length))
  await inParallel(cuts, async (cut) => {
    const client = await RawClient.connect(wire.port)
    client.send(conversation.subarray(0, cut))
    random.chance(0.5) ? client.socket.end() : client.destroy()
    await client.untilClosed()
  })
})

test('mutated conversations end in answers or in a protocol error', async () => {
  const random = seededRandom('mutants')
  const good = () =>
    random.pick([
      query('SELECT 1'),
      query(`SELECT 'x' FROM range(10)`),
      parse('', 'SELECT $1::INTEGER', [23]),
      parse('a', 'SELECT $1::VARCHAR'),
      bind('', '', ['1']),
      bind('', 'a', [Buffer.from('x')], [1], [1]),
      bind('p', '', ['7']),
      describe('P', ''),
      describe('S', 'a'),
      execute(''),
      execute('p', 1),
      close('P', 'p'),
      close('S', 'a'),
      sync,
      message('H'),
      message('d', (w) => w.utf8('1\n')),
      message('c'),
      message('f', (w) => w.cstring('no')),
      query('CREATE OR REPLACE TEMP TABLE f (a INT); COPY f FROM STDIN'),
      query('BEGIN'),
      query('ROLLBACK'),
      message('F', (w) => w.int32(1)),
    ])
  const mutate = (bytes: Buffer) => {
    const copy = Buffer.from(bytes)
    switch (random.int(0, 5)) {
      case 0:
        copy[random.int(0, copy.length - 1)] = random.int(0, 255)
        return copy
      case 1:
        return copy.subarray(0, random.int(0, copy.length))
      case 2:
        return Buffer.concat([copy, random.bytes(random.int(1, 20))])
      default:
        return copy
    }
  }
  await inParallel(Array.from({ length: 300 }), async () => {
    const client = await RawClient.connect(wire.port)
    client.send(mutate(startup()))
    const messages = Array.from({ length: random.int(1, 25) }, () => (random.chance(0.3) ? mutate(good()) : good()))
    const bytes = Buffer.concat(messages)
    for (let at = 0; at < bytes.length; ) {
      const end = at + random.int(1, bytes.length)
      client.send(bytes.subarray(at, end))
      at = end
    }
    client.socket.end()
    const answers = await client.untilClosed()
    for (const answer of answers) {
      if (answer.type !== 'E') continue
      const { C: code } = errorFields(answer)
      assert.ok(code !== undefined && code !== 'XX000', `${errorFields(answer).M}`)
    }
  })
})

test('random bytes', async () => {
  const random = seededRandom('garbage')
  await inParallel(Array.from({ length: 200 }), async (_, i) => {
    const client = i % 2 === 0 ? await RawClient.connect(wire.port) : await RawClient.ready(wire.port)
    client.send(Buffer.from(random.bytes(random.int(1, 300))))
    client.socket.end()
    await client.untilClosed()
  })
})

test('a huge length announced is not reserved before the bytes come', async () => {
  const before = process.memoryUsage().arrayBuffers
  const clients = await Promise.all(Array.from({ length: 20 }, () => RawClient.ready(wire.port)))
  for (const client of clients) client.send(Buffer.concat([Buffer.from('Q'), u32(0x3fff_ffff), Buffer.from('SELECT')]))
  witness.send(query('SELECT 1'))
  await witness.until('Z')
  assert.ok(process.memoryUsage().arrayBuffers - before < 50e6)
  for (const client of clients) client.destroy()
})

test('the reader finds the same messages however the bytes are cut', () => {
  const random = seededRandom('reader')
  for (let round = 0; round < 200; round++) {
    const texts = Array.from({ length: random.int(1, 30) }, () =>
      'q'.repeat(random.chance(0.1) ? random.int(0, 40_000) : random.int(0, 40)),
    )
    const bytes = Buffer.concat(texts.map(query))
    const reader = new MessageReader()
    const found: string[] = []
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, at + random.int(1, random.pick([3, 50, 20_000])))
      reader.push(Buffer.from(bytes.subarray(at, end)))
      at = end
      // Sometimes the messages are left for later, as behind a running statement.
      if (random.chance(0.3) && at < bytes.length) continue
      while (reader.next() !== 0) {
        found.push(reader.cstring())
        reader.finish()
      }
    }
    assert.equal(found, texts)
    assert.is(reader.buffered, 0)
  }
})

test('startup packets of every length and code are answered or refused', async () => {
  const random = seededRandom('startup')
  await inParallel(Array.from({ length: 100 }), async () => {
    const client = await RawClient.connect(wire.port)
    const code = random.pick([3 << 16, (3 << 16) + 9999, 80877102, 80877103, 80877104, 80877105, random.int(0, 2 ** 31 - 1)])
    client.send(startupPacket(code, (w) => w.bytes(random.bytes(random.int(0, 60)))))
    client.socket.end()
    await client.untilClosed()
  })
})

async function inParallel<T>(items: readonly T[], work: (item: T, index: number) => Promise<void>): Promise<void> {
  const queue = items.entries()
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (const [index, item] of queue) await work(item, index)
    }),
  )
}

test.run()
