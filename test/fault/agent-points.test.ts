// deadline: 900s
// beside: others
// Every labelled step of the agent: it is killed there, again while it starts after that; deliveries, snapshots, the journal and the evidence bear it.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readCursor } from '../../agent/journal/consumer.ts'
import { listSegments } from '../../agent/journal/segment.ts'
import { listSpills } from '../../agent/journal/spill.ts'
import { verifyJournal } from '../../agent/journal-check.ts'
import { logLimit } from '../../agent/log-file.ts'
import { listSnapshots, verifySnapshot } from '../../agent/snapshots.ts'
import { startChdb } from '../support/chdb.ts'
import { onExit } from '../support/cleanup.ts'
import { spawnChild } from '../support/process.ts'
import { sourceCommand } from '../support/program.ts'
import { seededRandom } from '../support/random.ts'
import { startRedis } from '../support/redis.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { flipIn, placesOf } from './support/damage.ts'
import { Guarded, patience } from './support/guarded.ts'
import { agentPoints, labelsOf } from './support/labels.ts'
import { assertSettled } from './support/ledger.ts'
import { clickHouseRows, delivered, insertsInStream } from './support/stores.ts'
import { filesBelow, leftovers, Victims } from './support/victims.ts'
import { legs, schema, Writers } from './support/writers.ts'

const test = suite('agent points')
const random = seededRandom('agent points')
const passes = process.env.SOAK === undefined ? 1 : 10
const victims = new Victims(random)
const never = '0 0 1 1 *'
/** What a rotten cursor holds. */
const broken = '{'

async function agentDies(guarded: Guarded, label: string, hits: number): Promise<void> {
  guarded.env = victims.killedAt(label, hits, 'run')
  await victims.dies(guarded.startAgent())
  guarded.env = {}
}

