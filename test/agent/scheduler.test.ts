import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock, waitUntil } from '../../agent/clock.ts'
import { DaemonGuardError } from '../../agent/errors.ts'
import { silentLog } from '../../agent/log.ts'
import { Scheduler } from '../../agent/scheduler.ts'

const test = suite('scheduler')
const never = '0 0 1 1 *'
const everySecond = '* * * * * *'
let scheduler: Scheduler

test.before.each(() => {
  scheduler = new Scheduler({ clock: systemClock, log: silentLog })
})
test.after.each(() => scheduler.stop(100))

test('cron starts a job by itself, and stop ends that', async () => {
  let runs = 0
  scheduler.schedule({ name: 'counter', cron: everySecond, deadlineMs: 500, tick: async () => void runs++ })
  assert.ok(await waitUntil(() => runs >= 2, { deadline: 30_000 }))
  await scheduler.stop()
  const [afterStop, started] = [runs, performance.now()]
  await waitUntil(() => performance.now() - started > 1500, { deadline: 3000 })
  assert.is(runs, afterStop)
  assert.equal(scheduler.facts(), [])
})

test('a run that is still under way keeps the next one from starting', async () => {
  let running = 0
  let most = 0
  const job = scheduler.schedule({
    name: 'slow',
    cron: everySecond,
    deadlineMs: 10_000,
    async tick(signal) {
      most = Math.max(most, ++running)
      await systemClock.sleep(60_000, signal)
      running -= 1
    },
  })
  assert.ok(await waitUntil(() => job.facts.overlaps >= 2, { deadline: 30_000 }))
  assert.is(most, 1)
  assert.is(job.facts.runs, 1)
})

test('the signal aborts at the deadline and the run counts as failed, also when it returns quietly', async () => {
  const failures: unknown[] = []
  const job = scheduler.schedule({
    name: 'late',
    cron: never,
    deadlineMs: 30,
    tick: (signal) => systemClock.sleep(10_000, signal),
    onFailure: (error) => failures.push(error),
  })
  await job.runNow()
  assert.is(job.facts.failures, 1)
  assert.match(job.facts.lastError ?? '', 'late did not end within 30 ms')
  assert.is(failures.length, 1)
  assert.not(job.facts.running)
})

test('a run that ignores its signal is reported as overdue and keeps its job busy', async () => {
  let release = () => {}
  const job = scheduler.schedule({
    name: 'deaf',
    cron: never,
    deadlineMs: 20,
    tick: () =>
      new Promise<void>((resolve) => {
        release = resolve
      }),
  })
  const run = job.runNow()
  assert.ok(await waitUntil(() => job.facts.overdue, { deadline: 30_000 }))
  await job.runNow()
  assert.is(job.facts.overlaps, 1)
  release()
  await run
  assert.not(job.facts.overdue)
  assert.is(job.facts.failures, 1)
})

test('an error is contained, counted, and the next run is tried; success clears it', async () => {
  let fail: unknown = new Error('no luck')
  const job = scheduler.schedule({
    name: 'moody',
    cron: never,
    deadlineMs: 1000,
    async tick() {
      if (fail !== undefined) throw fail
    },
  })
  await job.runNow()
  assert.is(job.facts.lastError, 'no luck')
  fail = null
  await job.runNow()
  assert.is(job.facts.failures, 2)
  fail = undefined
  await job.runNow()
  assert.is(job.facts.lastError, null)
  assert.is(job.facts.runs, 3)
})

test('a tick that throws before its first await is contained as well', async () => {
  const job = scheduler.schedule({
    name: 'sync',
    cron: never,
    deadlineMs: 1000,
    tick() {
      throw new Error('at once')
    },
    onFailure() {
      throw new Error('and its listener too')
    },
  })
  await job.runNow()
  await job.runNow()
  assert.is(job.facts.failures, 2)
})

test('a paused job is not run and says so in its counters', async () => {
  const job = scheduler.schedule({
    name: 'scan',
    cron: never,
    deadlineMs: 1000,
    tick: async () => assert.unreachable(),
    pause: () => 'quiet hours',
  })
  await job.runNow()
  assert.is(job.facts.paused, 1)
  assert.is(job.facts.runs, 0)
  assert.is(job.facts.failures, 0)
})

test('stop aborts the run under way, waits for it, and does not call it a failure', async () => {
  let ended = false
  const job = scheduler.schedule({
    name: 'long',
    cron: never,
    deadlineMs: 60_000,
    async tick(signal) {
      await systemClock.sleep(60_000, signal)
      ended = true
    },
  })
  void job.runNow()
  await scheduler.stop()
  assert.ok(ended)
  assert.is(job.facts.failures, 0)
  await job.runNow()
  assert.is(job.facts.runs, 1)
})

test('a wrong cron expression is refused with its name', () => {
  assert.throws(
    () => scheduler.schedule({ name: 'bad', cron: '61 * * * *', deadlineMs: 1, tick: async () => {} }),
    (error: unknown) => error instanceof DaemonGuardError && error.where === 'bad' && error.message.includes('61 * * * *'),
  )
})

test.run()
