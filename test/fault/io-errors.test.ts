// deadline: 600s
// beside: others
// I/O errors at the steps that write: the engine ends itself and has answered nothing that is not durable; a spill, a cursor or a snapshot that cannot be written costs no more than itself.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readCursor } from '../../agent/journal/consumer.ts'
import { repairJournal } from '../../agent/journal/repair.ts'
import { listSpills } from '../../agent/journal/spill.ts'
import { listSnapshots } from '../../agent/snapshots.ts'
import { watchSteps } from '../../agent/step.ts'
import { append, databaseId, openWriter, seqsOf } from '../fixtures/journal.ts'
import { onExit } from '../support/cleanup.ts'
import { codeOf } from '../support/engine.ts'
import { sourceCommand } from '../support/program.ts'
import { seededRandom } from '../support/random.ts'
import { startRedis } from '../support/redis.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { type Fault, faultEnvironment } from './support/faults.ts'
import { Guarded, patience } from './support/guarded.ts'
import { enginePoints } from './support/labels.ts'
import { Lives } from './support/lives.ts'
import { delivered, insertsInStream } from './support/stores.ts'
import { filesBelow, leftovers } from './support/victims.ts'

const test = suite('I/O errors')
const random = seededRandom('I/O errors')
const soak = process.env.SOAK !== undefined
/** All of them in the soak, else some. */
const some = <T>(items: readonly T[], count: number): T[] => (soak ? [...items] : random.shuffle(items).slice(0, count))

async function withLives(lives: Lives, work: () => Promise<void>): Promise<void> {
  try {
    await work()
    await lives.engine.kill()
    lives.plan([])
    assert.ok(await lives.start())
    await lives.check()
  } finally {
    await lives.engine.kill()
    lives.close()
  }
}

for (const label of ['JOURNAL:WRITE', 'JOURNAL:SYNC', 'MARK:MOVE', 'AHEAD:WRITE', 'AHEAD:WITHDRAW']) {
  test(`an I/O error at ${label} ends the engine (70), which answers nothing any more; the next one has all that was acknowledged`, async () => {
    const lives = await Lives.prepare()
    await withLives(lives, async () => {
      const hit = label === 'AHEAD:WITHDRAW' ? random.int(1, 3) : random.int(20, 60)
      lives.plan([{ label, hit, action: 'EIO', when: lives.working, partial: random.chance(0.5) }])
      assert.ok(await lives.start())
      await lives.createTables()
      if (label.startsWith('AHEAD')) lives.workAlone()
      else lives.work()
      assert.equal(await lives.ended(), { code: 70, signal: null })
    })
  })
}

const extending = ['SEGMENT:CREATE', 'SEGMENT:HEADER', 'SEGMENT:ALLOCATE', 'SEGMENT:SYNC', 'SEGMENT:ENTRY', 'SEGMENT:SEAL']

for (const label of some(extending, 1)) {
  test(`the same at ${label}, when the journal goes on to its next segment`, async () => {
    const lives = await Lives.prepare()
    await withLives(lives, async () => {
      lives.plan([{ label, hit: 1, action: random.pick(['EIO', 'EROFS']), when: lives.working, partial: true }])
      assert.ok(await lives.start())
      await lives.createTables()
      lives.workFilling()
      assert.equal(await lives.ended(), { code: 70, signal: null })
    })
  })
}

test('a writer whose disk fails at any step tells so once, acknowledges nothing after it, and has lost nothing that it acknowledged', async () => {
  for (const label of [...extending, 'JOURNAL:WRITE', 'JOURNAL:SYNC', 'MARK:MOVE']) {
    const directory = path.join(temporaryDirectory('io'), 'journal')
    const failures: Error[] = []
    const acknowledged: number[] = []
    const writer = openWriter(directory, { segmentBytes: 6000, onFailure: (error) => failures.push(error) })
    let left = random.int(2, 6)
    watchSteps((step) => {
      if (step.label === label && --left === 0) throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' })
    })
    try {
      const client = async () => {
        for (let i = 0; i < 200; i++) {
          const seq = append(writer, writer.nextSeq, random.bytes(300))
          await writer.durable(seq)
          acknowledged.push(seq)
        }
      }
      const ends = await Promise.allSettled([client(), client(), client()])
      assert.ok(
        ends.every((end) => end.status === 'rejected' && /EIO/.test(String(end.reason))),
        JSON.stringify(ends),
      )
    } finally {
      watchSteps(() => {})
    }
    assert.is(failures.length, 1, label)
    await writer.close()
    assert.equal(repairJournal(directory, databaseId, path.join(directory, '..', 'quarantine')).gaps, [], label)
    const found = new Set(seqsOf(directory))
    assert.equal(
      acknowledged.filter((seq) => !found.has(seq)),
      [],
      label,
    )
  }
})

