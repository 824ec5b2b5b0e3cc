import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { z } from 'zod'
import { Alerts } from '../../agent/alerts.ts'
import { systemClock, waitUntil } from '../../agent/clock.ts'
import { silentLog } from '../../agent/log.ts'
import type { Incident, JournalConsumer, Plugin, PluginContext, RunningPlugin } from '../../agent/plugin.ts'
import { PluginHost, type PluginServices } from '../../agent/plugin-host.ts'
import { Scheduler } from '../../agent/scheduler.ts'

const test = suite('plugin host')
let services: PluginServices
let incidents: Incident[]
let closedConsumers: string[]
let quiet: string | null
let host: PluginHost

test.before.each(() => {
  incidents = []
  closedConsumers = []
  quiet = null
  const refuse = async () => {
    throw new Error('not in this test')
  }
  services = {
    host: 'host-1',
    log: silentLog,
    clock: systemClock,
    paths: { data: '/d', database: '/d/x', snapshots: '/d/s', quarantine: '/d/q', deadLetter: '/d/l', journal: '/d/j' },
    engine: { status: refuse, checkpoint: refuse, hold: refuse, probe: refuse },
    supervisor: { restart: refuse, restoreDatabase: refuse, configure() {}, probed() {} },
    incidents: {
      open(incident) {
        const opened: Incident = {
          id: String(incidents.length),
          openedAt: 0,
          closedAt: null,
          actions: [],
          loss: 0,
          downtimeMs: null,
          evidence: {},
          hint: null,
          ...incident,
        }
        incidents.push(opened)
        return opened
      },
      close(incident) {
        incident.closedAt = 1
      },
    },
    alerts: new Alerts({ targets: [], host: 'host-1', log: silentLog, clock: systemClock }),
    scheduler: new Scheduler({ clock: systemClock, log: silentLog }),
    openConsumer: (name) => ({ confirmed: 3, durable: 10, close: () => void closedConsumers.push(name) }) as unknown as JournalConsumer,
    quiet: () => quiet,
    retryPauses: [5],
  }
})
test.after.each(() => host.stop(200))

function plugin(
  name: string,
  start: (context: PluginContext) => RunningPlugin | Promise<RunningPlugin>,
): { plugin: Plugin; options: unknown } {
  return { plugin: { name, options: z.strictObject({}), start: start as Plugin['start'] }, options: {} }
}

const well: RunningPlugin = { health: () => ({ healthy: true, summary: 'well', facts: { rows: 1 } }), stop: async () => {} }

function reportOf(name: string) {
  const report = host.reports().find((each) => each.name === name)
  if (report === undefined) throw new Error(`no report of ${name}`)
  return report
}

test('a plugin that fails to start is unhealthy and an incident, others go on, and it is tried again until it starts', async () => {
  let attempts = 0
  host = new PluginHost(services, [
    plugin('moody', async () => {
      if (++attempts < 4) throw new Error('no network')
      return well
    }),
    plugin('steady', () => well),
  ])
  await host.start()
  assert.is(reportOf('steady').healthy, true)
  assert.is(reportOf('moody').healthy, false)
  assert.match(reportOf('moody').summary, 'no network')
  assert.is(services.alerts.facts.raised, 1)
  assert.ok(await waitUntil(() => reportOf('moody').state === 'running', { deadline: 30_000 }))
  assert.is(attempts, 4)
  assert.is(incidents.length, 1)
  assert.is(incidents[0]?.cause, 'plugin-failed')
  assert.is(incidents[0]?.closedAt, 1)
})

test('an engine that comes up ends the pause before the next attempt', async () => {
  services.retryPauses = [60_000]
  let attempts = 0
  host = new PluginHost(services, [
    plugin('waiting', async () => {
      if (++attempts === 1) throw new Error('no engine')
      return well
    }),
  ])
  await host.start()
  host.engineIs('up')
  assert.ok(await waitUntil(() => reportOf('waiting').state === 'running', { deadline: 30_000 }))
})

test('a plugin that throws at once, without a promise, is contained as well', async () => {
  host = new PluginHost(services, [
    plugin('rude', () => {
      throw new Error('at once')
    }),
  ])
  await host.start()
  assert.match(reportOf('rude').summary, 'at once')
})

