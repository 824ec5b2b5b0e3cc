// Who works for queries: threads of lower priority, in slices and in turns, and DuckDB's tasks of others only while nobody commits.

import fs from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Analysts, type AnalystsOptions } from '../../agent/engine/analysts.ts'
import { type Laborer, type Order, type Report, taskState, threadNames } from '../../agent/engine/task-thread.ts'
import { codeOf, TestEngine } from '../support/engine.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('analysts')

const done: Report = { state: taskState.ready, rows: 0, error: null, ms: 1 }
const notReady: Report = { ...done, state: taskState.notReady }

/** Threads whose orders the test sees, and reports on. */
class Threads {
  readonly orders: { order: Order; report(report: Report): void; fail(error: Error): void }[] = []
  started = 0
  readonly analysts: Analysts
  readonly failures: string[] = []
  isBusy = true
  isCommitting = false
  /** What a thread sees: how many orders wait. */
  waiting: Int32Array = new Int32Array(1)

  constructor(options: Partial<AnalystsOptions> = {}) {
    this.analysts = new Analysts({
      cores: 2,
      database: 99n,
      start: (waiting) => this.#start(waiting),
      isBusy: () => this.isBusy,
      isCommitting: () => this.isCommitting,
      failed: (error) => this.failures.push(error.message),
      ...options,
    })
  }

  /** What was ordered and is not reported on: addresses of queries and results, and `help`. */
  get open(): string[] {
    return this.orders.map(({ order }) =>
      order.do === 'work' ? `work ${order.pending}` : order.do === 'fetch' ? `fetch ${order.result}` : order.do,
    )
  }

  /** Reports on what was ordered as `what`, and lets everybody do what follows. */
  async report(what: string, report = done): Promise<void> {
    const [known] = this.orders.splice(this.open.indexOf(what), 1)
    known?.report(report)
    await settled()
  }

  async fail(what: string): Promise<void> {
    const [known] = this.orders.splice(this.open.indexOf(what), 1)
    known?.fail(new Error('the thread ended'))
    await settled()
  }

  #start(waiting: Int32Array): Laborer {
    this.started++
    this.waiting = waiting
    return {
      started: Promise.resolve(),
      ended: new Promise(() => {}),
      obey: (order) => new Promise((report, fail) => this.orders.push({ order, report, fail })),
    }
  }
}

