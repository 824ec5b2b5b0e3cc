/** The snapshot step and the takeover of foreign files, by the supervisor over real processes and files. */

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { segmentName } from '../../agent/journal/segment.ts'
import type { SnapshotSource } from '../../agent/supervisor/restore.ts'
import { isAlive } from '../support/process.ts'
import { waitFor } from '../support/wait.ts'
import { giveIdentity, type Supervised, supervise } from './fixture.ts'

const test = suite('restore')
const open: Supervised[] = []

test.after.each(async () => {
  for (const { supervisor } of open.splice(0)) {
    const { pid } = supervisor.status()
    if (pid !== null && isAlive(pid)) process.kill(pid, 'SIGKILL')
    await supervisor.stop()
  }
})

/** Snapshots as files whose content says what they are: `good…` verifies. */
function snapshotsIn(directory: string): SnapshotSource {
  return {
    list: () =>
      fs
        .readdirSync(directory)
        .filter((name) => name.endsWith('.duckdb'))
        .map((name) => ({
          file: path.join(directory, name),
          companions: [path.join(directory, `${name}.json`)],
          seq: Number.parseInt(name, 10),
        }))
        .sort((a, b) => b.seq - a.seq),
    verify: async ({ file }) => (fs.readFileSync(file, 'utf8').startsWith('good') ? null : 'block 3: checksum'),
    restore: async ({ file }, target) => fs.copyFileSync(file, target),
  }
}

function begin(
  options: Parameters<typeof supervise>[0] & {
    snapshots?: Record<string, string>
    journal?: number[]
    database?: string
    wal?: string
    identity?: boolean
  },
): Supervised {
  let directory = ''
  const it = supervise({ ...options, overrides: { snapshots: () => snapshotsIn(directory), ...options.overrides } })
  directory = it.paths.snapshots
  for (const each of [it.paths.data, it.paths.snapshots, it.paths.journal]) fs.mkdirSync(each, { recursive: true })
  for (const [name, content] of Object.entries(options.snapshots ?? {})) {
    fs.writeFileSync(path.join(directory, name), content)
    fs.writeFileSync(path.join(directory, `${name}.json`), '{}')
  }
  for (const seq of options.journal ?? []) fs.writeFileSync(path.join(it.paths.journal, segmentName(seq)), '')
  if (options.database !== undefined) fs.writeFileSync(it.paths.database, options.database)
  if (options.wal !== undefined) fs.writeFileSync(`${it.paths.database}.wal`, options.wal)
  if (options.identity !== false && options.directory === undefined) giveIdentity(it.paths)
  open.push(it)
  return it
}

async function served(it: Supervised) {
  await waitFor('an engine that serves and no open incident', () => {
    return it.supervisor.status().state === 'up' && it.incidents.list().every((incident) => incident.closedAt !== null)
  })
  return it.incidents.list()
}

const contents = (it: Supervised) =>
  fs.readdirSync(it.paths.quarantine).flatMap((name) => {
    const directory = path.join(it.paths.quarantine, name)
    const files = fs.readdirSync(directory).filter((file) => file !== 'reason.json' && !file.endsWith('.json'))
    return files.map((file) => `${name.replace(/^[^-]+-/, '')}/${file}: ${fs.readFileSync(path.join(directory, file), 'utf8')}`)
  })

test('a corrupt database is quarantined with its WAL, and the newest snapshot that verifies takes its place', async () => {
  const it = begin({
    engines: [['exits', '74', 'block 7 of trade_data.duckdb: checksum'], ['healthy']],
    snapshots: { '10.duckdb': 'good 10', '20.duckdb': 'good 20', '30.duckdb': 'rotten' },
    journal: [1, 15],
    database: 'broken',
  })
  await it.supervisor.start()
  const [incident] = await served(it)
  assert.is(fs.readFileSync(it.paths.database, 'utf8'), 'good 20')
  assert.equal(contents(it).sort(), ['database-corrupt/trade_data.duckdb: broken', 'snapshot-corrupt/30.duckdb: rotten'])
  assert.is(incident?.cause, 'database-corrupt')
  assert.is(incident?.severity, 'critical')
  assert.is(incident?.loss, 0)
  assert.ok((incident?.downtimeMs ?? 0) > 0)
  assert.match(incident?.actions.join('\n') ?? '', /30.duckdb is damaged \(block 3: checksum\)[\s\S]*restored 20.duckdb \(seq 20\)/)
  assert.is(it.supervisor.status().restarts, 0, 'a step of the ladder is no failed restart')
  const evidence = incident?.evidence as { quarantine: string[] } | undefined
  const reason = JSON.parse(fs.readFileSync(path.join(evidence?.quarantine[0] ?? '', 'reason.json'), 'utf8'))
  assert.is(reason.reason, 'block 7 of trade_data.duckdb: checksum')
})