for (let pass = 0; pass < passes; pass++) {
  test(`the agent is killed at each step of guarding and delivering (pass ${pass + 1})`, async () => {
    const [redis, clickhouse] = await Promise.all([startRedis(), startChdb()])
    const consumers = [
      `redis-mirror: { url: "${redis.url}", tables: ["singles", "legs"] }`,
      `clickhouse-shipper: { url: "${clickhouse.url}", tables: ["singles", "legs", "orders"], batch: { rows: 500, max_delay: 50ms }, backoff: [50ms] }`,
    ]
    const common = ['watchdog: { schedule: "* * * * * *", max_restarts: 1000 }', 'checkpointer: { every_transactions: 20 }', ...consumers]
    const guarded = await Guarded.prepare({ plugins: [...common, 'integrity-scanner: false'] })
    guarded.program = sourceCommand()
    const inData = (name: string) => path.join(guarded.data, name)
    try {
      await clickHouseRows(
        clickhouse.url,
        `CREATE TABLE orders (id Int64, side Enum8('buy' = 1, 'sell' = 2), _dg_host String, _dg_seq UInt64, _dg_time DateTime, _dg_deleted UInt8)
         ENGINE = ReplacingMergeTree(_dg_seq) ORDER BY (_dg_host, id)`,
      )
      await guarded.start()
      await guarded.sql(...schema, 'CREATE TABLE orders (id BIGINT PRIMARY KEY, side VARCHAR)', 'CREATE TABLE large (id BIGINT, v VARCHAR)')
      // Two segments, each with a spill, that can go once a snapshot has them.
      for (let i = 0; i < 2; i++) {
        await guarded.sql("INSERT INTO large SELECT i, repeat('x', 20000) FROM range(450) r(i)")
        await guarded.killEngine()
        await waitFor('the engine is back', async () => (await guarded.sql('SELECT 1')).length === 1, { deadline: patience })
      }
      const third = listSegments(inData('journal')).at(-1)?.firstSeq as number
      const [orders, refused] = [['buy'], [] as number[]]
      const insertOrder = async (side: string) => {
        orders.push(side)
        if (side === 'bananas') refused.push(orders.length)
        await guarded.sql(`INSERT INTO orders VALUES (${orders.length}, '${side}')`)
      }
      await guarded.sql("INSERT INTO orders VALUES (1, 'buy')")
      // Both have cursors.
      await delivered(guarded)
      const writers = new Writers(guarded, { pause: 50 })
      writers.start(['single', 'transaction'])
      await guarded.killAgent()

      const cursor = () => inData(`cursors/${random.pick(['redis-mirror', 'clickhouse-shipper'])}.json`)
      const prepare: Record<string, () => unknown> = {
        'DEADLETTER:SAVE': () => insertOrder('bananas'),
        'INCIDENT:SAVE': () => insertOrder('bananas'),
        'LOG:ROTATE': () => fs.truncateSync(inData('engine.log'), logLimit),
        'CURSOR:BAD': () => fs.writeFileSync(cursor(), broken),
        'CURSOR:FOREIGN': () => {
          const file = cursor()
          fs.writeFileSync(file, JSON.stringify({ ...readCursor(file), databaseId: 'another', confirmed: 5 }))
        },
        'COPY:LEFTOVER': () => fs.writeFileSync(inData(`snapshots/20200101T000000Z-1.duckdb.${guarded.agent?.pid}.tmp`), 'half'),
      }
      const strike = async (points: Readonly<Record<string, number>>) => {
        for (const [label, hits] of random.shuffle(Object.entries(points))) {
          await prepare[label]?.()
          await agentDies(guarded, label, hits)
          await assertSound(guarded)
        }
      }
      await strike(agentPoints.guarding)
      // A foreign cursor keeps nothing back; what takes its place must be there before anything is deleted.
      await guarded.start()
      await delivered(guarded)
      await guarded.killAgent()
      guarded.configure({
        plugins: [...common, `integrity-scanner: { schedule: "${never}", snapshots: { schedule: "* * * * * *", keep: 1 } }`],
      })
      await strike(agentPoints.retaining)
      await strike(agentPoints.keeping)
      for (const [label, hits] of Object.entries(agentPoints.stopping)) {
        guarded.env = victims.killedAt(label, hits, 'run')
        await guarded.start()
        const [agent] = [guarded.agent, await guarded.command('stop')]
        await victims.dies(agent as NonNullable<typeof agent>)
        guarded.env = {}
      }
      await insertOrder('sell')
      await guarded.start()
      await writers.stop()
      await delivered(guarded)
      await assertSettled(guarded, writers, { redis: redis.url, clickhouse: clickhouse.url })
      const inserted = await insertsInStream(redis.url)
      assert.equal([inserted.get('main.singles'), inserted.get('main.legs')], [writers.singles.size, writers.transactions.size * legs])
      assert.equal(
        (await clickHouseRows(clickhouse.url, 'SELECT toString(id), toString(side) FROM orders ORDER BY id')).map(([id]) => Number(id)),
        orders.flatMap((_side, i) => (refused.includes(i + 1) ? [] : [i + 1])),
      )
      const letters = filesBelow(inData('dead-letter')).flatMap((file) => JSON.parse(fs.readFileSync(file, 'utf8')).rows)
      assert.equal(letters.map(({ cells }) => Number(cells.id)).sort(), refused)
      // Segments go once they may; what a death left of their spills goes at the engine's next start.
      await waitFor('the segments with the spills are gone', () => oldestSeq(guarded) >= third, { deadline: patience })
      await guarded.killEngine()
      await waitFor('the engine is back', async () => (await guarded.sql('SELECT 1')).length === 1, { deadline: patience })
      assert.equal(listSpills(inData('journal')), [])
      const { incidents } = await guarded.until('no incident is open', ({ incidents }) =>
        incidents.every(({ closedAt }) => closedAt !== null),
      )
      assert.equal(
        incidents.filter(({ severity }) => severity === 'critical'),
        [],
      )
      assert.ok(incidents.some(({ cause }) => cause === 'cursor-corrupt'))
      const verified = await guarded.command('journal', 'verify')
      assert.is(verified.code, 0, `${verified.stdout}${verified.stderr}`)
      await guarded.stop()
      await assertSound(guarded)
      assert.equal(leftovers(guarded.data), [])
    } finally {
      await guarded.end()
      await Promise.all([redis.kill(), clickhouse.kill()])
    }
  })

  test(`the agent is killed at each step of a restore (pass ${pass + 1})`, async () => {
    const plugins = ['watchdog: { max_restarts: 1000 }', 'integrity-scanner: false']
    const guarded = await Guarded.prepare({ plugins })
    guarded.program = sourceCommand()
    try {
      await guarded.start()
      await guarded.sql('CREATE TABLE trades (id BIGINT PRIMARY KEY, noise VARCHAR)')
      for (const first of [0, 1000]) {
        await guarded.sql(`INSERT INTO trades SELECT i, md5(i::VARCHAR) FROM range(${first}, ${first + 1000}) r(i)`)
        for (const command of ['checkpoint', 'snapshot']) {
          const { code, stdout, stderr } = await guarded.command(command)
          assert.is(code, 0, `${command}: ${stdout}${stderr}`)
        }
      }
      await guarded.sql("INSERT INTO trades VALUES (-1, 'after the snapshots')")
      const state = await guarded.sql('SELECT count(*), sum(hash(id, noise)) FROM trades')
      await guarded.stop()
      const [newest] = listSnapshots(path.join(guarded.data, 'snapshots'))
      const { metadata } = await placesOf(guarded.database)
      for (const file of [guarded.database, newest?.file as string]) flipIn(file, random.pick(metadata), random)
      const evidence = [guarded.database, newest?.file as string].map((file) => fs.readFileSync(file))
      for (const [label, hits] of Object.entries(agentPoints.restoring)) await agentDies(guarded, label, hits)
      // While it remembers that the restore is done.
      await agentDies(guarded, 'SUPERVISOR:STATE', agentPoints.restoring['SUPERVISOR:STATE'])
      await guarded.start()
      assert.equal(await guarded.sql('SELECT count(*), sum(hash(id, noise)) FROM trades'), state)
      const { incidents } = await guarded.until('no incident is open', ({ incidents }) =>
        incidents.every(({ closedAt }) => closedAt !== null),
      )
      const incident = incidents.find(({ cause }) => cause === 'database-corrupt')
      assert.is(incident?.loss, 0, JSON.stringify(incidents))
      assertNamed(path.join(guarded.data, 'quarantine'), evidence)
      await guarded.stop()
      assert.equal(leftovers(guarded.data), [])
    } finally {
      await guarded.end()
    }
  })

  test(`killed at each step of bringing evidence over from another file system (pass ${pass + 1})`, async () => {
    const elsewhere = fs.mkdtempSync('/dev/shm/ap-')
    onExit(() => fs.rmSync(elsewhere, { recursive: true, force: true }))
    const here = temporaryDirectory('q')
    assert.is.not(fs.statSync(elsewhere).dev, fs.statSync(here).dev, 'the test needs two file systems')
    const program = path.join(import.meta.dirname, 'support/quarantine-files.ts')
    const points = { ...agentPoints.bringing, 'QUARANTINE:MOVE': 5, 'QUARANTINE:REASON': 24 }
    for (const [label, hits] of Object.entries(points)) {
      const files = [path.join(elsewhere, label), path.join(here, label)]
      const evidence = files.map(() => random.bytes(5000))
      for (const [i, file] of files.entries()) fs.writeFileSync(file, evidence[i] as Uint8Array)
      const quarantine = path.join(here, `quarantine-${label}`)
      await victims.dies(
        spawnChild(process.execPath, [program, quarantine, ...files], { env: victims.killedAt(label, hits, 'quarantine-files') }),
      )
      assertNamed(quarantine, evidence, files)
    }
  })
}

