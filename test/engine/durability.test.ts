// deadline: 180s
// Nobody is told, and nobody reads, what a crash could still take away (R1, R4): the journal's fsync is held up, and the engine is looked at meanwhile.

import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { rowsOf, TestEngine } from '../support/engine.ts'
import { sourceCommand } from '../support/program.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { countOf, notingSteps } from './support/step-notes.ts'

const test = suite('durability')
const held = path.join(temporaryDirectory('held'), 'held')
const notes = `${held}.steps`

/** `one`: the journal is given a transaction while DuckDB commits it. `many`: after that. */
const callers = ['many', 'one'] as const

/** An engine whose journal's fsync waits while `held` exists. */
async function withEngine(who: (typeof callers)[number], work: (engine: TestEngine) => Promise<void>): Promise<void> {
  const noting = notingSteps(notes, 'TOGETHER:')
  const engine = await TestEngine.prepare()
  engine.program = sourceCommand()
  engine.env = {
    ...noting,
    HELD_SYNC: held,
    HELD_CALLERS: who,
    NODE_OPTIONS: `${noting.NODE_OPTIONS} --import=${pathToFileURL(path.join(import.meta.dirname, 'support/held-sync.ts')).href}`,
  }
  await engine.start()
  try {
    await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR)')
    await work(engine)
  } finally {
    fs.rmSync(held, { force: true })
    fs.rmSync(`${held}.waits`, { force: true })
    await engine.kill()
  }
}

/** Starts `write`; resolves when DuckDB has committed it and its fsync waits. */
async function untilHeld(write: () => Promise<unknown>): Promise<{ written: Promise<unknown> }> {
  // What waited before has gone on.
  fs.rmSync(`${held}.waits`, { force: true })
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
  ['an upsert', (client) => client.query('INSERT OR REPLACE INTO t VALUES ($1, $2)', [1, 'x'])],
  ['an upsert with its values in the text', (client) => client.query("INSERT OR REPLACE INTO t VALUES (1, 'x')")],
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

  test(`a statement of which DuckDB has not been told is answered meanwhile, and nothing that tells of the database${by}`, () =>
    withEngine(who, async (engine) => {
      const [writer, client] = await Promise.all([engine.connect(), engine.connect()])
      const insert = (id: number) => client.query({ name: 'insert', text: 'INSERT INTO t VALUES ($1, $2)', values: [id, 'x'] })
      const update = (id: number) => client.query({ name: 'update', text: 'UPDATE t SET v = $1 WHERE id = $2', values: ['y', id] })
      const begin = () => client.query({ name: 'begin', text: 'BEGIN' })
      const commit = () => client.query({ name: 'commit', text: 'COMMIT' })
      let id = 100
      await waitFor('a transaction is held back', async () => {
        const before = countOf(notes, 'TOGETHER:COMMIT')
        await begin()
        await insert(id++)
        await update(100)
        await commit()
        return countOf(notes, 'TOGETHER:COMMIT') > before
      })
      const { written } = await untilHeld(() => writer.query("INSERT INTO t VALUES (1, 'x')"))
      await begin()
      await insert(id)
      await update(100)
      const ended = commit()
      assert.is(await settles(ended, engine), false)
      fs.rmSync(held)
      await Promise.all([written, ended])
      const second = await untilHeld(() => writer.query("INSERT INTO t VALUES (2, 'x')"))
      await begin()
      await insert(id + 1)
      // It has been read again, with whatever had been committed.
      const read = update(1)
      assert.is(await settles(read, engine), false)
      fs.rmSync(held)
      await Promise.all([second.written, read])
      await commit()
      const third = await untilHeld(() => update(100))
      assert.is(await settles(third.written, engine), false)
      fs.rmSync(held)
      await third.written
      await engine.restart()
      assert.equal(await engine.sql(`SELECT id, v FROM t WHERE id IN (1, 2, 100, ${id}, ${id + 1}) ORDER BY id`), [
        ['1', 'y'],
        ['2', 'x'],
        ['100', 'y'],
        [String(id), 'x'],
        [String(id + 1), 'x'],
      ])
    }))

  test(`a row that the schema allows since a commit is not told of before the fsync of that${by}`, () =>
    withEngine(who, async (engine) => {
      const [owner, client] = await Promise.all([engine.connect(), engine.connect()])
      await owner.query('CREATE TABLE keyless (a INTEGER, b INTEGER NOT NULL)')
      const insert = (b: number | null) => client.query({ name: 'insert', text: 'INSERT INTO keyless VALUES ($1, $2)', values: [1, b] })
      await client.query('BEGIN')
      await insert(1)
      await client.query('ROLLBACK')
      const { written } = await untilHeld(() => owner.query('ALTER TABLE keyless ALTER b DROP NOT NULL'))
      await client.query('BEGIN')
      const told = insert(null)
      assert.is(await settles(told, engine), false)
      fs.rmSync(held)
      await Promise.all([written, told])
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
