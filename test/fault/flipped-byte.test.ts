// deadline: 300s
// beside: others
// One flipped bit in any header or live block, under load: found by the scanner's schedule or by `daemonguard scan`, quarantined, restored; all acknowledged rows are there.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Random, seededRandom } from '../support/random.ts'
import { waitFor } from '../support/wait.ts'
import { flipIn, type Place, placesOf } from './support/damage.ts'
import { Guarded, patience } from './support/guarded.ts'
import { assertSettled } from './support/ledger.ts'
import { schema, Writers } from './support/writers.ts'

const test = suite('flipped byte')
const never = '0 0 1 1 *'
/** Text that does not compress away: several data blocks. */
const ballast = [
  'CREATE TABLE ballast (id BIGINT PRIMARY KEY, noise VARCHAR)',
  'INSERT INTO ballast SELECT i, md5(i::VARCHAR) || md5((i * 7)::VARCHAR) FROM range(20000) r(i)',
]
const ballastDigest = "SELECT count(*), md5(string_agg(id::VARCHAR || noise, ',' ORDER BY id)) FROM ballast"

test('under load, the schedule finds one flipped bit in a data block, a metadata block and each header', async () => {
  const random = seededRandom('flipped byte')
  const guarded = await Guarded.prepare({
    plugins: ['watchdog: { max_restarts: 1000 }', scanner('* * * * * *'), 'checkpointer: { every_transactions: 1000000 }'],
  })
  try {
    await begin(guarded)
    const before = await guarded.sql(ballastDigest)
    const writers = new Writers(guarded)
    writers.start(['single', 'single', 'transaction', 'transaction'])
    try {
      for (const kind of ['data', 'metadata', 'main header', 'header 1', 'header 2', 'data'] as const) {
        await moreAcknowledged(writers, 30)
        const place = await choose(guarded, kind, random)
        const engine = guarded.enginePid()
        const known = new Set((await guarded.status()).incidents.map(({ id }) => id))
        const { offset, bit } = flipIn(guarded.database, place, random)
        const flipped = fs.readFileSync(guarded.database).subarray(place.offset, place.offset + place.length)
        process.stdout.write(`[bit ${bit} at ${offset}, ${place.what}] `)
        const status = await guarded.until(`the flipped bit in ${place.what} is found and repaired`, ({ incidents, engine: { state } }) =>
          incidents.some(
            ({ id, cause, closedAt }) => !known.has(id) && cause === 'database-corrupt' && closedAt !== null && state === 'up',
          ),
        )
        const incident = status.incidents.find(({ id }) => !known.has(id))
        assert.is(incident?.cause, 'database-corrupt')
        assert.is(incident?.loss, 0)
        assert.ok((incident?.downtimeMs ?? 0) > 0)
        assert.match(JSON.stringify(incident), new RegExp(`"offset":${place.offset}\\b`), 'the incident names the place')
        assert.is.not(guarded.enginePid(), engine)
        assert.ok(
          quarantined(guarded).some((file) =>
            fs
              .readFileSync(file)
              .subarray(place.offset, place.offset + place.length)
              .equals(flipped),
          ),
          'the damaged file is kept as it was',
        )
        await moreAcknowledged(writers, 30)
      }
    } finally {
      await writers.stop()
    }
    await assertSettled(guarded, writers)
    assert.equal(await guarded.sql(ballastDigest), before)
    const scan = await guarded.command('scan')
    assert.is(scan.code, 0, scan.stdout)
    await guarded.stop()
  } finally {
    await guarded.end()
  }
})