test('a snapshot that the engine refuses too is followed by an older one, and then by the journal alone', async () => {
  const it = begin({
    engines: [['exits', '74'], ['exits', '74'], ['exits', '74'], ['healthy']],
    snapshots: { '10.duckdb': 'good 10', '20.duckdb': 'good 20' },
    journal: [1],
    database: 'broken',
  })
  await it.supervisor.start()
  const [incident] = await served(it)
  assert.not(fs.existsSync(it.paths.database))
  assert.equal(contents(it).sort(), [
    'database-corrupt/trade_data.duckdb: broken',
    'database-corrupt/trade_data.duckdb: good 10',
    'database-corrupt/trade_data.duckdb: good 20',
  ])
  assert.is(incident?.loss, 0)
})

test("without a snapshot and without the journal's beginning the loss is named", async () => {
  const it = begin({ engines: [['exits', '74'], ['healthy']], journal: [100], database: 'broken' })
  await it.supervisor.start()
  const [incident] = await served(it)
  assert.equal(incident?.loss, { firstSeq: 1, lastSeq: 99, tables: [] })
})

test('with neither snapshot nor journal the loss is unknown, never clean', async () => {
  const it = begin({ engines: [['exits', '74'], ['healthy']], database: 'broken' })
  await it.supervisor.start()
  assert.is((await served(it))[0]?.loss, 'unknown')
})

test('an engine that calls even an empty database corrupt is given up', async () => {
  const it = begin({ engines: [['exits', '74']], snapshots: { '10.duckdb': 'good' }, journal: [1], database: 'broken' })
  await it.supervisor.start()
  assert.is(it.supervisor.status().state, 'gave-up')
})

test('restoreDatabase replaces the file of a serving engine, also of one that had given up', async () => {
  const it = begin({ engines: [['healthy']], snapshots: { '10.duckdb': 'good 10' }, journal: [1], database: 'damaged' })
  await it.supervisor.start()
  await served(it)
  const pid = it.supervisor.status().pid
  await it.supervisor.restoreDatabase('block 9: checksum', { block: 9 })
  const [incident] = await served(it)
  assert.is.not(it.supervisor.status().pid, pid)
  assert.is(fs.readFileSync(it.paths.database, 'utf8'), 'good 10')
  assert.equal(contents(it), ['database-corrupt/trade_data.duckdb: damaged'])
  assert.is(incident?.evidence.block, 9)
  assert.is(incident?.loss, 0)

  const broken = begin({
    engines: [['exits'], ['exits'], ['exits'], ['exits'], ['healthy']],
    snapshots: { '10.duckdb': 'good 10' },
    journal: [1],
    database: 'damaged',
  })
  await broken.supervisor.start()
  assert.is(broken.supervisor.status().state, 'gave-up')
  await broken.supervisor.restoreDatabase('the operator says so', {})
  await served(broken)
})

test('a restore that is asked for while another is under way joins it: the one snapshot is not taken for a failed one', async () => {
  const it = begin({ engines: [['healthy']], snapshots: { '10.duckdb': 'good 10' }, journal: [11], database: 'damaged' })
  await it.supervisor.start()
  await served(it)
  await Promise.all([it.supervisor.restoreDatabase('the scanner says so', {}), it.supervisor.restoreDatabase('the operator says so', {})])
  const [incident] = await served(it)
  assert.is(fs.readFileSync(it.paths.database, 'utf8'), 'good 10')
  assert.equal(contents(it), ['database-corrupt/trade_data.duckdb: damaged'])
  assert.is(incident?.loss, 0)
})

