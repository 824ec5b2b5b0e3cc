// deadline: 120s
// needs: io-uring, openssl
/** Answers of many clients that leave in one call into the kernel: each client gets its own, whole and in order, whatever the others do. */

import { once } from 'node:events'
import net from 'node:net'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { BatchSender } from '../../agent/engine/pgwire/batch-sender.ts'
import { Outbox } from '../../agent/engine/pgwire/outbox.ts'
import { mostBytes, mostSends, SendRing } from '../../agent/engine/pgwire/send-ring.ts'
import { descriptorOf } from '../../agent/engine/socket-descriptor.ts'
import { silentLog } from '../../agent/log.ts'
import { Authority } from '../support/certificates.ts'
import { rowsOf, TestEngine } from '../support/engine.ts'
import { carriedOut } from '../support/io-uring.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('batch sender')

const EAGAIN = -11
const EPIPE = -32
const EBADF = -9
const file = path.join(temporaryDirectory('s'), 's')
const arrivals: net.Socket[] = []
const server = net.createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {})
  arrivals.push(socket)
})
const sender = new BatchSender(silentLog)

test.before(async () => {
  server.listen(file)
  await once(server, 'listening')
})
test.after(() => {
  server.close()
})

/** One client over a Unix socket. */
class Pair {
  readonly far: net.Socket
  readonly near: net.Socket
  readonly outbox: Outbox
  /** What it was to be sent, and what has come. */
  expected: Buffer[] = []
  received: Buffer[] = []
  /** Opens its next flushes. */
  gate = Promise.withResolvers<void>()

  private constructor(near: net.Socket, far: net.Socket) {
    this.near = near
    this.far = far
    far.on('data', (data) => this.received.push(data))
    this.outbox = new Outbox(near, sender, { cut: () => near.destroy(), room: () => {} })
  }

  static async connect(): Promise<Pair> {
    const far = net.connect(file)
    far.on('error', () => {})
    await waitFor('the connection is accepted', () => arrivals.length > 0, { every: 1 })
    return new Pair(arrivals.shift() as net.Socket, far)
  }

  /** Flushes a message behind its gate. */
  say(text: Uint8Array): void {
    this.outbox.barrier = () => this.gate.promise
    this.#flush(text)
  }

  /** Flushes one that nothing holds up. */
  sayNow(text: Uint8Array): void {
    this.outbox.barrier = () => undefined
    this.#flush(text)
  }

  #flush(text: Uint8Array): void {
    const { writer } = this.outbox
    writer.begin(0x64)
    writer.bytes(text)
    writer.finish()
    const header = Buffer.alloc(5, 0x64)
    header.writeInt32BE(text.length + 4, 1)
    this.expected.push(header, Buffer.from(text))
    this.outbox.flush()
  }

  get missing(): number {
    return sizeOf(this.expected) - sizeOf(this.received)
  }

  async hasAll(): Promise<void> {
    await waitFor('all of it has come', () => this.missing <= 0, { every: 1 })
    assert.ok(Buffer.concat(this.received).equals(Buffer.concat(this.expected)), 'the bytes that were sent, in order')
    this.expected = []
    this.received = []
  }

  end(): void {
    this.far.destroy()
    this.near.destroy()
  }
}

async function connectAll(count: number): Promise<Pair[]> {
  const pairs: Pair[] = []
  for (let i = 0; i < count; i++) pairs.push(await Pair.connect())
  return pairs
}

/** Lets all that is held go, by the same fsync, as it were. */
function open(pairs: readonly Pair[]): void {
  for (const pair of pairs) {
    pair.gate.resolve()
    pair.gate = Promise.withResolvers()
  }
}

function sizeOf(parts: readonly Buffer[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0)
}

function message(random: Random): Uint8Array {
  return random.bytes(random.chance(0.1) ? random.int(mostBytes - 10, 40_000) : random.int(0, 60))
}

test('clients get their own bytes in order: one message or several, long ones among them, held up and not', async () => {
  const random = seededRandom('batches')
  const pairs = await connectAll(3 * mostSends + 5)
  const before = carriedOut(process.pid) ?? 0
  let answers = 0
  for (let round = 0; round < 20; round++) {
    for (const pair of pairs) {
      if (random.chance(0.3)) continue
      answers++
      for (let i = random.int(1, 3); i > 0; i--) pair.say(message(random))
      if (random.chance(0.2)) pair.sayNow(message(random))
    }
    open(pairs)
    if (random.chance(0.5)) await Promise.resolve()
    for (const pair of pairs) if (random.chance(0.2)) pair.sayNow(message(random))
    if (random.chance(0.5)) await Promise.all(pairs.map((pair) => pair.hasAll()))
  }
  await Promise.all(pairs.map((pair) => pair.hasAll()))
  const sent = (carriedOut(process.pid) ?? 0) - before
  assert.ok(sent > answers / 2 && sent <= answers, `${sent} of ${answers} answers have left through the ring`)
  for (const pair of pairs) pair.end()
})

