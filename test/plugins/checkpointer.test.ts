/** The checkpointer over an engine that counts: when a checkpoint is due, what a refusal does, and what a restart of the engine does. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { DaemonGuardError } from '../../agent/errors.ts'
import { silentLog } from '../../agent/log.ts'
import type { EngineControl, EngineStatus, PluginContext } from '../../agent/plugin.ts'
import checkpointer from '../../plugins/checkpointer.ts'
import { createTestClock } from '../support/clock.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('checkpointer')

/** An engine reduced to what a checkpoint means: the file's seq catches up with the journal's. */
class CountingEngine {
  durable = 0
  watermark = 0
  checkpoints = 0
  checkpointEvery: number | null = null
  attempts = 0
  refusal: string | null = null
  hint: string | undefined
  up = true
  /** While set, a checkpoint takes until it resolves. */
  busy: Promise<void> | null = null

  async status(): Promise<EngineStatus> {
    if (!this.up) throw new Error('no engine is there')
    return {
      durableSeq: this.durable,
      watermark: this.watermark,
      lastCheckpointAt: null,
      checkpointEvery: this.checkpointEvery,
    } as EngineStatus
  }

  async checkpoint(): Promise<{ watermark: number }> {
    this.attempts++
    const at = this.durable
    await this.busy
    if (!this.up) throw new Error('no engine is there')
    if (this.refusal !== null) throw new DaemonGuardError(this.refusal, { hint: this.hint })
    this.watermark = at
    this.checkpoints++
    return { watermark: at }
  }
}

async function begin(engine = new CountingEngine(), written: object = {}) {
  const clock = createTestClock()
  const alerts: string[] = []
  const details: unknown[] = []
  let tick: (signal: AbortSignal) => Promise<void> = async () => {}
  let told: (state: 'up' | 'down') => void = () => {}
  let pushed: (seq: number) => void = () => {}
  const context = {
    name: 'checkpointer',
    log: silentLog,
    clock,
    engine: engine as Partial<EngineControl> as EngineControl,
    alert: (message: string, about: unknown) => {
      alerts.push(message)
      details.push(about)
    },
    schedule: (_cron: string, _deadline: number, run: typeof tick) => {
      tick = run
    },
    onEngine: (listener: typeof told) => {
      told = listener
    },
    onDurable: (listener: typeof pushed) => {
      pushed = listener
    },
  } as Partial<PluginContext> as PluginContext
  const plugin = await checkpointer.start(context, checkpointer.options.parse(written))
  await waitFor('its first look', () => plugin.health().facts.watermark !== null || !engine.up)
  return {
    engine,
    plugin,
    clock,
    alerts,
    details,
    commit(n: number) {
      engine.durable += n
      pushed(engine.durable)
    },
    tick: () => tick(new AbortController().signal),
    tell: (state: 'up' | 'down') => told(state),
  }
}

test('its defaults are those of the design', () => {
  assert.equal(checkpointer.options.parse({}), { every_transactions: 5000, schedule: '0 * * * *' })
  assert.throws(() => checkpointer.options.parse({ every_transactions: 0 }))
})

test('every 5,000 transactions there is one checkpoint', async () => {
  const { engine, commit, clock, plugin } = await begin()
  commit(4999)
  assert.is(engine.attempts, 0)
  commit(1)
  await waitFor('the checkpoint', () => engine.checkpoints === 1)
  assert.is(engine.watermark, 5000)
  for (let i = 0; i < 10; i++) {
    commit(1000)
    await Promise.resolve()
  }
  clock.advance(1000)
  await waitFor('the file to be less than 5,000 behind', () => engine.durable - engine.watermark < 5000)
  await plugin.stop()
  await plugin.stop()
})

test('a number of transactions that SQL has set takes the place of the configured one, within seconds', async () => {
  const { engine, commit, clock, plugin } = await begin()
  engine.checkpointEvery = 20
  commit(15)
  clock.advance(5_000)
  commit(1)
  await waitFor('the number', () => plugin.health().facts.everyTransactions === 20)
  assert.match(plugin.health().summary, 'one is due after 20')
  assert.is(engine.attempts, 0)
  commit(4)
  await waitFor('the checkpoint', () => engine.watermark === 20)
  engine.checkpointEvery = null
  clock.advance(5_000)
  commit(1)
  await waitFor('the configured number', () => plugin.health().facts.everyTransactions === 5000)
  await plugin.stop()
})

