// deadline: 300s
// Transactions that are larger than memory: in bounded memory, all of them or nothing. SOAK=1: 10 million rows and 1 GB of values in 1 GB.

import fs from 'node:fs'
import path from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { from as copyFrom } from 'pg-copy-streams'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, TestEngine } from '../support/engine.ts'
import { soak } from '../support/soak.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('large transactions')
const rows = soak ? 10_000_000 : 1_000_000
/** MB, of values of so many bytes. DuckDB needs memory for 2,048 of them, per thread (README, Limits). */
const copied = soak ? 1000 : 240
const valueBytes = soak ? 100_000 : 30_000
const memory = soak ? 1e9 : 512e6
/** For a replay. */
const patience = soak ? 600_000 : 120_000
const config = [`memory: ${memory / 1e6}MB`]

let engine: TestEngine

test.before(async () => {
  engine = await TestEngine.start({ engine: config })
})

// Each test replays its own transactions only.
test.after.each(async () => {
  await engine.control.checkpoint()
})

test.after(async () => {
  await engine.kill()
})

const spills = () => fs.readdirSync(path.join(engine.data, 'journal')).filter((name) => name.endsWith('.dgs'))

/** The highest resident memory that the engine has had since its start, in bytes (proc_pid_status(5)). */
function peak(): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${engine.pid}/status`, 'utf8'))?.[1]) * 1024
}

function assertBounded(what: string): void {
  process.stdout.write(`[${what}: ${Math.round(peak() / 1e6)} MB] `)
  assert.ok(peak() < memory, `${what}: the engine took ${Math.round(peak() / 1e6)} MB of ${memory / 1e6}`)
}

const digest = (table: string) => engine.sql(`SELECT count(*), sum(hash(COLUMNS(*)))::VARCHAR FROM ${table}`)

test('millions of rows are inserted, updated and deleted in bounded memory, and replayed in bounded memory', async () => {
  await engine.sql('CREATE TABLE trades (id BIGINT PRIMARY KEY, side INTEGER, price DOUBLE, note VARCHAR)')
  await engine.sql(`INSERT INTO trades SELECT i, i % 1000, i * 0.5, 'trade ' || i FROM range(${rows}) r(i)`)
  await engine.sql(`UPDATE trades SET price = price + 1 WHERE id < ${rows / 2}`)
  await engine.sql(`DELETE FROM trades WHERE id < ${rows / 4}`)
  // Keys that change, which RETURNING would hold in memory.
  await engine.sql(`UPDATE trades SET id = id + ${rows} WHERE id < ${rows / 2}`)
  assertBounded('written')
  assert.ok(spills().length >= 2, 'they were spilled')
  const live = await digest('trades')
  assert.is(live[0]?.[0], String(rows - rows / 4))
  await engine.restart(patience)
  assertBounded('replayed')
  assert.equal(engine.control.hello.recovery.refused, [])
  assert.equal(await digest('trades'), live)
})

test('large values, by COPY and by INSERT … SELECT, go through in bounded memory, and are replayed in bounded memory', async () => {
  const count = (copied * 1e6) / valueBytes
  await engine.sql('CREATE TABLE documents (id INTEGER, body VARCHAR)')
  const client = await engine.connect()
  const value = 'x'.repeat(valueBytes)
  const lines = function* () {
    for (let id = 0; id < count; id++) yield Buffer.from(`${id}\t${id}${value}\n`)
  }
  await pipeline(Readable.from(lines()), client.query(copyFrom('COPY documents FROM STDIN')))
  await client.end()
  assertBounded('copied')
  const live = await digest('documents')
  assert.is(live[0]?.[0], String(count))
  await engine.restart(patience)
  assertBounded('copied, replayed')
  assert.equal(await digest('documents'), live)
  await engine.control.checkpoint()
  assertBounded('checkpointed')
  await engine.sql('DROP TABLE documents', 'CREATE TABLE documents (id INTEGER, body VARCHAR)')
  await engine.sql(`INSERT INTO documents SELECT i, i || repeat('x', ${valueBytes}) FROM range(${count}) r(i)`)
  assertBounded('inserted')
  await engine.restart(patience)
  assertBounded('inserted, replayed')
  assert.equal(await digest('documents'), live)
})

test('keys and unique values that move within one statement are replayed, though it spans many parts', async () => {
  const count = 20_000
  await engine.sql('CREATE TABLE places (id BIGINT PRIMARY KEY, rank BIGINT UNIQUE, note VARCHAR)')
  await engine.sql(`INSERT INTO places SELECT i, i, repeat('n', 600) || i FROM range(${count}) r(i)`)
  await engine.sql(`UPDATE places SET rank = rank + ${count}`)
  await engine.sql(`UPDATE places SET id = id + ${count}`)
  await engine.sql(`INSERT INTO places SELECT id - ${count}, rank - ${count}, note FROM places ON CONFLICT DO NOTHING`)
  const live = await digest('places')
  await engine.restart(patience)
  assert.equal(engine.control.hello.recovery.refused, [])
  assert.equal(await digest('places'), live)
})

test('rolled back, failed or killed in the middle, such a transaction leaves no trace', async () => {
  await engine.sql('CREATE TABLE gone (id BIGINT PRIMARY KEY, note VARCHAR)')
  const before = spills()
  const fill = `INSERT INTO gone SELECT i, repeat('n', 100) || i FROM range(200000) r(i)`
  const client = await engine.connect()
  await client.query('BEGIN')
  await client.query(fill)
  assert.is(spills().length, before.length + 1)
  await client.query('ROLLBACK')
  assert.equal(spills(), before)
  await client.query('BEGIN')
  await client.query(fill)
  assert.is(await codeOf(client.query('INSERT INTO gone VALUES (7, NULL)')), '23505')
  assert.equal(spills(), before)
  await client.query('ROLLBACK')
  assert.equal(await engine.sql('SELECT count(*) FROM gone'), [['0']])

  void client.query(`INSERT INTO gone SELECT i, repeat('n', 100) || i FROM range(2000000) r(i)`).catch(() => {})
  await waitFor('it spills', () => spills().length > before.length, { deadline: 60_000, every: 1 })
  await engine.restart(patience)
  assert.equal(spills(), before)
  assert.equal(await engine.sql('SELECT count(*) FROM gone'), [['0']])
  const { recovery } = engine.control.hello
  assert.equal([recovery.gaps, recovery.quarantined, recovery.refused], [[], [], []])
})

test('several statements of one transaction, those before it spills and those after, stay in order', async () => {
  await engine.sql('CREATE TABLE steps (id BIGINT PRIMARY KEY, note VARCHAR)')
  const client = await engine.connect()
  await client.query('BEGIN')
  await client.query("INSERT INTO steps VALUES (-1, 'first')")
  await client.query("INSERT INTO steps SELECT i, repeat('n', 100) || i FROM range(150000) r(i)")
  await client.query("INSERT INTO steps SELECT i + 1000000, 'second ' || i FROM range(100) r(i)")
  await client.query("UPDATE steps SET note = 'changed' WHERE id BETWEEN -1 AND 70000")
  await client.query('DELETE FROM steps WHERE id BETWEEN 60000 AND 140000')
  await client.query("INSERT INTO steps VALUES (65000, 'again')")
  await client.query('COMMIT')
  const live = await digest('steps')
  assert.is(live[0]?.[0], String(1 + 150_000 + 100 - 80_001 + 1))
  await engine.restart(patience)
  assert.equal(engine.control.hello.recovery.refused, [])
  assert.equal(await digest('steps'), live)
})

test.run()
