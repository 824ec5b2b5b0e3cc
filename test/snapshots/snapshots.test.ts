import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Clock, systemClock } from '../../agent/clock.ts'
import { UnexpectedContentError } from '../../agent/duckfile/copy.ts'
import { DamagedFileError, MovedFileError } from '../../agent/duckfile/reader.ts'
import {
  listSnapshots,
  newestVerified,
  prune,
  restoreFile,
  snapshotFile,
  snapshotSource,
  takeSnapshot,
  type UsableSnapshot,
  verifySnapshot,
} from '../../agent/snapshots.ts'
import type { SnapshotSource } from '../../agent/supervisor/restore.ts'
import { busyEngine } from '../duckfile/busy.ts'
import { contentOf, createDatabase } from '../duckfile/database.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('snapshots')
const random = seededRandom('snapshots')
const databaseId = '6f3c1ad2-0000-4000-8000-000000000001'
/** About half of the blocks are free at the end. */
const statements = [
  'CREATE TABLE a AS SELECT i, md5(i::VARCHAR) AS t FROM range(50000) r(i)',
  'CREATE TABLE b AS FROM a',
  'CHECKPOINT',
  'DROP TABLE a',
  'CREATE TABLE c (i INTEGER)',
  'CHECKPOINT',
]

function clockAt(iso: string): Clock {
  return { ...systemClock, now: () => Date.parse(iso), sleep: async () => {} }
}
const clock = clockAt('2026-11-23T08:45:00.750Z')

async function snapshotsOf(
  seqs: readonly number[],
  id = databaseId,
): Promise<{ directory: string; source: string; taken: UsableSnapshot[] }> {
  const source = await createDatabase(statements)
  const directory = path.join(temporaryDirectory('snapshots'), 'snapshots')
  const taken: UsableSnapshot[] = []
  for (const seq of seqs) taken.push(await snapshotFile({ source, directory, databaseId: id, seq, clock }))
  return { directory, source, taken }
}

/** One bit, so that the byte is another one whatever it was. */
function flipByte(file: string, offset = random.int(0, fs.statSync(file).size - 1)): void {
  const fd = fs.openSync(file, 'r+')
  const byte = Buffer.alloc(1)
  fs.readSync(fd, byte, 0, 1, offset)
  fs.writeSync(fd, Uint8Array.of((byte[0] as number) ^ (1 << random.int(0, 7))), 0, 1, offset)
  fs.closeSync(fd)
}

async function thrownBy(work: Promise<unknown>): Promise<Error> {
  return work.then(
    () => new Error('it threw nothing'),
    (error) => error,
  )
}

test('a snapshot is named by time and seq, its manifest says what it is, and its rows are those of the source', async () => {
  const { source, directory, taken } = await snapshotsOf([5000])
  assert.equal(fs.readdirSync(directory).sort(), ['20261123T084500Z-5000.duckdb', '20261123T084500Z-5000.duckdb.json'])
  const manifest = JSON.parse(fs.readFileSync(taken[0]?.companions[0] as string, 'utf8'))
  assert.equal(manifest, taken[0]?.manifest)
  assert.is(manifest.createdAt, '2026-11-23T08:45:00.000Z')
  assert.is(manifest.bytes, fs.statSync(source).size)
  assert.is(await contentOf(taken[0]?.file as string), await contentOf(source))
})

test('two snapshots of one second and seq do not meet', async () => {
  const { directory } = await snapshotsOf([7, 7])
  assert.is(listSnapshots(directory, databaseId).filter(({ usable }) => usable).length, 2)
})

test('snapshots are listed by seq, the newest first', async () => {
  const { directory } = await snapshotsOf([9, 100, 20])
  assert.equal(
    listSnapshots(directory, databaseId).map(({ seq }) => seq),
    [100, 20, 9],
  )
  assert.equal(listSnapshots(path.join(directory, 'missing')), [])
})

test('a snapshot that cannot be trusted is listed with the reason, and never used', async () => {
  const { directory, source, taken } = await snapshotsOf([1, 2, 3, 4, 5])
  const [noManifest, badManifest, short, missing] = taken as [
    UsableSnapshot,
    UsableSnapshot,
    UsableSnapshot,
    UsableSnapshot,
    UsableSnapshot,
  ]
  const manifestOf = (snapshot: UsableSnapshot) => snapshot.companions[0] as string
  fs.rmSync(manifestOf(noManifest))
  fs.writeFileSync(manifestOf(badManifest), '{"version": 1')
  fs.truncateSync(short.file, 5000)
  fs.rmSync(missing.file)
  await snapshotFile({ source, directory, databaseId: 'another', seq: 6, clock })
  const foreign = path.join(directory, '20261123T084500Z-7.duckdb')
  fs.copyFileSync(source, foreign)
  fs.copyFileSync(manifestOf(taken[4] as UsableSnapshot), `${foreign}.json`)
  fs.writeFileSync(path.join(directory, 'notes.txt'), 'not a snapshot')
  const listed = listSnapshots(directory, databaseId)
  assert.equal(
    listed.filter(({ usable }) => usable).map(({ seq }) => seq),
    [5],
  )
  const reasons = listed.flatMap((snapshot) => (snapshot.usable ? [] : [`${snapshot.seq}: ${snapshot.reason}`])).join('\n')
  for (const pattern of [
    /^1: .*no manifest/m,
    /^2: .*cannot be read/m,
    /^3: .*5000 bytes/m,
    /^4: .*missing/m,
    /^6: .*another database/m,
    /^7: .*seq 5/m,
  ])
    assert.match(reasons, pattern)
  for (const snapshot of listed) assert.is((await verifySnapshot(snapshot)) === null, snapshot.usable)
})

