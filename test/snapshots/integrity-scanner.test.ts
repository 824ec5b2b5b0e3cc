import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock } from '../../agent/clock.ts'
import { blockOffset } from '../../agent/duckfile/header.ts'
import { DuckFileReader } from '../../agent/duckfile/reader.ts'
import { segmentName } from '../../agent/journal/segment.ts'
import { silentLog } from '../../agent/log.ts'
import type { EngineControl, EngineStatus, Hold, Incident, PluginContext, RunningPlugin } from '../../agent/plugin.ts'
import { listSnapshots } from '../../agent/snapshots.ts'
import plugin from '../../plugins/integrity-scanner.ts'
import { busyEngine } from '../duckfile/busy.ts'
import { createDatabase } from '../duckfile/database.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('integrity scanner')
const statements = ['CREATE TABLE a AS SELECT i, md5(i::VARCHAR) AS t FROM range(50000) r(i)', 'CHECKPOINT']
const databaseId = '6f3c1ad2-0000-4000-8000-000000000002'

interface Setting {
  data: string
  incidents: Incident[]
  restores: string[]
  alerts: string[]
  plugin: RunningPlugin
  scan(): Promise<void>
  snapshot(): Promise<void>
}

/** The plugin, running on `file`; its two schedules are called by the test. */
async function scannerOf(
  file: string,
  engine: EngineControl,
  options: { keep?: number; restore?: () => Promise<void> } = {},
): Promise<Setting> {
  const data = temporaryDirectory('scanner')
  const paths = {
    data,
    database: file,
    snapshots: path.join(data, 'snapshots'),
    quarantine: '',
    deadLetter: '',
    journal: path.join(data, 'journal'),
  }
  const ticks: ((signal: AbortSignal) => Promise<void>)[] = []
  const setting = { data, incidents: [] as Incident[], restores: [] as string[], alerts: [] as string[] }
  const context = {
    name: 'integrity-scanner',
    log: silentLog,
    // Only the pause between attempts at the first snapshot is shortened.
    clock: { ...systemClock, sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(Math.min(ms, 50), signal) },
    paths,
    engine,
    supervisor: {
      async restoreDatabase(reason: string) {
        setting.restores.push(reason)
        await options.restore?.()
      },
    },
    incidents: {
      open(fields: Partial<Incident>) {
        const incident = { actions: [], closedAt: null, ...fields } as unknown as Incident
        setting.incidents.push(incident)
        return incident
      },
      close: (incident: Incident) => Object.assign(incident, { closedAt: Date.now() }),
    },
    alert: (message: string) => void setting.alerts.push(message),
    schedule: (_cron: string, _deadline: number, tick: (signal: AbortSignal) => Promise<void>) => void ticks.push(tick),
  } as unknown as PluginContext
  const parsed = plugin.options.parse(options.keep === undefined ? {} : { snapshots: { keep: options.keep } })
  const running = await plugin.start(context, parsed)
  const [scan, snapshot] = ticks
  const signal = new AbortController().signal
  return { ...setting, plugin: running, scan: async () => scan?.(signal), snapshot: async () => snapshot?.(signal) }
}

/** An engine that leaves a closed file alone. */
function quietEngine(hold: Partial<Hold>, watermark = () => 1): EngineControl & { holds: number } {
  const engine = {
    holds: 0,
    status: async () => ({ databaseId }) as EngineStatus,
    checkpoint: async () => ({ watermark: 0 }),
    probe: async () => 0,
    async hold() {
      engine.holds++
      return { iteration: 0, lost: false, ...hold, watermark: watermark(), release: async () => void engine.holds-- }
    },
  }
  return engine
}

async function headerOf(file: string) {
  const reader = await DuckFileReader.open(file, {})
  const { pages, header } = await reader.headers()
  const map = await reader.blockMap(header, pages)
  await reader.close()
  return { header, map }
}

async function damage(file: string): Promise<void> {
  const { header, map } = await headerOf(file)
  let block = 0
  while (map.isFree(block)) block++
  const fd = fs.openSync(file, 'r+')
  fs.writeSync(fd, 'damage', blockOffset(header, block) + 1000)
  fs.closeSync(fd)
}

test('the options have the documented defaults, and unknown keys are errors', () => {
  assert.equal(plugin.options.parse({}), { schedule: '*/15 * * * *', max_read_rate: 200e6, snapshots: { schedule: '0 * * * *', keep: 6 } })
  assert.not(plugin.options.safeParse({ max_rate: '1MB' }).success)
  assert.not(plugin.options.safeParse({ snapshots: { keep: 0 } }).success)
})

test('beside a busy engine the first snapshot comes by itself, scans are clean, and the file stays as it is', async () => {
  const engine = await busyEngine()
  const control = engine.control(databaseId)
  const setting = await scannerOf(engine.file, control)
  const snapshots = path.join(setting.data, 'snapshots')
  await waitFor('the first snapshot', () => listSnapshots(snapshots, databaseId).some(({ usable }) => usable))
  for (let i = 0; i < 3; i++) await setting.scan()
  const health = setting.plugin.health()
  assert.ok(health.healthy, health.summary)
  assert.is(health.facts.last_verdict, 'clean')
  assert.is(health.facts.snapshot_seq, listSnapshots(snapshots, databaseId)[0]?.seq)
  assert.equal(setting.restores, [])
  await setting.plugin.stop()
  assert.is(control.held, 0)
  await engine.stop()
})

