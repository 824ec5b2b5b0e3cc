// The thread that writes what has gathered (write-thread.ts), on a DuckDB of its own, and in an engine.

import fs from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Laborer, TaskThread, threadNames } from '../../agent/engine/task-thread.ts'
import { WriteThread } from '../../agent/engine/write-thread.ts'
import { newDatabase } from '../support/database.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('write-thread')

const role = { name: threadNames.write }

/** It starts when the event loop has nothing else to do. */
const begun = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))

test('the pool writes until the thread has started, then the thread does, and tells rows and errors as the pool does', async () => {
  const database = await newDatabase('written', { threads: 2 })
  const started: TaskThread[] = []
  const failures: string[] = []
  database.calls.writing = new WriteThread({
    start: () => {
      const thread = new TaskThread(role)
      started.push(thread)
      return thread
    },
    failed: (error) => failures.push(error.message),
  })
  const orders: string[] = []
  const watch = (thread: TaskThread) => {
    const obey = thread.obey.bind(thread)
    thread.obey = (order) => {
      orders.push(order.do)
      return obey(order)
    }
  }
  const connection = await database.connect()
  await connection.run('CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)')
  const insert = await connection.prepare('INSERT INTO t SELECT range, 0 FROM range($1::BIGINT, $2::BIGINT)')
  const add = (from: number, to: number) => {
    insert.bindText(0, String(from))
    insert.bindText(1, String(to))
    return insert.change()
  }
  assert.is(await add(0, 10), 10)
  await begun()
  const [thread] = started as [TaskThread]
  watch(thread)
  // Threads keep no process alive, as an engine's sockets do.
  const alive = setInterval(() => {}, 1_000)
  await thread.started
  assert.is(await add(10, 13), 3)
  const refused = await add(20, 30)
    .then(() => add(5, 6))
    .catch((error: unknown) => error)
  assert.match(String(refused), /Duplicate key/)
  assert.is(await add(30, 31), 1)
  assert.equal(orders, Array(4).fill('execute'))
  assert.equal(await connection.all('SELECT count(*)::INTEGER FROM t'), [[24]])
  assert.is(started.length, 1)
  assert.equal(failures, [])
  clearInterval(alive)
  insert.close()
  connection.close()
  database.close()
})

test('while the thread is at work, or where there is none any more, it takes nothing', async () => {
  let end = (_: Error) => {}
  const reports: ((rows: number) => void)[] = []
  const laborer: Laborer = {
    started: Promise.resolve(),
    ended: new Promise((resolve) => {
      end = resolve
    }),
    obey: () => new Promise((resolve) => reports.push((rows) => resolve({ state: 0, rows, error: null, ms: 0 }))),
  }
  const failures: string[] = []
  const failed = (error: Error) => failures.push(error.message)
  const writing = new WriteThread({ start: () => laborer, failed })
  assert.is(writing.execute(1n), undefined)
  await begun()
  const first = writing.execute(2n)
  assert.is(writing.execute(3n), undefined)
  reports[0]?.(7)
  assert.is(await first, 7)
  end(new Error('killed'))
  await null
  assert.is(writing.execute(4n), undefined)
  const refused = new WriteThread({
    start: () => {
      throw new Error('no more threads')
    },
    failed,
  })
  assert.is(refused.execute(1n), undefined)
  await begun()
  assert.is(refused.execute(1n), undefined)
  assert.equal(failures, ['killed', 'no more threads'])
})

test('an engine has the rows of many clients written by it, and only the row that is refused fails', async () => {
  const engine = await TestEngine.start()
  try {
    await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)')
    const clients = await Promise.all(Array.from({ length: 12 }, () => engine.connect()))
    let next = 0
    const insert = (id: number) =>
      Promise.all(clients.map((client, i) => codeOf(client.query('INSERT INTO t VALUES ($1, $2)', [id + i, 0]))))
    const names = () =>
      fs.readdirSync(`/proc/${engine.pid}/task`).map((task) => fs.readFileSync(`/proc/${engine.pid}/task/${task}/comm`, 'utf8').trim())
    if (process.platform === 'linux') {
      await waitFor('the thread has started', async () => {
        await insert(next)
        next += clients.length
        return names().filter((name) => name === threadNames.write).length === 1
      })
    }
    for (let round = 0; round < 20; round++) {
      const codes = await insert(next)
      next += clients.length
      assert.equal(
        codes,
        codes.map(() => undefined),
      )
    }
    // One of them is there already.
    const codes = await insert(next - 1)
    assert.equal(codes, ['23505', ...codes.slice(1).map(() => undefined)])
    const [client] = clients
    assert.equal(await rowsOf(client!, 'SELECT count(*), max(id) FROM t'), [[String(next + 11), String(next + 10)]])
    await Promise.all(clients.map((each) => each.end()))
  } finally {
    await engine.kill()
  }
})

test.run()
