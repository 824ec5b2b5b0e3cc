// deadline: 240s
// The agent and its engine on Windows, as Wine 8 has it: Node 22 for Windows runs the bundled program, and a platform on this machine trades with it.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { ScanResult } from '../../agent/duckfile/scan.ts'
import { headerIteration } from '../../agent/engine/recovery.ts'
import type { JournalVerdict } from '../../agent/journal-check.ts'
import type { UsableSnapshot } from '../../agent/snapshots.ts'
import { flipBit, placesOf } from '../fault/support/damage.ts'
import { kill } from '../fault/support/guarded.ts'
import { waitFor } from '../support/wait.ts'
import { Platform, patience, WindowsHost } from './host.ts'

const test = suite('agent on Windows')

let host: WindowsHost
let platform: Platform

test.before(async () => {
  // Slow scans, so that things happen beside one.
  host = await WindowsHost.prepare([
    'watchdog: { max_restarts: 1000 }',
    'integrity-scanner: { schedule: "*/3 * * * * *", max_read_rate: 1MB, snapshots: { keep: 2 } }',
  ])
  await host.start({ inJob: true })
})

test.after(async () => {
  await host.wine.stop()
})

async function expectAllTrades(): Promise<void> {
  const client = await host.connect()
  const { rows } = await client.query({ text: 'SELECT trade_id FROM trades ORDER BY trade_id', rowMode: 'array' })
  await client.end()
  assert.equal(
    rows.map(([id]) => Number(id)).filter((id) => id < bulk),
    platform.acknowledged,
  )
}

/** Ids from here on are filling, which makes the file large enough for a scan to take a while. */
const bulk = 1e6