/** Everything that waits for nothing but promises has happened. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

test('rows wait for a commit that is under way, and for one that does not end no longer than a few milliseconds each', async () => {
  const threads = new Threads()
  let turns = 0
  const take = (urgent = false) => threads.analysts.turn(urgent).then(() => void turns++)
  await Promise.all([take(), take()])
  assert.is(turns, 2)
  threads.isCommitting = true
  const waiting = [take(), take()]
  await settled()
  assert.is(turns, 2, 'none beside a commit')
  threads.isCommitting = false
  await Promise.all(waiting)
  threads.isCommitting = true
  const began = performance.now()
  await Promise.all([take(), take(), take()])
  assert.is(turns, 7)
  assert.ok(performance.now() - began >= 3 * 3, 'each has waited')
  // However many wait, each does so for a while only; a piece that another statement needs not at all.
  const many = Array.from({ length: 400 }, () => take())
  await take(true)
  assert.is(turns, 8)
  const since = performance.now()
  await Promise.all(many)
  assert.ok(performance.now() - since < 1000, 'not each behind all others')
})

test('whoever waits for the first thread goes on when it is there, or will not be, or when it is to stop', async () => {
  const first = Promise.withResolvers<void>()
  const unready = (started: Promise<void>) =>
    new Threads({ start: () => ({ started, ended: new Promise(() => {}), obey: () => Promise.reject(new Error('no orders')) }) })
  const threads = unready(first.promise)
  const stop = new AbortController()
  const waits = [threads.analysts.started(undefined), threads.analysts.started(stop.signal)]
  stop.abort()
  await waits[1]
  assert.not(threads.analysts.ready)
  first.resolve()
  await waits[0]
  assert.ok(threads.analysts.ready)
  const failed = unready(Promise.reject(new Error('no memory')))
  await failed.analysts.started(undefined)
  assert.not(failed.analysts.ready)
  assert.equal(failed.failures, ['no memory'])
  const refused = new Threads({
    start: () => {
      throw new Error('no more threads')
    },
  })
  await refused.analysts.started(undefined)
  assert.equal([refused.failures, refused.analysts.ready], [['no more threads'], false])
})

async function begun(options: Partial<AnalystsOptions> = {}): Promise<Threads> {
  const threads = new Threads(options)
  assert.not(threads.analysts.ready)
  threads.analysts.begin()
  await settled()
  assert.ok(threads.analysts.ready)
  return threads
}

test('queries take turns, as many at once as there are cores for them, and a new one has its first slice before the others go on', async () => {
  const threads = await begun({ cores: 3 })
  const ends: string[] = []
  const work = (pending: bigint) => void threads.analysts.work(pending).then(({ ms }) => ends.push(`${pending}: ${ms} ms`))
  work(1n)
  work(2n)
  work(3n)
  await settled()
  assert.equal(threads.open, ['work 1', 'work 2'])
  assert.is(threads.waiting[0], 1, 'their slices end, since a third one waits')
  await threads.report('work 1', notReady)
  assert.equal(threads.open, ['work 2', 'work 3'])
  await threads.report('work 2', notReady)
  assert.equal(threads.open, ['work 3', 'work 1'])
  work(4n)
  await threads.report('work 3', notReady)
  assert.equal(threads.open, ['work 1', 'work 4'], 'the new one goes before those that went round')
  await threads.report('work 4')
  assert.equal(threads.open, ['work 1', 'work 2'])
  await threads.report('work 1', notReady)
  assert.equal(threads.open, ['work 2', 'work 3'])
  assert.is(threads.waiting[0], 1)
  for (const pending of ['2', '3', '1']) await threads.report(`work ${pending}`)
  assert.equal(threads.open, [])
  assert.is(threads.waiting[0], 0, 'a slice goes on while nobody waits')
  assert.equal(ends, ['4: 1 ms', '2: 2 ms', '3: 2 ms', '1: 3 ms'])
})

test('a fetch, which cannot be put off once it has begun, does not wait for slices, nor they for it', async () => {
  const threads = await begun({ cores: 3 })
  void threads.analysts.work(1n)
  void threads.analysts.work(2n)
  await settled()
  const rows = threads.analysts.fetch(7n, 8n)
  const failing = threads.analysts.fetch(9n, 8n).catch(({ message }) => message)
  void threads.analysts.work(3n)
  await settled()
  assert.equal(threads.open, ['work 1', 'work 2', 'fetch 7', 'fetch 9'])
  await threads.report('work 1')
  assert.equal(threads.open, ['work 2', 'fetch 7', 'fetch 9', 'work 3'])
  await threads.report('fetch 7', { ...done, rows: 5 })
  await threads.report('fetch 9', { ...done, error: 'INTERRUPT Error: Interrupted!' })
  assert.is(await rows, 5)
  assert.is(await failing, 'INTERRUPT Error: Interrupted!')
})

test('idle threads take tasks of anybody, for a slice, but not on two cores while somebody commits', async () => {
  const threads = await begun()
  const query = threads.analysts.work(1n)
  await settled()
  assert.equal(threads.open, ['work 1'])
  threads.isBusy = false
  await threads.report('work 1', notReady)
  assert.equal(threads.open, ['work 1', 'help'])
  await threads.report('help')
  assert.equal(threads.open, ['work 1', 'help'])
  threads.isBusy = true
  await threads.report('help')
  assert.equal(threads.open, ['work 1'])
  await threads.report('work 1')
  await query
  threads.isBusy = false
  const { promise, resolve } = Promise.withResolvers<void>()
  const assisted = threads.analysts.assist(promise)
  await settled()
  assert.equal(threads.open, ['help'], 'a statement that writes has a thread of its own as well')
  resolve()
  await assisted
  await threads.report('help')
  assert.equal(threads.open, [])

  const many = await begun({ cores: 5 })
  void many.analysts.work(1n)
  await settled()
  await many.report('work 1', notReady)
  await many.report('work 1', notReady)
  assert.equal(many.open.toSorted(), ['help', 'help', 'work 1'], 'of five cores two are left to those who commit')
})

test('while somebody commits, one core is left alone, but not the only one', async () => {
  for (const [cores, open] of [
    [1, ['work 1']],
    [2, ['work 1']],
    [3, ['work 1', 'work 2']],
  ] as const) {
    const threads = await begun({ cores })
    for (const pending of [1n, 2n, 3n, 4n]) void threads.analysts.work(pending)
    await settled()
    assert.equal(threads.open, open)
  }
})

test('a query of which others do all that there is to be done is looked at again', async () => {
  const threads = await begun()
  const query = threads.analysts.work(1n)
  await settled()
  await threads.report('work 1', { ...done, state: taskState.noTasks })
  await waitFor('it is asked again', async () => threads.open.length > 0)
  await threads.report('work 1', { ...done, state: taskState.error })
  assert.equal(await query, { state: taskState.error, ms: 2 })
})

test('a thread that is lost fails its query, and the last one those that wait', async () => {
  const threads = await begun({ cores: 1 })
  const failures = [1n, 2n].map((pending) => threads.analysts.work(pending).catch(({ message }) => message))
  await settled()
  assert.equal(threads.open, ['work 1'])
  await threads.fail('work 1')
  assert.equal(await Promise.all(failures), ['the thread ended', 'the thread ended'])
  assert.equal(threads.failures, ['the thread ended'])
  assert.not(threads.analysts.ready)
})

test('rows are handled one piece in each round of the event loop', async () => {
  const { analysts } = new Threads()
  const seen: string[] = []
  const turns = ['a', 'b'].map((name) => analysts.turn(false).then(() => seen.push(name)))
  await settled()
  seen.push('others')
  await Promise.all(turns)
  assert.equal(seen, ['a', 'others', 'b'])
})

/** Of each thread of a process: its name, its nice value, and its processor time in ticks. */
function threadsOf(pid: number): { name: string; nice: number; ticks: number }[] {
  return fs.readdirSync(`/proc/${pid}/task`).map((thread) => {
    const stat = fs.readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')
    // Fields 14, 15 and 19 (proc(5)); the name, which may hold anything, ends with the last parenthesis.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const [name = ''] = /(?<=\().*(?=\))/s.exec(stat) ?? []
    return { name, nice: Number(fields[16]), ticks: Number(fields[11]) + Number(fields[12]) }
  })
}