test('what a failed attempt had scheduled or opened is gone before the next one', async () => {
  let attempts = 0
  host = new PluginHost(services, [
    plugin('again', async (context) => {
      context.schedule('0 0 1 1 *', 1000, async () => {})
      context.consumer()
      if (++attempts === 1) throw new Error('first')
      return well
    }),
  ])
  await host.start()
  assert.ok(await waitUntil(() => reportOf('again').state === 'running', { deadline: 30_000 }))
  assert.is(services.scheduler.facts().length, 1)
  assert.equal(closedConsumers, ['again'])
  assert.equal(host.lags(), [{ consumer: 'again', confirmed: 3, durable: 10, lag: 7 }])
})

test('a plugin that cannot tell its health is unhealthy', async () => {
  const broken = {
    ...well,
    health() {
      throw new Error('no idea')
    },
  }
  host = new PluginHost(services, [plugin('mute', () => broken)])
  await host.start()
  assert.equal([reportOf('mute').healthy, reportOf('mute').summary], [false, 'it cannot tell its health: no idea'])
})

test('a listener that throws keeps no other plugin from hearing that the engine came', async () => {
  const heard: string[] = []
  host = new PluginHost(services, [
    plugin('loud', (context) => {
      context.onEngine(() => {
        throw new Error('sync')
      })
      context.onDurable(() => {
        throw new Error('sync')
      })
      context.onEngine((async () => {
        throw new Error('async')
      }) as () => void)
      return well
    }),
    plugin('listening', (context) => {
      context.onEngine((state) => void heard.push(state))
      context.onDurable((seq) => void heard.push(String(seq)))
      return well
    }),
  ])
  await host.start()
  host.engineIs('down')
  host.engineIs('up')
  host.durableIs(7)
  assert.ok(await waitUntil(() => heard.length === 3, { deadline: 30_000 }))
  assert.equal(heard, ['down', 'up', '7'])
})

test('a plugin whose runs fail three times in a row is unhealthy whatever it says', async () => {
  host = new PluginHost(services, [
    plugin('failing', (context) => {
      context.schedule('* * * * * *', 900, async () => {
        throw new Error('no luck')
      })
      return well
    }),
  ])
  await host.start()
  assert.is(reportOf('failing').healthy, true)
  assert.ok(await waitUntil(() => !reportOf('failing').healthy, { deadline: 30_000 }))
  assert.match(reportOf('failing').summary, 'failed 3 times in a row: no luck')
})

test('quiet hours keep the schedule at rest', async () => {
  quiet = 'quiet hours'
  host = new PluginHost(services, [
    plugin('scanner', (context) => {
      context.schedule('* * * * * *', 900, async () => assert.unreachable())
      return well
    }),
  ])
  await host.start()
  assert.ok(await waitUntil(() => (services.scheduler.facts()[0]?.paused ?? 0) >= 1, { deadline: 30_000 }))
})

test('plugins stop in reverse order, and one that hangs or fails does not hold up the rest', async () => {
  const stopped: string[] = []
  const stopping = (name: string, after: () => Promise<void>) =>
    plugin(name, () => ({
      ...well,
      async stop() {
        stopped.push(name)
        await after()
      },
    }))
  host = new PluginHost(services, [
    stopping('first', async () => {}),
    stopping('hanging', () => new Promise(() => {})),
    stopping('failing', async () => {
      throw new Error('no')
    }),
  ])
  await host.start()
  await host.stop(50)
  await host.stop(50)
  assert.equal(stopped, ['failing', 'hanging', 'first'])
  assert.equal(
    host.reports().map((report) => report.state),
    ['stopped', 'stopped', 'stopped'],
  )
})

test('a plugin whose start hangs is reported as starting, and is stopped if it comes up too late', async () => {
  let release = (_running: RunningPlugin) => {}
  let stopped = false
  host = new PluginHost(services, [
    plugin(
      'slow',
      () =>
        new Promise((resolve) => {
          release = resolve
        }),
    ),
  ])
  void host.start()
  assert.equal([reportOf('slow').state, reportOf('slow').healthy], ['starting', false])
  await host.stop(20)
  release({
    ...well,
    async stop() {
      stopped = true
    },
  })
  assert.ok(await waitUntil(() => stopped, { deadline: 30_000 }))
})

test.run()