test('one flipped bit anywhere in the copy, free blocks included, is found before a restore', async () => {
  for (let i = 0; i < 10; i++) {
    const { directory, taken } = await snapshotsOf([1])
    const snapshot = taken[0] as UsableSnapshot
    assert.is(await verifySnapshot(snapshot), null)
    flipByte(snapshot.file)
    assert.type(await verifySnapshot(snapshot, { clock }), 'string')
    const target = path.join(directory, 'restored.duckdb')
    await thrownBy(restoreFile(snapshot, target, { clock }))
    assert.not(fs.existsSync(target))
  }
})

test('the newest snapshot that verifies is chosen, the damaged ones are named', async () => {
  const { directory, taken } = await snapshotsOf([1, 2, 3])
  flipByte(taken[2]?.file as string)
  fs.rmSync(taken[1]?.companions[0] as string)
  const { snapshot, rejected } = await newestVerified(directory, databaseId, { clock })
  assert.is(snapshot?.seq, 1)
  assert.equal(
    rejected.map(({ seq }) => seq),
    [3, 2],
  )
  flipByte(taken[0]?.file as string)
  assert.is((await newestVerified(directory, databaseId, { clock })).snapshot, null)
})

test('a restore puts the rows into an empty place and refuses any other', async () => {
  const { directory, source, taken } = await snapshotsOf([1])
  const snapshot = taken[0] as UsableSnapshot
  const target = path.join(directory, 'place', 'restored.duckdb')
  await restoreFile(snapshot, target)
  assert.is(await contentOf(target), await contentOf(source))
  assert.match((await thrownBy(restoreFile(snapshot, target))).message, /empty place/)
  fs.rmSync(target)
  for (const suffix of ['.wal', '.wal.checkpoint', '.wal.recovery']) {
    fs.writeFileSync(target + suffix, '')
    assert.match((await thrownBy(restoreFile(snapshot, target))).message, /empty place/)
    fs.rmSync(target + suffix)
  }
  const supervisorView: SnapshotSource = snapshotSource(directory, databaseId)
  const candidate = (await supervisorView.list())[0]
  assert.is(candidate?.seq, 1)
  assert.is(await supervisorView.verify(candidate as NonNullable<typeof candidate>), null)
  await supervisorView.restore(candidate as NonNullable<typeof candidate>, target)
  assert.is(await contentOf(target), await contentOf(source))
})

test('pruning keeps the newest usable ones and those of other databases', async () => {
  const { directory, source, taken } = await snapshotsOf([1, 2, 3, 4, 5])
  await snapshotFile({ source, directory, databaseId: 'another', seq: 1, clock })
  fs.rmSync(taken[1]?.companions[0] as string)
  fs.rmSync(taken[3]?.companions[0] as string)
  fs.writeFileSync(path.join(directory, '20261123T084500Z-9.duckdb.999999.tmp'), 'left by a crash')
  prune(directory, databaseId, 2)
  // 4 was never completed, but there are not yet two newer usable ones.
  assert.equal(
    listSnapshots(directory).map(({ seq, usable }) => `${seq} ${usable}`),
    ['5 true', '4 false', '3 true', '1 true'],
  )
  assert.equal(
    listSnapshots(directory, databaseId)
      .filter(({ usable }) => usable)
      .map(({ seq }) => seq),
    [5, 3],
  )
  assert.not(fs.readdirSync(directory).some((name) => name.endsWith('.tmp')))
})

test('a snapshot is refused while the disk could not take it', async () => {
  const source = await createDatabase(statements)
  const directory = temporaryDirectory('snapshots')
  const error = await thrownBy(snapshotFile({ source, directory, databaseId, seq: 1, clock, reserveBytes: 1e18 }))
  assert.match(error.message, /too little disk space/)
  assert.equal(fs.readdirSync(directory), [])
})

test('a snapshot of a busy engine is exactly one checkpoint, and the hold is always released', async () => {
  const engine = await busyEngine()
  const directory = temporaryDirectory('snapshots')
  const control = engine.control(databaseId)
  const paths = { database: engine.file, snapshots: directory }
  const taken = await takeSnapshot({ engine: control, paths, clock: systemClock })
  assert.is(control.held, 0)
  assert.is(taken.manifest.iteration, taken.seq)
  assert.is(await verifySnapshot(taken), null)
  // The header is not the one of the engine's last checkpoint: somebody else wrote the file.
  const lying = { ...control, hold: async () => ({ ...(await control.hold()), iteration: 1 }) }
  assert.instance(await thrownBy(takeSnapshot({ engine: lying, paths, clock: systemClock })), UnexpectedContentError)
  assert.is(control.held, 0)
  await engine.stop()
  flipByte(engine.file, 4100)
  const dead = (lost: boolean) => ({
    ...control,
    hold: async () => ({ watermark: 1, iteration: 1, lost, release: () => Promise.reject(new Error('the engine is gone')) }),
  })
  assert.instance(await thrownBy(takeSnapshot({ engine: dead(false), paths, clock })), DamagedFileError)
  assert.instance(
    await thrownBy(takeSnapshot({ engine: dead(true), paths, clock })),
    MovedFileError,
    'it may be a file that recovery has moved away',
  )
  assert.equal(
    listSnapshots(directory).map(({ file }) => file),
    [taken.file],
  )
})

test.run()