if (process.platform === 'linux') {
  test('queries run on threads of lower priority, on both cores when nobody commits, and on no others', async () => {
    const engine = await TestEngine.start({ engine: ['cpu_cores: 2'] })
    try {
      await engine.sql('CREATE TABLE t (i INTEGER)', 'INSERT INTO t SELECT range FROM range(500000)')
      assert.equal(await engine.sql("SELECT current_setting('external_threads'), current_setting('threads')"), [['2', '2']])
      const ofQueries = () => threadsOf(engine.pid).filter(({ name }) => name === threadNames.query)
      const ticksOfOthers = () => threadsOf(engine.pid).reduce((sum, { name, ticks }) => sum + (name === threadNames.query ? 0 : ticks), 0)
      const own = threadsOf(engine.pid)[0]?.nice as number
      const ticksOfQueries = () => ofQueries().reduce((sum, { ticks }) => sum + ticks, 0)
      // The first one starts with the first query, which does not wait for it.
      await waitFor('a thread for queries works', async () => {
        const before = ticksOfQueries()
        await engine.sql('SELECT sum(i % 7) FROM t, range(50)')
        return ticksOfQueries() - before >= 5
      })
      const before = ticksOfOthers()
      const analyst = await engine.connect()
      const answer = codeOf(analyst.query('SELECT count(*) FROM t AS a, t AS b WHERE a.i + b.i < 0'))
      await waitFor('two threads have worked for it', async () => ofQueries().filter(({ ticks }) => ticks > 30).length >= 2)
      assert.ok(ticksOfOthers() - before < ticksOfQueries() / 2, 'nobody else has')
      assert.equal(
        ofQueries().filter(({ nice }) => nice !== Math.min(19, own + 10)),
        [],
      )
      assert.equal(
        threadsOf(engine.pid).filter(({ name, nice }) => name !== threadNames.query && nice !== own),
        [],
      )
      await engine.kill()
      await answer
    } finally {
      await engine.kill()
    }
  })
}

test.run()