test('who does not read gets the rest later, and holds up nobody', async () => {
  const random = seededRandom('slow readers')
  const pairs = await connectAll(6)
  const [lazy, ...others] = pairs as [Pair, ...Pair[]]
  lazy.far.pause()
  // Until the kernel takes no more of it, and then as much again.
  while (lazy.near.writableLength < 300_000) {
    for (const pair of pairs) pair.say(random.bytes(random.int(100, mostBytes - 5)))
    open(pairs)
    await Promise.all(others.map((pair) => pair.hasAll()))
  }
  assert.ok(lazy.outbox.full)
  lazy.far.resume()
  // What comes while it catches up waits behind what the socket still has.
  while (lazy.near.writableLength > 0) {
    for (const pair of pairs) pair.say(random.bytes(random.int(0, 20)))
    open(pairs)
    await new Promise(setImmediate)
  }
  await Promise.all(pairs.map((pair) => pair.hasAll()))
  for (const pair of pairs) pair.say(Buffer.from('as before'))
  open(pairs)
  await Promise.all(pairs.map((pair) => pair.hasAll()))
  for (const pair of pairs) pair.end()
})

test('who has gone, or goes in that moment, takes nothing from the others', async () => {
  const pairs = await connectAll(8)
  const [far, near, closed, ...others] = pairs as [Pair, Pair, Pair, ...Pair[]]
  for (const pair of pairs) pair.say(Buffer.from(`answer ${pairs.indexOf(pair)}`))
  far.far.destroy()
  await once(far.near, 'end')
  open(pairs)
  near.near.destroy()
  closed.outbox.close()
  await Promise.all(others.map((pair) => pair.hasAll()))
  await waitFor('the lost connections are closed', () => far.near.destroyed && near.near.destroyed)
  for (const pair of pairs) pair.end()
})

test('the end of a connection comes after its last answer', async () => {
  const pairs = await connectAll(3)
  for (const pair of pairs) {
    pair.say(Buffer.from('the last word'))
    pair.outbox.end()
  }
  const ends = pairs.map(({ far }) => once(far, 'end'))
  open(pairs)
  await Promise.all(ends)
  await Promise.all(pairs.map((pair) => pair.hasAll()))
  for (const pair of pairs) pair.end()
})

test('after the end nothing more is sent', async () => {
  const pairs = await connectAll(3)
  const [ended, ...others] = pairs as [Pair, ...Pair[]]
  const end = once(ended.far, 'end')
  ended.sayNow(Buffer.from('the last word'))
  ended.outbox.end()
  const expected = Buffer.concat(ended.expected)
  for (const pair of pairs) pair.say(Buffer.from('one more'))
  open(pairs)
  await Promise.all(others.map((pair) => pair.hasAll()))
  await end
  assert.equal(Buffer.concat(ended.received), expected)
  for (const pair of pairs) pair.end()
})

test('the ring tells what became of each: bytes, or the error', async () => {
  const ring = new SendRing()
  const pairs = await connectAll(3)
  const [open, full, lost] = pairs as [Pair, Pair, Pair]
  full.far.pause()
  lost.far.destroy()
  await once(lost.near, 'end')
  const bytes = Buffer.alloc(mostBytes, 'x')
  const send = ({ near }: Pair) => ({ fd: descriptorOf(near), bytes })
  // A paused socket of Node's still fills its buffer.
  await waitFor('its kernel takes no more', () => {
    while (ring.send([send(full)])[0] === mostBytes);
    return full.far.readableLength >= full.far.readableHighWaterMark
  })
  assert.is(ring.send([send(full)])[0], EAGAIN)
  // Over the end of the ring as well.
  for (let i = 0; i < mostSends; i++) {
    assert.equal(ring.send([send(open), send(full), send(lost), { fd: 1_000_000, bytes }]), [mostBytes, EAGAIN, EPIPE, EBADF])
    await waitFor('it has come', () => sizeOf(open.received) === (i + 1) * mostBytes, { every: 1 })
  }
  for (const pair of pairs) pair.end()
})

test('clients of an engine, encrypted and not, are all told of what they have written', async () => {
  const authority = new Authority()
  const { cert, key } = authority.issue()
  const engine = await TestEngine.start({ engine: [`tls: { cert: ${cert}, key: ${key} }`] })
  try {
    await engine.sql('CREATE TABLE t (client INTEGER, n INTEGER, PRIMARY KEY (client, n))')
    const [clients, rows] = [16, 50]
    const write = async (client: number) => {
      const connection = await engine.connect(client % 2 === 0 ? {} : { ssl: { rejectUnauthorized: false } })
      for (let n = 0; n < rows; n++) await connection.query('INSERT INTO t VALUES ($1, $2)', [client, n])
      assert.equal(await rowsOf(connection, 'SELECT count(*) FROM t WHERE client = $1', [client]), [[String(rows)]])
    }
    await Promise.all(Array.from({ length: clients }, (_, client) => write(client)))
    assert.equal(await engine.sql('SELECT count(*) FROM t'), [[String(clients * rows)]])
    assert.ok((carriedOut(engine.pid) ?? 0) > rows, `${carriedOut(engine.pid)} answers have left through the ring`)
  } finally {
    await engine.kill()
  }
})

test.run()