test('what comes in during a checkpoint is answered by the next one, never by two at once', async () => {
  const { engine, commit, clock, plugin } = await begin(undefined, { every_transactions: 10 })
  const { promise, resolve } = Promise.withResolvers<void>()
  engine.busy = promise
  commit(10)
  commit(10)
  commit(10)
  assert.is(engine.attempts, 1)
  engine.busy = null
  resolve()
  await waitFor('the first checkpoint', () => engine.checkpoints === 1)
  clock.advance(1000)
  await waitFor('the second checkpoint', () => engine.checkpoints === 2)
  assert.is(engine.watermark, 30)
  await plugin.stop()
})

test('where the number is reached sooner, there is one a second; one that cron asks for does not wait', async () => {
  const { engine, commit, tick, tell, clock, plugin } = await begin(undefined, { every_transactions: 10 })
  const pause = (what: string) => waitFor(what, () => clock.sleeping(1).length === 1)
  /** Within a tenth of the pause. */
  const atOnce = (what: string, watermark: number) => waitFor(what, () => engine.watermark === watermark, { deadline: 100, every: 1 })
  commit(10)
  await waitFor('the first', () => engine.checkpoints === 1)
  commit(10)
  commit(25)
  await pause('the pause')
  assert.is(engine.attempts, 1)
  clock.advance(1000)
  await atOnce('the second', 45)
  assert.is(engine.attempts, 2)
  commit(10)
  await pause('the next pause')
  clock.advance(900)
  const asked = tick()
  await atOnce('that of cron', 55)
  await asked
  commit(10)
  clock.advance(200)
  await pause('as long a pause after that')
  assert.is(engine.attempts, 3)
  clock.advance(1000)
  await atOnce('that after the pause', 65)
  commit(10)
  await pause('another pause')
  tell('down')
  await waitFor('the end of the pause', () => clock.sleeping(1).length === 0)
  tell('up')
  await atOnce('that of the next engine', 75)
  await plugin.stop()
})

test('cron makes a checkpoint when there is anything new, and none when there is not', async () => {
  const { engine, commit, tick, plugin } = await begin()
  await tick()
  assert.is(engine.attempts, 0)
  commit(1)
  await tick()
  assert.is(engine.watermark, 1)
  await tick()
  assert.is(engine.attempts, 1)
  await plugin.stop()
})

test('a refused checkpoint is asked for again soon, and after ten minutes the operator is told who is in the way, once', async () => {
  const { engine, commit, clock, alerts, details, plugin } = await begin(undefined, { every_transactions: 10 })
  engine.refusal = 'open transactions stand in the way of a checkpoint: the oldest is of user ada (psql, pid 7), open for 10min, running'
  engine.hint = 'end them'
  commit(10)
  for (const pause of [1000, 2000, 4000, 8000, 15_000, 15_000]) {
    await waitFor(`the pause of ${pause} ms`, () => clock.sleeping(pause).includes(pause))
    clock.advance(pause)
  }
  assert.equal(alerts, [])
  clock.advance(600_000)
  await waitFor('the alert', () => alerts.length === 1)
  assert.match(alerts[0] ?? '', /^no checkpoint for 1\d minutes: .*user ada \(psql, pid 7\)/)
  assert.equal(details, [{ watermark: 0, durable: 10, hint: 'end them' }])
  assert.match(plugin.health().summary, 'user ada (psql, pid 7)')
  assert.not(plugin.health().healthy)
  const { attempts } = engine
  clock.advance(60_000)
  await waitFor('another attempt', () => engine.attempts > attempts)
  assert.is(alerts.length, 1)
  engine.refusal = null
  await waitFor('the next pause', () => clock.sleeping(15_000).length > 0)
  clock.advance(60_000)
  await waitFor('the checkpoint', () => engine.watermark === 10)
  assert.ok(plugin.health().healthy)
  await plugin.stop()
})

test('an engine that goes away ends the asking, and a new one is looked at afresh', async () => {
  const { engine, commit, tell, clock, plugin } = await begin(undefined, { every_transactions: 10 })
  engine.refusal = 'busy'
  commit(10)
  await waitFor('a refusal', () => clock.sleeping(1000).length > 0)
  engine.up = false
  tell('down')
  await waitFor('the pause to end', () => clock.sleeping(1000).length === 0)
  const { attempts } = engine
  commit(10)
  assert.is(engine.attempts, attempts, 'nothing is asked of an engine that is gone')
  engine.up = true
  engine.refusal = null
  tell('up')
  await waitFor('the checkpoint that was due', () => engine.watermark === 20)
  await plugin.stop()
})

test('stopping ends a checkpoint that is put off', async () => {
  const { engine, commit, clock, plugin } = await begin(undefined, { every_transactions: 1 })
  engine.refusal = 'busy'
  commit(1)
  await waitFor('a refusal', () => clock.sleeping(1000).length > 0)
  await plugin.stop()
  const { attempts } = engine
  clock.advance(60_000)
  await Promise.resolve()
  assert.is(engine.attempts, attempts)
})

test.run()