test('an I/O error at a step of the start ends it, calls no file damaged, and the next start has everything', async () => {
  const lives = await Lives.prepare()
  await withLives(lives, async () => {
    lives.plan([])
    assert.ok(await lives.start())
    await lives.createTables()
    const writing = Object.entries(enginePoints.starting).filter(([label]) =>
      /^(REPAIR:(OPEN|CUT|REWRITE|SYNC)|SEGMENT:(?!DROP)|MARK:)/.test(label),
    )
    for (const [label, hits] of some(writing, 2)) {
      await lives.leaveSomethingToReplay()
      lives.plan([{ label, hit: random.int(1, hits), action: random.pick(['EIO', 'EROFS']), partial: random.chance(0.5) }])
      assert.not.ok(await lives.start(), `it starts over an I/O error at ${label}`)
      const { code } = await lives.engine.exit()
      // 74 would have the agent replace the database file.
      assert.ok(code !== null && code !== 0 && code !== 74, `exit ${code} after ${label}: ${lives.engine.output()}`)
      lives.plan([])
      assert.ok(await lives.start())
    }
  })
})

test('a spill that cannot be written fails its transaction alone (58030); one that cannot be removed goes at the next start', async () => {
  const lives = await Lives.prepare()
  const labels = ['SPILL:CREATE', 'SPILL:HEADER', 'SPILL:WRITE', 'SPILL:SYNC', 'SPILL:ENTRY']
  const now = (label: string) => path.join(lives.engine.data, `fail-${label}`)
  const fault = (label: string): Fault => ({ label, action: 'EIO', when: now(label), partial: true })
  const insert = "INSERT INTO large SELECT -1, i, repeat('x', 20000) FROM range(450) r(i)"
  await withLives(lives, async () => {
    lives.plan([...labels, 'SPILL:DISCARD'].map(fault))
    assert.ok(await lives.start())
    await lives.createTables()
    const client = await lives.engine.connect()
    await client.query('CREATE TABLE spare (id INTEGER)')
    for (const label of labels) {
      fs.writeFileSync(now(label), '')
      await client.query('BEGIN')
      const told = (await codeOf(client.query(insert))) ?? (await codeOf(client.query('COMMIT')))
      assert.is(told, '58030', label)
      await client.query('ROLLBACK')
      fs.rmSync(now(label))
      await client.query('INSERT INTO spare VALUES (1)')
      assert.is(listSpills(lives.journal).length, labels.indexOf(label), `after ${label}`)
      await lives.insertLarge()
      assert.is(listSpills(lives.journal).length, labels.indexOf(label) + 1)
    }
    await client.query('BEGIN')
    await client.query(insert)
    fs.writeFileSync(now('SPILL:DISCARD'), '')
    assert.is(await codeOf(client.query('ROLLBACK')), undefined)
    assert.equal(await lives.engine.sql('SELECT count(*) FROM large WHERE id = -1'), [['0']])
    await lives.engine.kill()
    lives.plan([])
    assert.ok(await lives.start())
    assert.is(listSpills(lives.journal).length, labels.length, 'those of the committed ones')
    await lives.engine.kill()
  })
})

