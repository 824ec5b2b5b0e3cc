/** The watchdog over the real supervisor and fixture engines that hang, die and come back. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { silentLog } from '../../agent/log.ts'
import type { EngineControl, PluginContext, RunningPlugin } from '../../agent/plugin.ts'
import watchdog from '../../plugins/watchdog.ts'
import { type Supervised, supervise } from '../supervisor/fixture.ts'
import { isAlive } from '../support/process.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('watchdog')
const open: Supervised[] = []

test.after.each(async () => {
  for (const { supervisor } of open.splice(0)) {
    const { pid } = supervisor.status()
    if (pid !== null && isAlive(pid)) process.kill(pid, 'SIGKILL')
    await supervisor.stop()
  }
})

interface Watched extends Supervised {
  plugin: RunningPlugin
  cron: string
  tick(signal?: AbortSignal): Promise<void>
}

/** `probe` replaces the supervisor's engine as the thing that is probed. */
async function watch(options: { engines: string[][]; written?: object; probe?: EngineControl['probe'] }): Promise<Watched> {
  const it = supervise({ engines: options.engines })
  open.push(it)
  let tick: Watched['tick'] | undefined
  let cron = ''
  const probe =
    options.probe ??
    (async (signal?: AbortSignal) => {
      if (it.supervisor.current === null) throw new Error('no engine is there')
      return it.supervisor.current.probe(signal)
    })
  const context = {
    name: 'watchdog',
    log: silentLog,
    clock: it.clock,
    engine: { probe } as EngineControl,
    supervisor: it.supervisor,
    alert: (message, details = {}) => it.alerts.push({ message, details }),
    schedule(expression, _deadline, run) {
      cron = expression
      tick = (signal = new AbortController().signal) => run(signal)
    },
  } as Partial<PluginContext> as PluginContext
  const plugin = await watchdog.start(context, watchdog.options.parse({ timeout: '100ms', ...options.written }))
  await it.supervisor.start()
  await waitFor('the first probe', () => it.incidents.list().every(({ closedAt }) => closedAt !== null))
  return { ...it, plugin, cron, tick: tick as Watched['tick'] }
}

test('its defaults are those of the design', () => {
  const defaults = { schedule: '*/5 * * * * *', timeout: 2000, failures_before_alert: 3, max_restarts: 3, restart_window: 600_000 }
  assert.equal(watchdog.options.parse({}), defaults)
  assert.throws(() => watchdog.options.parse({ max_restart: 3 }))
})

test('an engine that answers is healthy', async () => {
  const it = await watch({ engines: [['healthy']] })
  assert.is(it.cron, '*/5 * * * * *')
  assert.is(it.plugin.health().summary, 'not probed yet')
  await it.tick()
  assert.ok(it.plugin.health().healthy)
  assert.equal(it.alerts, [])
  await it.plugin.stop()
  await it.plugin.stop()
})

test('an engine that hangs is reported after three failed probes, killed and replaced', async () => {
  const it = await watch({ engines: [['healthy']] })
  const { pid } = it.supervisor.status()
  process.kill(pid as number, 'SIGSTOP')
  await it.tick()
  await it.tick()
  assert.equal(it.alerts, [])
  assert.not(it.plugin.health().healthy)
  assert.ok(isAlive(pid as number))
  await it.tick()
  assert.is(it.alerts.length, 1)
  assert.match(it.alerts[0]?.message ?? '', 'failed 3 probes in a row (no answer within 100 ms)')
  await waitFor('another engine', () => it.supervisor.status().state === 'up' && it.supervisor.status().pid !== pid)
  assert.not(isAlive(pid as number))
  await waitFor('an answer', async () => {
    await it.tick()
    return it.plugin.health().healthy
  })
})

test('a supervisor that has given up is not pushed, and the alert is not repeated', async () => {
  const it = await watch({ engines: [['healthy'], ['exits', '78']] })
  process.kill(it.supervisor.status().pid as number, 'SIGKILL')
  await waitFor('it to give up', () => it.supervisor.status().state === 'gave-up')
  for (let i = 0; i < 9; i++) await it.tick()
  assert.is(it.alerts.filter(({ message }) => message.includes('probes in a row')).length, 1)
  assert.equal(it.started, ['healthy', 'exits'])
})

test('a full disk is reported, and is no reason to restart', async () => {
  const it = await watch({
    engines: [['healthy']],
    probe: async () => {
      throw Object.assign(new Error('the disk is full'), { code: '53100' })
    },
  })
  const { pid } = it.supervisor.status()
  for (let i = 0; i < 6; i++) await it.tick()
  assert.is(it.alerts.length, 1)
  assert.match(it.alerts[0]?.message ?? '', 'left alone')
  assert.equal(it.started, ['healthy'])
  assert.is(it.supervisor.status().pid, pid)
})

test('a probe that ends because the agent stops counts for nothing', async () => {
  const it = await watch({ engines: [['healthy']] })
  process.kill(it.supervisor.status().pid as number, 'SIGSTOP')
  const stopping = new AbortController()
  const ticking = it.tick(stopping.signal)
  stopping.abort()
  await ticking
  assert.is(it.plugin.health().facts.failures, 0)
})

test('its limits reach the supervisor', async () => {
  const it = await watch({ engines: [['healthy'], ['exits']], written: { max_restarts: 1, restart_window: '1h' } })
  process.kill(it.supervisor.status().pid as number, 'SIGKILL')
  await waitFor('it to give up', () => it.supervisor.status().state === 'gave-up')
  assert.equal(it.started, ['healthy', 'exits'])
})

test.run()
