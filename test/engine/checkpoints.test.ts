// deadline: 300s
// The file changes only when the engine says so, and always says which seq it holds (R3).

import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Database } from '../../agent/engine/duckdb.ts'
import { ExitCode } from '../../agent/errors.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { runChild } from '../support/process.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('checkpoints')

async function withEngine(work: (engine: TestEngine) => Promise<void>, lines: string[] = []): Promise<void> {
  const engine = await TestEngine.start({ engine: lines })
  try {
    await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)', 'INSERT INTO t SELECT i, i FROM range(100) r(i)')
    await work(engine)
  } finally {
    await engine.kill()
  }
}

async function refusal(checkpoint: Promise<unknown>): Promise<string> {
  return checkpoint.then(
    () => 'it was made',
    (error: Error) => error.message,
  )
}

const sum = 'SELECT count(*), sum(v) FROM t'

test('a kill right after a checkpoint leaves nothing to replay', () =>
  withEngine(async (engine) => {
    const { watermark } = await engine.control.checkpoint()
    assert.is(watermark, 2)
    await engine.restart()
    const { recovery } = engine.control.hello
    assert.equal([recovery.watermark, recovery.replayed], [2, 0])
    await engine.sql('UPDATE t SET v = v + 1 WHERE id < 10')
    await engine.restart()
    assert.equal([engine.control.hello.recovery.watermark, engine.control.hello.recovery.replayed], [2, 1])
    assert.equal(await engine.sql(sum), [['100', '4960']])
    assert.equal(
      fs.readdirSync(engine.data).filter((name) => name.includes('.wal')),
      [],
    )
  }))

test('an old reader beside an update holds a checkpoint up, harmlessly', () =>
  withEngine(async (engine) => {
    const reader = await engine.connect()
    await reader.query('BEGIN')
    await reader.query(sum)
    await engine.sql('UPDATE t SET v = v + 1')
    assert.match(await refusal(engine.control.checkpoint()), /stand in the way/)
    await engine.sql('UPDATE t SET v = v + 1')
    await reader.query('COMMIT')
    assert.is((await engine.control.checkpoint()).watermark, 4)
    await engine.restart()
    assert.equal([engine.control.hello.recovery.watermark, engine.control.hello.recovery.replayed], [4, 0])
    assert.equal(await engine.sql(sum), [['100', '5150']])
  }))

test('an old reader beside inserts and deletes holds no checkpoint up: nothing of the guard’s is ever updated in place', () =>
  withEngine(async (engine) => {
    const reader = await engine.connect()
    await reader.query('BEGIN')
    await reader.query(sum)
    for (let i = 0; i < 3; i++) {
      await engine.sql(`INSERT INTO t VALUES (${200 + i}, 0)`, `DELETE FROM t WHERE id = ${i}`)
      assert.is((await engine.control.checkpoint()).watermark, 4 + 2 * i)
    }
    assert.equal(await rowsOf(reader, sum), [['100', '4950']])
    await engine.restart()
    assert.is(engine.control.hello.recovery.replayed, 0)
    assert.equal(await engine.sql(sum), [['100', '4947']])
  }))

test('a checkpoint waits for an open writer; reads go on meanwhile, and writers after it', () =>
  withEngine(async (engine) => {
    const [writer, next] = [await engine.connect(), await engine.connect()]
    await writer.query('BEGIN; INSERT INTO t VALUES (200, 0); DELETE FROM t WHERE id = 0')
    const checkpoint = engine.control.checkpoint()
    let made = false
    void checkpoint.then(() => {
      made = true
    })
    const later = next.query('INSERT INTO t VALUES (300, 0)')
    for (let i = 0; i < 20; i++) assert.equal(await engine.sql(sum), [['100', '4950']])
    assert.is(made, false)
    await writer.query('COMMIT')
    // It has waited first: what the later writer writes is not in it.
    assert.is((await checkpoint).watermark, 3)
    await later
    await engine.restart()
    assert.equal([engine.control.hello.recovery.watermark, engine.control.hello.recovery.replayed], [3, 1])
    assert.equal(await engine.sql('SELECT id FROM t WHERE id NOT BETWEEN 1 AND 99 ORDER BY id'), [['200'], ['300']])
  }))