test('a cursor, a snapshot and an incident that cannot be written: said, tried again, and nothing is doubled', async () => {
  const redis = await startRedis()
  const guarded = await Guarded.prepare({
    plugins: ['watchdog: { max_restarts: 1000 }', 'integrity-scanner: false', `redis-mirror: { url: "${redis.url}" }`],
  })
  guarded.program = sourceCommand()
  const now = (label: string) => path.join(guarded.directory, `fail-${label}`)
  const cursor = () => readCursor(path.join(guarded.data, 'cursors/redis-mirror.json'))?.confirmed
  try {
    const kinds = ['open', 'write', 'sync', 'rename'] as const
    const labels = ['CURSOR:SAVE', 'SNAPSHOT:COPY', 'SNAPSHOT:MANIFEST', 'INCIDENT:SAVE']
    const faults = labels.map(
      (label): Fault => ({ label, action: 'EIO', kinds, every: true, when: now(label), hit: random.int(1, 4), partial: true }),
    )
    guarded.env = faultEnvironment({ role: 'run', faults })
    await guarded.start()
    guarded.env = {}
    await guarded.sql('CREATE TABLE t (id BIGINT PRIMARY KEY)', 'INSERT INTO t VALUES (0)')
    await delivered(guarded, 1)
    for (const label of ['CURSOR:SAVE', 'INCIDENT:SAVE']) fs.writeFileSync(now(label), '')
    const before = cursor()
    for (let id = 1; id <= 20; id++) await guarded.sql(`INSERT INTO t VALUES (${id})`)
    const { lag } = await guarded.until('the mirror says that its cursor cannot be written', ({ problems, incidents }) => {
      const said = problems.some((problem) => /redis-mirror.*EIO/.test(problem))
      return said && incidents.some(({ cause, closedAt }) => cause === 'redis-unreachable' && closedAt === null)
    })
    assert.is(cursor(), before, 'it has not moved on the disk')
    assert.is(lag[0]?.confirmed, before, 'nor in what is said')
    assert.equal(filesBelow(path.join(guarded.data, 'incidents')), [], 'incidents are in memory only')
    for (const label of ['CURSOR:SAVE', 'INCIDENT:SAVE']) fs.rmSync(now(label))
    await delivered(guarded, 1)
    await guarded.until('the incident is closed', ({ incidents }) => incidents.every(({ closedAt }) => closedAt !== null))
    assert.is(filesBelow(path.join(guarded.data, 'incidents')).length, 1)
    assert.is((await insertsInStream(redis.url)).get('main.t'), 21)
    for (const label of ['SNAPSHOT:COPY', 'SNAPSHOT:MANIFEST']) {
      fs.writeFileSync(now(label), '')
      const { code, stderr } = await guarded.command('snapshot')
      assert.is(code, 1, label)
      assert.match(stderr, 'EIO')
      assert.equal(
        listSnapshots(path.join(guarded.data, 'snapshots')).filter(({ usable }) => usable),
        [],
      )
      fs.rmSync(now(label))
    }
    assert.is((await guarded.command('snapshot')).code, 0)
    await guarded.stop()
    assert.equal(leftovers(guarded.data), [])
  } finally {
    await guarded.end()
    await redis.kill()
  }
})

test('the journal’s file system becomes read-only under the clients’ work, as after an error of its disk', async () => {
  const disk = loopDisk()
  const lives = await Lives.prepare({ journal: path.join(disk?.directory ?? temporaryDirectory('disk'), 'journal') })
  await withLives(lives, async () => {
    // Where no file system can be mounted, the errors that it would give.
    const faults = ['JOURNAL:WRITE', 'JOURNAL:SYNC'].map(
      (label): Fault => ({ label, action: 'EROFS', hit: random.int(50, 100), when: lives.working, every: true }),
    )
    process.stdout.write(disk === undefined ? '[injected] ' : '[ext4] ')
    if (disk === undefined) {
      lives.plan(faults)
      assert.ok(await lives.start())
      await lives.createTables()
      lives.work()
      assert.equal(await lives.ended(), { code: 70, signal: null })
      return
    }
    lives.plan([])
    assert.ok(await lives.start())
    await lives.createTables()
    lives.work()
    const wanted = random.int(50, 200)
    await waitFor('clients have been acknowledged', () => lives.acknowledged.length >= wanted, { deadline: patience })
    disk.abort()
    const exit = await lives.engine.exit()
    await lives.rest()
    assert.equal(exit, { code: 70, signal: null })
    // As long as it is read-only nothing starts, and nothing is called damaged.
    const { code } = await lives.engine.spawn().exited
    assert.ok(code !== null && ![0, 70, 74].includes(code), `exit ${code}: ${lives.engine.output()}`)
    disk.remount()
  })
})

/** A small ext4 of its own that can be made to behave as after an error of its disk; undefined where that is not possible. */
function loopDisk(): { directory: string; abort(): void; remount(): void } | undefined {
  const directory = temporaryDirectory('disk')
  const image = `${directory}.img`
  const run = (command: string, ...args: string[]) => spawnSync(command, args, { encoding: 'utf8' })
  fs.writeFileSync(image, '')
  fs.truncateSync(image, 64 << 20)
  const mount = () => run('mount', '-o', 'loop', image, directory)
  if (run('mkfs.ext4', '-q', '-F', image).status !== 0 || mount().status !== 0) return undefined
  onExit(() => void run('umount', '-l', directory))
  return {
    directory,
    abort: () => assert.is(run('mount', '-o', 'remount,abort', directory).status, 0),
    remount() {
      const unmounted = run('umount', directory)
      assert.is(unmounted.status, 0, unmounted.stderr)
      const mounted = mount()
      assert.is(mounted.status, 0, mounted.stderr)
    },
  }
}

test.run()
