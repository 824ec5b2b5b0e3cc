// deadline: 180s
// Nobody is told, and nobody reads, what a crash could still take away (R1, R4): the journal's fsync is held up, and the engine is looked at meanwhile.

import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { rowsOf, TestEngine } from '../support/engine.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('durability')
const held = path.join(temporaryDirectory('held'), 'held')

/** `one`: the journal is given a transaction while DuckDB commits it. `many`: after that. */
const callers = ['many', 'one'] as const

/** An engine whose journal's fsync waits while `held` exists. */
async function withEngine(who: (typeof callers)[number], work: (engine: TestEngine) => Promise<void>): Promise<void> {
  const before = process.env.NODE_OPTIONS
  process.env.HELD_SYNC = held
  process.env.HELD_CALLERS = who
  process.env.NODE_OPTIONS = `--import=${pathToFileURL(path.join(import.meta.dirname, 'support/held-sync.ts')).href}`
  const engine = await TestEngine.start()
  try {
    await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR)')
    await work(engine)
  } finally {
    fs.rmSync(held, { force: true })
    fs.rmSync(`${held}.waits`, { force: true })
    await engine.kill()
    if (before === undefined) delete process.env.NODE_OPTIONS
    else process.env.NODE_OPTIONS = before
  }
}

/** Starts `write`; resolves when DuckDB has committed it and its fsync waits. */
async function untilHeld(write: () => Promise<unknown>): Promise<{ written: Promise<unknown> }> {
  fs.writeFileSync(held, '')
  const written = write()
  written.catch(() => {})
  await waitFor('the fsync waits', () => fs.existsSync(`${held}.waits`), { every: 2 })
  return { written }
}

/** Whether `promise` settles while the engine answers its control socket again and again. */
async function settles(promise: Promise<unknown>, engine: TestEngine): Promise<boolean> {
  let settled = false
  promise.then(
    () => {
      settled = true
    },
    () => {
      settled = true
    },
  )
  for (let i = 0; i < 100 && !settled; i++) await engine.control.status()
  return settled
}

const writes: [string, (client: pg.Client) => Promise<unknown>][] = [
  ['an INSERT', (client) => client.query("INSERT INTO t VALUES (1, 'x')")],
  ['an INSERT by the write buffer', (client) => client.query('INSERT INTO t VALUES ($1, $2)', [1, 'x'])],
  ['COMMIT', (client) => client.query("BEGIN; INSERT INTO t VALUES (1, 'x'); COMMIT")],
]

for (const who of callers) {
  const by = who === 'one' ? ', beside DuckDB’s commit' : ''
  for (const [what, write] of writes) {
    test(`${what} is not acknowledged, and its row not shown, before the fsync${by}`, () =>
      withEngine(who, async (engine) => {
        const [writer, reader, other] = await Promise.all([engine.connect(), engine.connect(), engine.connect()])
        const { written } = await untilHeld(() => write(writer))
        const read = rowsOf(reader, 'SELECT id FROM t')
        const failed = other.query("INSERT INTO t VALUES (1, 'twice')")
        // That a key exists is a fact that a crash could take away as well.
        assert.equal(await Promise.all([settles(written, engine), settles(read, engine), settles(failed, engine)]), [false, false, false])
        fs.rmSync(held)
        await written
        assert.equal(await read, [['1']])
        assert.is(await failed.then(String, (error) => error.code), '23505')
        await engine.restart()
        assert.equal(await engine.sql('SELECT id FROM t'), [['1']])
      }))
  }

  test(`a row that a crash takes away was shown to nobody${by}`, () =>
    withEngine(who, async (engine) => {
      const [writer, reader] = await Promise.all([engine.connect(), engine.connect()])
      const { written } = await untilHeld(() => writer.query("INSERT INTO t VALUES (1, 'x')"))
      const read = rowsOf(reader, 'SELECT id FROM t')
      assert.is(await settles(read, engine), false)
      await engine.kill()
      assert.is(await written.then(() => 'acknowledged').catch(() => 'cut off'), 'cut off')
      assert.is(await read.then(() => 'answered').catch(() => 'cut off'), 'cut off')
      fs.rmSync(held)
      await engine.start()
      // All of it, or nothing.
      assert.ok((await engine.sql('SELECT id FROM t')).length <= 1)
    }))

  test(`a checkpoint waits for the fsync of what it would hold${by}`, () =>
    withEngine(who, async (engine) => {
      const writer = await engine.connect()
      const before = fs.readFileSync(engine.database)
      const { written } = await untilHeld(() => writer.query("INSERT INTO t VALUES (1, 'x')"))
      const checkpoint = engine.control.checkpoint()
      checkpoint.catch(() => {})
      assert.is(await settles(checkpoint, engine), false)
      assert.is(Buffer.compare(before, fs.readFileSync(engine.database)), 0)
      fs.rmSync(held)
      await written
      assert.is((await checkpoint).watermark, 2)
    }))
}

test.run()