test('every step of the agent is among them', () => {
  assert.equal(
    labelsOf(agentPoints).filter((label) => !victims.has(label)),
    [],
  )
})

/** What must hold whenever the agent is dead: nothing half is believed, nothing that is needed is gone, and everything can be read. */
async function assertSound(guarded: Guarded): Promise<void> {
  const after = `after ${victims.story.slice(-3).join(', ')}`
  const usable = listSnapshots(path.join(guarded.data, 'snapshots')).filter((snapshot) => snapshot.usable)
  for (const snapshot of usable) assert.is(await verifySnapshot(snapshot), null, after)
  const confirmed = filesBelow(path.join(guarded.data, 'cursors'))
    .filter((file) => file.endsWith('.json') && fs.readFileSync(file, 'utf8') !== broken)
    .map((file) => readCursor(file)?.confirmed ?? 0)
  const needed = Math.min(...confirmed, ...usable.map(({ seq }) => seq))
  assert.ok(oldestSeq(guarded) <= needed + 1, `the journal begins at ${oldestSeq(guarded)}, seq ${needed + 1} is needed ${after}`)
  const journal = verifyJournal(path.join(guarded.data, 'journal'))
  assert.is.not(journal.verdict, 'damaged', `${after}: ${JSON.stringify(journal)}`)
  for (const directory of ['incidents', 'dead-letter'])
    for (const file of filesBelow(path.join(guarded.data, directory))) if (file.endsWith('.json')) JSON.parse(fs.readFileSync(file, 'utf8'))
}

function oldestSeq(guarded: Guarded): number {
  return listSegments(path.join(guarded.data, 'journal'))[0]?.firstSeq ?? 0
}

/** Each piece of evidence lies, whole, where a report in quarantine says, or where it lay (one of `originals`). */
function assertNamed(quarantine: string, evidence: readonly Uint8Array[], originals: readonly string[] = []): void {
  const reports = filesBelow(quarantine).filter((file) => path.basename(file) === 'reason.json')
  const named = reports.flatMap((report) => JSON.parse(fs.readFileSync(report, 'utf8')).files as { file: string }[]).map(({ file }) => file)
  const places = [...new Set([...named, ...originals])].filter((file) => fs.existsSync(file))
  for (const [i, bytes] of evidence.entries())
    assert.ok(
      places.some((file) => fs.readFileSync(file).equals(bytes)),
      `evidence ${i} lies at none of ${places.join(', ')} after ${victims.story.slice(-3).join(', ')}`,
    )
}

test.run()