test('the first snapshot waits for an engine that is not there yet', async () => {
  const file = await createDatabase(statements)
  const { iteration } = (await headerOf(file)).header
  const engine = quietEngine({ iteration })
  let refusals = 0
  const late = { ...engine, status: async () => (++refusals < 4 ? Promise.reject(new Error('no engine')) : engine.status()) }
  const setting = await scannerOf(file, late)
  assert.ok(setting.plugin.health().healthy)
  await waitFor('the first snapshot', () => setting.plugin.health().facts.snapshot_seq === 1)
  await setting.plugin.stop()
  await setting.plugin.stop()
})

test('damage found by a scan has the database restored, once', async () => {
  const file = await createDatabase(statements)
  const { iteration } = (await headerOf(file)).header
  const setting = await scannerOf(file, quietEngine({ iteration }))
  await waitFor('the first snapshot', () => setting.plugin.health().facts.snapshot_seq === 1)
  await damage(file)
  await setting.scan()
  assert.is(setting.restores.length, 1)
  assert.match(setting.restores[0] ?? '', /block \d+ at byte \d+: expected 0x[0-9a-f]{16}, found 0x/)
  assert.equal(setting.incidents, [], 'the supervisor records it, with loss and downtime')
  assert.not.match(setting.plugin.health().summary, /damaged/, 'the damaged file is no longer the database')
  await setting.plugin.stop()
})

test('damage found by a snapshot restores as well, and no snapshot of it is kept', async () => {
  const file = await createDatabase(statements)
  const { iteration } = (await headerOf(file)).header
  await damage(file)
  const engine = quietEngine({ iteration })
  const setting = await scannerOf(file, engine)
  await waitFor('the restore', () => setting.restores.length === 1)
  await setting.plugin.stop()
  assert.equal(listSnapshots(path.join(setting.data, 'snapshots')), [])
  assert.is(engine.holds, 0)
})

test('a restore that fails is one open incident and alerts, and the next scan tries again', async () => {
  const file = await createDatabase(statements)
  const { iteration } = (await headerOf(file)).header
  let full = true
  const setting = await scannerOf(file, quietEngine({ iteration }), {
    restore: async () => {
      if (full) throw new Error('disk full')
    },
  })
  await waitFor('the first snapshot', () => setting.plugin.health().facts.snapshot_seq === 1)
  await damage(file)
  for (let i = 0; i < 2; i++) {
    const error = await setting.scan().then(
      () => undefined,
      (thrown) => thrown,
    )
    assert.match(error.message, /disk full/)
  }
  assert.is(setting.restores.length, 2)
  assert.is(setting.incidents[0]?.closedAt, null)
  assert.is(setting.incidents.length, 1, 'one fault is one incident')
  assert.match(setting.alerts[0] ?? '', /disk full/)
  assert.not(setting.plugin.health().healthy)
  full = false
  await setting.scan()
  assert.type(setting.incidents[0]?.closedAt, 'number')
  await setting.plugin.stop()
})

test('a file that the engine did not write, and one whose engine has ended, are never called clean, and not restored either', async () => {
  const file = await createDatabase(statements)
  const { iteration } = (await headerOf(file)).header
  for (const hold of [{ iteration: iteration - 1 }, { iteration, lost: true }]) {
    const setting = await scannerOf(file, quietEngine(hold))
    await setting.scan()
    assert.is(setting.plugin.health().facts.last_verdict, 'inconclusive')
    await setting.plugin.stop()
    if (hold.lost) await damage(file)
    if (hold.lost) await setting.scan()
    assert.equal(setting.restores, [])
  }
})

test('only the newest snapshots stay, and the journal goes on where the oldest of them and every cursor ends', async () => {
  const file = await createDatabase(statements)
  const { iteration } = (await headerOf(file)).header
  let seq = 0
  const setting = await scannerOf(
    file,
    quietEngine({ iteration }, () => seq),
    { keep: 2 },
  )
  await waitFor('the first snapshot', () => setting.plugin.health().facts.snapshot_seq === 0)
  const journal = path.join(setting.data, 'journal')
  const cursors = path.join(setting.data, 'cursors')
  for (const directory of [journal, cursors]) fs.mkdirSync(directory)
  for (const first of [1, 101, 201, 301]) fs.writeFileSync(path.join(journal, segmentName(first)), '')
  const confirm = (confirmed: number) =>
    fs.writeFileSync(path.join(cursors, 'redis-mirror.json'), JSON.stringify({ version: 1, databaseId, epoch: 1, confirmed, state: null }))
  const firsts = () =>
    fs
      .readdirSync(journal)
      .sort()
      .map((name) => Number.parseInt(name, 10))
  confirm(150)
  for (seq of [250, 350]) await setting.snapshot()
  assert.equal(
    listSnapshots(path.join(setting.data, 'snapshots'), databaseId).map((snapshot) => snapshot.seq),
    [350, 250],
  )
  assert.equal(firsts(), [101, 201, 301])
  confirm(1000)
  seq = 360
  await setting.snapshot()
  assert.equal(firsts(), [301])
  await setting.plugin.stop()
})

test.run()