test('a snapshot that cannot be copied leaves no empty database behind: the step is repeated, by the next agent too', async () => {
  const full: SnapshotSource = {
    list: () => [{ file: '/snapshots/10.duckdb', companions: [], seq: 10 }],
    verify: async () => null,
    restore: async () => {
      throw new Error('ENOSPC: no space left on device')
    },
  }
  const it = begin({ engines: [['exits', '74'], ['healthy']], journal: [11], database: 'broken', overrides: { snapshots: () => full } })
  await it.supervisor.start()
  assert.is(it.supervisor.status().state, 'gave-up')
  assert.match(it.supervisor.status().problem ?? '', 'ENOSPC')
  assert.equal(it.started, ['exits'])
  await it.supervisor.stop()
  const next = begin({ engines: [['healthy']], directory: it.paths.data, snapshots: { '10.duckdb': 'good 10' } })
  await next.supervisor.start()
  await served(next)
  assert.is(fs.readFileSync(next.paths.database, 'utf8'), 'good 10')
  assert.equal(contents(next), ['database-corrupt/trade_data.duckdb: broken'])
})

test('an existing database is taken over before the first start', async () => {
  const it = begin({ engines: [['healthy']], database: 'of the platform', identity: false })
  await it.supervisor.start()
  await served(it)
  assert.ok(fs.existsSync(it.paths.identityFile))
})

test('a known database with a WAL beside it is taken over, one without is not', async () => {
  const it = begin({ engines: [['healthy']], database: 'ours', wal: 'of another tool' })
  await it.supervisor.start()
  await served(it)
  assert.not(fs.existsSync(`${it.paths.database}.wal`), 'the fixture has adopted it')
  const plain = begin({ engines: [['healthy']], database: 'ours', adopt: ['adopts', '1'] })
  await plain.supervisor.start()
  await served(plain)
})

for (const [how, behaviour] of [
  ['is refused', '74'],
  ['aborts the process', 'abort'],
] as const) {
  test(`a WAL whose replay ${how} goes to quarantine, and its content is named as unknown`, async () => {
    const it = begin({
      engines: [['healthy']],
      database: 'of the platform',
      wal: 'poison',
      identity: false,
      adopt: ['adopts', behaviour, 'unless-wal'],
    })
    await it.supervisor.start()
    const [incident] = await served(it)
    assert.equal(contents(it), ['wal-not-replayable/trade_data.duckdb.wal: poison'])
    assert.is(incident?.cause, 'wal-not-replayable')
    assert.is(incident?.loss, 'unknown')
    assert.is(it.alerts.length, 1)
    assert.is(fs.readFileSync(it.paths.database, 'utf8'), 'of the platform')
  })
}

test('an existing file that cannot be taken over is left where it is, with its WAL', async () => {
  const it = begin({ engines: [['healthy']], database: 'not a database', wal: 'its WAL', identity: false, adopt: ['adopts', '74'] })
  await it.supervisor.start()
  assert.is(it.supervisor.status().state, 'gave-up')
  assert.match(it.supervisor.status().hint ?? '', `daemonguard scan ${it.paths.database}`)
  assert.is(fs.readFileSync(it.paths.database, 'utf8'), 'not a database')
  assert.is(fs.readFileSync(`${it.paths.database}.wal`, 'utf8'), 'its WAL')
  assert.equal(it.started, [])
})

test('an adoption that was interrupted goes on, whatever is there by then', async () => {
  const it = begin({ engines: [['healthy']], adopt: ['adopts', '1'] })
  fs.mkdirSync(path.join(it.paths.data, 'adoption'))
  fs.writeFileSync(path.join(it.paths.data, 'adoption', 'plan.json'), '{}')
  await it.supervisor.start()
  assert.equal(it.started, [], 'no engine starts before the adoption has ended well')
})

test('a database that another program still has open is not touched', async () => {
  const it = begin({ engines: [['healthy']], database: 'of the platform', wal: 'in use', identity: false, adopt: ['adopts', 'abort'] })
  const { spawn } = await import('node:child_process')
  // fcntl's whole-file write lock, as DuckDB takes it.
  const program =
    'import fcntl,sys,time; f=open(sys.argv[1],"r+"); fcntl.lockf(f, fcntl.LOCK_EX); print("held", flush=True); time.sleep(1000)'
  const platform = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'python3', '-c', program, it.paths.database])
  let output = ''
  platform.stdout.on('data', (text) => {
    output += text
  })
  await waitFor('the lock', () => output.includes('held'))
  await it.supervisor.start()
  assert.is(it.supervisor.status().state, 'down')
  assert.match(it.supervisor.status().problem ?? '', `process ${platform.pid} has the database file open`)
  assert.is(fs.readFileSync(`${it.paths.database}.wal`, 'utf8'), 'in use')
  platform.kill('SIGKILL')
})

test.run()