test('a checkpoint that fails ends the engine, and the next one has every row', () =>
  withEngine(async (engine) => {
    await engine.sql('CREATE TABLE wide (id INTEGER PRIMARY KEY, v VARCHAR)')
    const insert = (from: number) =>
      engine.sql(`INSERT INTO wide SELECT i, repeat(md5(i::VARCHAR || random()), 20) FROM range(${from}, ${from + 20_000}) r(i)`)
    await insert(0)
    await engine.control.checkpoint()
    await insert(20_000)
    const size = fs.statSync(engine.database).size
    // The file cannot grow any more, as on a full disk.
    assert.is((await runChild('prlimit', ['--pid', String(engine.pid), `--fsize=${size}`])).code, 0)
    await refusal(engine.control.checkpoint())
    assert.is((await engine.exit()).code, ExitCode.suspect)
    await engine.start()
    assert.is(engine.control.hello.recovery.replayed, 1)
    assert.equal(await engine.sql('SELECT count(*), count(DISTINCT id) FROM wide'), [['40000', '40000']])
    await engine.control.checkpoint()
  }))

test('a refused checkpoint leaves the file as it was', () =>
  withEngine(async (engine) => {
    await engine.control.checkpoint()
    const reader = await engine.connect()
    await reader.query('BEGIN')
    await reader.query(sum)
    await engine.sql('UPDATE t SET v = v + 1')
    assert.match(await refusal(engine.control.checkpoint()), /stand in the way/)
    await engine.restart()
    assert.equal([engine.control.hello.recovery.watermark, engine.control.hello.recovery.replayed], [2, 1])
    assert.equal(await engine.sql(sum), [['100', '5050']])
  }))

test('a hold keeps checkpoints away until it is given back, or its connection ends', () =>
  withEngine(async (engine) => {
    const hold = await engine.control.hold()
    assert.match(await refusal(engine.control.checkpoint()), /holds checkpoints/)
    await hold.release()
    await engine.control.checkpoint()
    const holder = net.connect(path.join(engine.data, 'control.sock'))
    holder.write('{"id":1,"method":"hold"}\n')
    await waitFor('it holds', async () => /holds checkpoints/.test(await refusal(engine.control.checkpoint())))
    holder.destroy()
    await waitFor('the hold has ended with its connection', async () => (await refusal(engine.control.checkpoint())) === 'it was made')
  }))

test('an idle transaction is ended with 25P03, and no longer holds checkpoints up', () =>
  withEngine(
    async (engine) => {
      const idle = await engine.connect()
      let told: string | undefined
      idle.on('error', (error: Error & { code?: string }) => {
        told ??= error.code
      })
      await idle.query('BEGIN')
      await idle.query('UPDATE t SET v = 0')
      await waitFor('the idle client is told', () => told === '25P03')
      await engine.control.checkpoint()
      assert.equal(await engine.sql(sum), [['100', '4950']])
    },
    ['idle_in_transaction_timeout: 300ms'],
  ))