test('`daemonguard scan` finds a flipped bit and says what to type, and `daemonguard restore` puts a snapshot and the journal in its place', async () => {
  const random = seededRandom('scan')
  const guarded = await Guarded.prepare({
    plugins: ['watchdog: { max_restarts: 1000 }', scanner(never), 'checkpointer: { every_transactions: 1000000 }'],
  })
  try {
    await begin(guarded)
    const before = await guarded.sql(ballastDigest)
    await guarded.sql("INSERT INTO singles VALUES (1, 0, 'after the snapshot')")
    assert.is((await guarded.command('scan')).code, 0)
    const place = await choose(guarded, 'data', random)
    flipIn(guarded.database, place, random)
    const scan = await guarded.command('scan')
    assert.is(scan.code, 1, scan.stdout)
    assert.match(scan.stdout, place.what)
    assert.match(scan.stdout, 'daemonguard restore')
    const restore = await guarded.command('restore')
    assert.is(restore.code, 0, `${restore.stdout}${restore.stderr}`)
    assert.equal(await guarded.sql(ballastDigest), before)
    assert.equal(await guarded.sql('SELECT id, note FROM singles'), [['1', 'after the snapshot']])
    assert.is((await guarded.command('scan')).code, 0)
    await guarded.stop()
  } finally {
    await guarded.end()
  }
})

test('a file that was damaged while nothing ran is restored at the next start', async () => {
  const random = seededRandom('at rest')
  const guarded = await Guarded.prepare({ plugins: ['watchdog: { max_restarts: 1000 }', scanner(never)] })
  try {
    await begin(guarded)
    const before = await guarded.sql(ballastDigest)
    await guarded.sql("INSERT INTO singles VALUES (1, 0, 'after the snapshot')")
    await guarded.stop()
    for (const kind of ['header 1', 'header 2', 'main header', 'metadata'] as const) {
      const place = await choose(guarded, kind, random, false)
      const { offset, bit } = flipIn(guarded.database, place, random)
      process.stdout.write(`[bit ${bit} at ${offset}, ${place.what}] `)
      await guarded.start()
      assert.equal(await guarded.sql(ballastDigest), before)
      assert.equal(await guarded.sql('SELECT id, note FROM singles'), [['1', 'after the snapshot']])
      const { incidents } = await guarded.status()
      assert.ok(
        incidents.some(({ cause }) => cause === 'database-corrupt'),
        JSON.stringify(incidents),
      )
      await guarded.stop()
    }
  } finally {
    await guarded.end()
  }
})

function scanner(schedule: string): string {
  return `integrity-scanner: { schedule: "${schedule}", snapshots: { schedule: "${never}" } }`
}

/** Tables, ballast, and the first snapshot. */
async function begin(guarded: Guarded): Promise<void> {
  await guarded.start()
  await guarded.sql(...schema, ...ballast)
  const snapshot = await guarded.command('snapshot')
  assert.is(snapshot.code, 0, `${snapshot.stdout}${snapshot.stderr}`)
}

/** Brings the file up to date (while an engine serves) and picks a place in it. */
async function choose(guarded: Guarded, kind: string, random: Random, checkpoint = true): Promise<Place> {
  if (checkpoint) {
    await waitFor(
      'a checkpoint, which the scan of every second may hold off',
      async () => {
        const { code, stderr } = await guarded.command('checkpoint')
        if (code !== 0) assert.match(stderr, 'a scan or a snapshot holds checkpoints')
        return code === 0
      },
      { deadline: patience },
    )
  }
  const { headers, metadata, data } = await placesOf(guarded.database)
  if (kind === 'data' || kind === 'metadata') return random.pick(kind === 'data' ? data : metadata)
  return headers.find(({ what }) => what === kind) as Place
}

async function moreAcknowledged(writers: Writers, orders: number): Promise<void> {
  const target = writers.acknowledged + orders
  await waitFor(
    `${orders} more orders are acknowledged`,
    () => {
      writers.check()
      return writers.acknowledged >= target
    },
    { deadline: patience },
  )
}

/** Database files in quarantine. */
function quarantined(guarded: Guarded): string[] {
  const directory = path.join(guarded.data, 'quarantine')
  if (!fs.existsSync(directory)) return []
  const files = fs.readdirSync(directory, { recursive: true, withFileTypes: true })
  return files.filter((entry) => entry.isFile() && entry.name.endsWith('.duckdb')).map((entry) => path.join(entry.parentPath, entry.name))
}

test.run()