test('the engine is kept to its part of the machine, and what it creates to its user', async () => {
  const { isolation } = (await host.status()).engine.status ?? {}
  // Wine 8 knows no limits of job objects, and says so; on Windows the job object comes first.
  const [, core] = /^pinned to core (\d+) \(job object: /.exec(isolation?.cpu ?? '') ?? []
  assert.ok(core, isolation?.cpu)
  assert.match(isolation?.memory ?? '', /^DuckDB's own limit \(job object: /)
  const threads = fs.readdirSync(`/proc/${host.engine()}/task`)
  const allowed = threads.map((thread) =>
    /^Cpus_allowed_list:\t(.*)$/m.exec(fs.readFileSync(`/proc/${host.engine()}/task/${thread}/status`, 'utf8')),
  )
  assert.equal(new Set(allowed.map((match) => match?.[1])), new Set([core]))

  // Wine shows an access list as a mode.
  const exposed = fs
    .readdirSync(host.data, { recursive: true, encoding: 'utf8' })
    .map((name) => path.join(host.data, name))
    // A new one is in that moment the directory's alone, which Wine does not keep.
    .filter((file) => !file.endsWith('.tmp') && (fs.statSync(file).mode & 0o007) !== 0)
  assert.equal(exposed, [])
  assert.is(fs.statSync(host.data).mode & 0o007, 0)
})

test('a killed engine is replaced, with every acknowledged trade, whatever kills it', async () => {
  const client = await host.connect()
  await client.query('CREATE TABLE trades (trade_id BIGINT PRIMARY KEY, price DECIMAL(18,8), quantity DOUBLE)')
  await client.query(`INSERT INTO trades SELECT ${bulk} + range, random(), random() FROM range(100000)`)
  await client.end()
  await waitFor('no scan holds the checkpoint', async () => (await host.command('checkpoint')).code === 0, { deadline: patience })
  platform = new Platform(host)
  await platform.acknowledges(50)

  const { pid } = JSON.parse(fs.readFileSync(path.join(host.data, 'engine.json'), 'utf8')) as { pid: number }
  assert.is((await host.wine.run('taskkill', '/F', '/PID', String(pid))).code, 0)
  await platform.acknowledges(50)
  kill(host.engine())
  await platform.acknowledges(50)
  const { incidents } = await host.until('the watchdog has seen it serve', (status) =>
    status.incidents.every(({ closedAt }) => closedAt !== null),
  )
  assert.equal(
    incidents.map(({ cause, loss }) => [cause, loss]),
    [
      ['engine-died', 0],
      ['engine-died', 0],
    ],
  )
})

test('the file is scanned and copied while DuckDB has it open and trades go on', async () => {
  const scan = await host.facts<ScanResult>(0, 'scan')
  assert.is(scan.verdict, 'clean')
  assert.ok(scan.bytesRead > 1e6)
  const snapshot = await host.facts<UsableSnapshot>(0, 'snapshot')
  assert.ok(snapshot.seq > 0)
  assert.is(fs.statSync(path.join(host.data, 'snapshots', snapshot.file.split('\\').at(-1) as string)).size, snapshot.manifest.bytes)
})

test('an engine that dies while its file is read is replaced at once', async () => {
  const [agent] = host.agents()
  const reads = () => fs.readdirSync(`/proc/${agent}/fd`).some((fd) => linkOf(`/proc/${agent}/fd/${fd}`).endsWith('.duckdb'))
  await waitFor('the agent reads the file', reads, { every: 2 })
  kill(host.engine())
  await platform.acknowledges(10)
})

test('an agent that is killed, with the job object that it was in, disturbs nobody, and the next one adopts the engine', async () => {
  const engine = host.engine()
  kill(host.agent?.pid as number)
  await host.agent?.exited
  await waitFor('its job object has ended with it', () => host.agents().length === 0)
  await platform.acknowledges(50)
  assert.is((await host.command('status')).code, 3, 'unguarded')
  await host.start()
  assert.is(host.engine(), engine)
  assert.match((await host.status()).engine.supervision, /adopted/)
  const second = await host.command('run')
  assert.is(second.code, 75, second.stderr)
  await platform.acknowledges(10)
})

test('a damaged block is found, and a snapshot and the journal take the place of the file', async () => {
  const database = path.join(host.data, 'trade_data.duckdb')
  let damagedAt = -1
  const damageIsFound = async () => {
    if ((await host.status()).incidents.some(({ cause }) => cause === 'database-corrupt')) return true
    // A checkpoint may write the damaged block anew before a scan has come by.
    const iteration = headerIteration(database)
    if (iteration === damagedAt) return false
    damagedAt = iteration
    const { data } = await placesOf(database)
    flipBit(database, (data[0]?.offset as number) + 5000, 3)
    return false
  }
  await waitFor('the damage is found', damageIsFound, { deadline: patience, every: 200 })
  const { incidents } = await host.until('the file is replaced', (status) =>
    status.incidents.some(({ cause, closedAt }) => cause === 'database-corrupt' && closedAt !== null),
  )
  assert.is(incidents.find(({ cause }) => cause === 'database-corrupt')?.loss, 0)
  await platform.acknowledges(10)
  await platform.stop()
  await expectAllTrades()
})

test('agent and engine stop in order', async () => {
  const stopped = await host.command('stop', '--engine')
  assert.is(stopped.code, 0, stopped.stderr)
  assert.is((await host.agent?.exited)?.code, 0)
  assert.equal(host.engines(), [])
  const journal = await host.facts<JournalVerdict>(0, 'journal', 'verify')
  assert.is(journal.verdict, 'clean')
  assert.not.match(fs.readFileSync(path.join(host.data, 'engine.log'), 'utf8'), 'a thread for queries is missing')
})

test('a file that another program has open is waited for, and never called damaged', async () => {
  const quarantined = fs.readdirSync(path.join(host.data, 'quarantine'))
  const database = path.join(host.data, 'trade_data.duckdb')
  // UV_FS_O_EXLOCK: shared with nobody, so not before the processes that have just ended have given it back.
  const holder = host.wine.node(
    '-e',
    `const hold = () => {
      try {
        fs.openSync(${JSON.stringify(`Z:${database}`)}, 0x10000002)
        console.log('open')
      } catch {
        setTimeout(hold, 50)
      }
    }
    hold()
    setInterval(() => {}, 1000)`,
  )
  await waitFor('another program has the file', () => holder.stdout().includes('open'))
  const scan = await host.facts<ScanResult>(3, 'scan')
  assert.is(scan.verdict, 'inconclusive')
  const started = host.start()
  await waitFor('an engine waits', () => host.engines().length === 1)
  kill(holder.pid)
  await started
  await expectAllTrades()
  assert.equal(fs.readdirSync(path.join(host.data, 'quarantine')), quarantined)
  assert.is((await host.command('stop', '--engine')).code, 0)
})

function linkOf(file: string): string {
  try {
    return fs.readlinkSync(file)
  } catch {
    return ''
  }
}

test.run()