test('checkpoints under 8 writers keep every row that was acknowledged', () =>
  withEngine(async (engine) => {
    const random = seededRandom('checkpoints')
    const acknowledged = new Set<number>()
    let stopped = false
    const writer = async (n: number) => {
      const client = await engine.connect()
      for (let i = 0; !stopped; i++) {
        const id = 1_000 + i * 8 + n
        try {
          if (n < 4) await client.query('INSERT INTO t VALUES ($1, $2)', [id, 1])
          else {
            await client.query('BEGIN')
            await client.query(`INSERT INTO t VALUES (${id}, 0)`)
            await client.query(`UPDATE t SET v = 1 WHERE id = ${id}`)
            if (n === 7) await client.query(`DELETE FROM t WHERE id = ${id - 8}`)
            // From here on it may be gone.
            if (n === 7) acknowledged.delete(id - 8)
            await client.query('COMMIT')
          }
          acknowledged.add(id)
        } catch (error) {
          // Without an SQLSTATE it is the kill.
          if (/^[0-9A-Z]{5}$/.test((error as { code?: string }).code ?? '')) throw error
          return
        }
      }
    }
    const writers = Promise.all(Array.from({ length: 8 }, (_, n) => writer(n)))
    let made = 0
    for (let i = 0; i < 15; i++) if ((await refusal(engine.control.checkpoint())) === 'it was made') made++
    assert.ok(made > 0)
    const target = acknowledged.size + random.int(1, 50)
    await waitFor('the writers write on', () => acknowledged.size >= target, { every: 1 })
    await engine.kill()
    stopped = true
    await writers
    await engine.start()
    assert.equal(engine.control.hello.recovery.refused, [])
    const there = new Set((await engine.sql('SELECT id FROM t WHERE id >= 1000 AND v = 1')).map(([id]) => Number(id)))
    assert.equal(
      [...acknowledged].filter((id) => !there.has(id)),
      [],
    )
    assert.equal(await engine.sql('SELECT count(*) FROM t WHERE id >= 1000 AND v = 0'), [['0']])
  }))

test('an older file with its own watermark is taken and caught up', () =>
  withEngine(async (engine) => {
    await engine.control.checkpoint()
    const old = path.join(engine.data, '..', 'old.duckdb')
    fs.copyFileSync(engine.database, old)
    await engine.sql('UPDATE t SET v = 7', 'CREATE INDEX by_v ON t (v)', 'DELETE FROM t WHERE id > 50')
    await engine.control.checkpoint()
    await engine.sql('INSERT INTO t VALUES (500, 1)')
    const live = await engine.sql('SELECT * FROM t ORDER BY ALL')
    await engine.kill()
    fs.copyFileSync(old, engine.database)
    await engine.start()
    assert.equal([engine.control.hello.recovery.watermark, engine.control.hello.recovery.replayed], [2, 4])
    assert.equal(await engine.sql('SELECT * FROM t ORDER BY ALL'), live)
  }))

test('a file that another program has written to is refused with exit code 74', () =>
  withEngine(async (engine) => {
    await engine.control.checkpoint()
    await engine.kill()
    const instance = await DuckDBInstance.create(engine.database)
    const connection = await instance.connect()
    await connection.run('DELETE FROM t')
    await connection.run('CHECKPOINT')
    connection.closeSync()
    instance.closeSync()
    const child = engine.spawn()
    assert.is((await child.exited).code, 74)
    assert.match(child.output(), /written without DaemonGuard/)
  }))

test('a damaged file is refused with 74, a second engine with 75', () =>
  withEngine(async (engine) => {
    const second = await TestEngine.prepare({ data: engine.data })
    const child = second.spawn()
    assert.is((await child.exited).code, 75)
    assert.match(child.output(), new RegExp(String(engine.pid)))
    await engine.kill()
    fs.writeFileSync(engine.database, Buffer.alloc(300_000, 1))
    assert.is((await engine.spawn().exited).code, 74)
  }))

test('an ordered stop checkpoints or not as it is told; the file is never written on closing', () =>
  withEngine(async (engine) => {
    await engine.control.checkpoint()
    await engine.sql('UPDATE t SET v = 1')
    const before = fs.readFileSync(engine.database)
    await engine.control.shutdown({ checkpoint: false })
    assert.is((await engine.exit()).code, 0)
    assert.is(Buffer.compare(before, fs.readFileSync(engine.database)), 0)
    await engine.start()
    assert.is(engine.control.hello.recovery.replayed, 1)
    await engine.control.shutdown({ checkpoint: true })
    assert.is((await engine.exit()).code, 0)
    await engine.start()
    assert.is(engine.control.hello.recovery.replayed, 0)
    assert.equal(await engine.sql(sum), [['100', '100']])
  }))

