// deadline: 180s
// Back-pressure: a client that does not read, or reads slowly, or asks much ahead of its reading, costs the engine no memory.

import net from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { query, startupPacket } from '../fixtures/wire.ts'
import { TestEngine } from '../support/engine.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('back-pressure')
let engine: TestEngine

/** What garbage collection leaves lying about for a while; far less than what would be produced without back-pressure. */
const allowed = 128 * 2 ** 20

test.before(async () => {
  engine = await TestEngine.start()
  // What the first queries cost once.
  await engine.sql("SELECT count(*) FROM (SELECT repeat('x', 1000) FROM range(200000))")
  for (let i = 0; i < 3; i++) await busy()
})
test.after(() => engine.kill())

/** A client that reads only when told to. */
async function connect(): Promise<net.Socket> {
  const socket = net.connect(engine.port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(
    startupPacket(3 << 16, (writer) => {
      for (const text of ['user', 'trader', 'database', 'trade_data']) writer.cstring(text)
      writer.uint8(0)
    }),
  )
  await new Promise((resolve) => socket.once('data', resolve))
  socket.pause()
  return socket
}

/** Another client's work, through every part that the first one's answer would go through: 100 MB. */
async function busy(): Promise<void> {
  const socket = await connect()
  await takes(socket, "SELECT repeat('y', 1000) FROM range(100000)")
  socket.destroy()
}

/** Asks, and reads the answer to its end; resolves with its bytes. */
function takes(socket: net.Socket, sql: string): Promise<number> {
  socket.write(query(sql))
  return new Promise((resolve) => {
    let bytes = 0
    const end = Buffer.from([0x5a, 0, 0, 0, 5])
    const onData = (data: Buffer) => {
      bytes += data.length
      if (!data.subarray(-6, -1).equals(end)) return
      socket.off('data', onData)
      socket.pause()
      resolve(bytes)
    }
    socket.on('data', onData)
    socket.resume()
  })
}

async function memory(): Promise<number> {
  const { memoryBytes } = await engine.control.status()
  process.stdout.write(`[${Math.round(memoryBytes / 2 ** 20)} MB] `)
  return memoryBytes
}

for (const [what, sql] of [
  ['a query', "SELECT repeat('x', 1000) FROM range(10000000)"],
  ['COPY TO STDOUT', "COPY (SELECT repeat('x', 1000) FROM range(10000000)) TO STDOUT"],
] as const) {
  test(`a client that does not read the 10 GB of ${what}`, async () => {
    const before = await memory()
    const idle = await connect()
    idle.write(query(sql))
    await busy()
    assert.ok((await memory()) - before < allowed, `${before} before, ${await memory()} while nobody reads`)
    // It reads on for a while, and stops again.
    let read = 0
    idle.on('data', (data) => {
      read += data.length
      if (read > 50e6) idle.pause()
    })
    idle.resume()
    await waitFor('50 MB are read', () => read > 50e6, { deadline: 60_000 })
    await busy()
    assert.ok((await memory()) - before < allowed, `${before} before, ${await memory()} after 50 MB`)
    idle.destroy()
    await waitFor('its session has ended', async () => (await engine.control.status()).sessions === 0, { deadline: 60_000 })
  })
}

test('a client that asks 4,000 queries ahead gets every answer once it reads', async () => {
  const before = await memory()
  const count = 4_000
  const socket = await connect()
  socket.write(Buffer.concat(Array.from({ length: count }, () => query("SELECT repeat('x', 100000)"))))
  await busy()
  assert.ok((await memory()) - before < allowed, `${before} before, ${await memory()} while nobody reads`)
  let bytes = 0
  // RowDescription, DataRow, CommandComplete, ReadyForQuery
  const answer = 1 + 4 + 2 + "repeat('x', 100000)".length + 1 + 18 + (1 + 4 + 2 + 4 + 100_000) + (1 + 4 + 'SELECT 1'.length + 1) + 6
  socket.on('data', (data) => {
    bytes += data.length
  })
  socket.resume()
  await waitFor('every answer has come', () => bytes >= count * answer, { deadline: 120_000 })
  assert.is(bytes, count * answer)
  socket.destroy()
})

test.run()