test('closing the database writes nothing: what was not checkpointed is not in the file', async () => {
  const directory = temporaryDirectory('close')
  const options = { catalog: 'x', threads: 1, memoryLimit: 256e6, temporaryDirectory: directory, externalAccess: false }
  const file = path.join(directory, 'x.duckdb')
  for (const table of ['first', 'second']) {
    const database = await Database.open({ ...options, file, create: table === 'first' })
    const connection = await database.connect()
    await connection.run(`CREATE TABLE ${table} AS SELECT * FROM range(1000)`)
    if (table === 'first') await connection.run('CHECKPOINT x')
    const before = fs.readFileSync(file)
    connection.close()
    database.close()
    assert.is(Buffer.compare(before, fs.readFileSync(file)), 0)
  }
})

test('the database is there, whole, after DuckDB’s known traps', () =>
  withEngine(async (engine) => {
    await engine.sql(
      'CREATE TABLE parent (id INTEGER PRIMARY KEY, v INTEGER, w INTEGER)',
      'CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id))',
      'CREATE INDEX parent_w ON parent (w)',
      'INSERT INTO parent SELECT i, i, i FROM range(1000) r(i)',
      'INSERT INTO child SELECT i, i FROM range(1000) r(i)',
    )
    await engine.control.checkpoint()
    // An UPDATE of a referenced parent, with and without RETURNING.
    await engine.sql('UPDATE parent SET v = v + 500')
    assert.is((await engine.sql('UPDATE parent SET v = v + 500 RETURNING *')).length, 1000)
    await engine.sql('ALTER TABLE t ADD COLUMN stamp TIMESTAMP DEFAULT now()', "ALTER TABLE t ADD COLUMN up VARCHAR DEFAULT upper('x')")
    // Bulk delete and insert of the same keys in one transaction.
    await engine.sql('BEGIN', 'DELETE FROM t', 'INSERT INTO t (id, v) SELECT i, -i FROM range(50000) r(i)', 'COMMIT')
    await engine.sql('BEGIN', 'DELETE FROM t', 'INSERT INTO t (id, v) SELECT i, -i FROM range(50000) r(i)', 'COMMIT')
    await engine.sql('CREATE INDEX t_v ON t (v)')
    await engine.sql('INSERT INTO t (id, v) SELECT i, i FROM range(60000, 60030) r(i)')
    const live = [await engine.sql('SELECT * FROM parent ORDER BY id'), await engine.sql('SELECT * FROM t ORDER BY id')]
    for (const kill of [true, true, false]) {
      if (kill) await engine.kill()
      else await engine.control.shutdown({ checkpoint: false })
      await engine.exit()
      await engine.start()
      assert.equal(engine.control.hello.recovery.refused, [])
      assert.equal([await engine.sql('SELECT * FROM parent ORDER BY id'), await engine.sql('SELECT * FROM t ORDER BY id')], live)
      // By every index: what it finds is what a scan finds.
      for (const id of [60000, 60029, 0, 49999]) assert.is((await engine.sql(`SELECT * FROM t WHERE id = ${id}`)).length, 1)
      for (const v of [60000, 60029, -49999]) assert.is((await engine.sql(`SELECT * FROM t WHERE v = ${v}`)).length, 1)
      assert.is((await engine.sql('SELECT * FROM parent WHERE w = 500 AND v = 1500')).length, 1)
      assert.is(await codeOf(engine.sql('INSERT INTO t (id, v) VALUES (5, 5)')), '23505')
      assert.is(await codeOf(engine.sql('DELETE FROM parent WHERE id = 1')), '23503')
    }
  }))

test.run()
