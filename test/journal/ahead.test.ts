// What is written ahead of DuckDB's commit (JournalWriter.writeAhead): nobody is told of it before DuckDB has committed it, and nothing is left of what is withdrawn.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { DurableSeq } from '../../agent/durable.ts'
import { openConsumer } from '../../agent/journal/consumer.ts'
import { beginTrial, type Doubt, endTrial, isHopeless, keep, trialNote, withdraw } from '../../agent/journal/doubt.ts'
import { markFile, readMark } from '../../agent/journal/mark.ts'
import { repairJournal } from '../../agent/journal/repair.ts'
import { listSegments, segmentHeaderBytes } from '../../agent/journal/segment.ts'
import { readTransactions } from '../../agent/journal/transactions.ts'
import type { Change, Transaction } from '../../agent/journal/types.ts'
import type { Ahead, JournalWriter } from '../../agent/journal/writer.ts'
import {
  append,
  type BatchPlace,
  batchesOf,
  databaseId,
  encoded,
  filesOf,
  lastSeqOnDisk,
  openWriter,
  putFiles,
  rebooted,
  seqsOf,
  setMark,
} from '../fixtures/journal.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { withSync } from './support/sync.ts'

const test = suite('written ahead')
const random = seededRandom('written ahead')
let root: string
let directory: string

test.before.each(() => {
  root = temporaryDirectory('ahead')
  directory = path.join(root, 'journal')
})

function writeAhead(writer: JournalWriter, id: number, data?: Uint8Array): Ahead {
  const transaction = encoded(id, data)
  writer.reserve([transaction])
  return writer.writeAhead(transaction, 1)
}

const untilOnDisk = (seq: number) => waitFor(`seq ${seq} is in the file`, () => lastSeqOnDisk(directory) === seq, { every: 1 })
const markedSeq = () => readMark(directory, databaseId)?.seq
/** The key of the row that each transaction of these tests inserts. */
function idOf({ changes }: Transaction): number {
  const [change] = changes as readonly Change[]
  return change?.kind === 'insert' ? Number(change.rows.columns[0]?.[0]) : Number.NaN
}
const idsOf = () => [...readTransactions(directory, 1)].map(idOf)

/** Holds every fsync up until `release` is called. */
async function withHeldSync(work: (release: () => void) => Promise<void>): Promise<void> {
  const { promise: released, resolve: release } = Promise.withResolvers<void>()
  await withSync(
    (fd, real, done) => void released.then(() => real(fd, done)),
    () => work(release),
  )
}

test('it is durable once both have happened, whichever comes last: DuckDB has committed it, and its fsync has ended', async () => {
  const told: number[] = []
  const writer = openWriter(directory, { onDurable: (seq) => told.push(seq) })
  for (const syncFirst of [true, false]) {
    const before = writer.durableSeq
    let isDurable = false
    await withHeldSync(async (release) => {
      const ahead = writeAhead(writer, before + 1)
      assert.is(lastSeqOnDisk(directory), before + 1, 'the disk has it')
      assert.is(writer.nextSeq, before + 1, 'it has no seq that anybody can know of')
      assert.not(writer.isIdle)
      const confirm = () => {
        assert.is(ahead.confirm(), before + 1)
        writer.durable(before + 1).then(() => {
          isDurable = true
        })
      }
      const first = syncFirst ? release : confirm
      const second = syncFirst ? confirm : release
      first()
      // Long enough for whatever would follow from the first alone.
      for (let i = 0; i < 20; i++) await fs.promises.stat(directory)
      assert.equal([writer.durableSeq, markedSeq(), isDurable, told.at(-1) ?? 0], [before, before, false, before])
      second()
      await waitFor('it is durable', () => isDurable)
      assert.equal([writer.durableSeq, markedSeq(), told.at(-1)], [before + 1, before + 1, before + 1])
    })
  }
  await writer.durable(append(writer, 3))
  await writer.close()
  assert.equal(idsOf(), [1, 2, 3])
})

test('what is withdrawn is gone from the disk before anybody is told, and its seq and place are the next one’s', async () => {
  const writer = openWriter(directory)
  await writer.durable(append(writer, 1))
  for (let round = 0; round < 20; round++) {
    const before = writer.nextSeq
    const ahead = writeAhead(writer, 1000, random.bytes(random.int(0, 20_000)))
    if (random.chance(0.5)) await untilOnDisk(before)
    await ahead.withdraw()
    assert.equal([lastSeqOnDisk(directory), writer.nextSeq, writer.durableSeq, markedSeq()], [before - 1, before, before - 1, before - 1])
    const data = random.bytes(random.int(0, 20_000))
    if (random.chance(0.5)) await writer.durable(append(writer, before, data))
    else await writer.durable(writeAhead(writer, before, data).confirm())
  }
  await writer.close()
  assert.equal(
    idsOf(),
    Array.from({ length: 21 }, (_, i) => i + 1),
  )
})

test('a consumer that has read ahead is handed what was written in place of the withdrawn', async () => {
  const source = new DurableSeq()
  const writer = openWriter(directory, { onDurable: (seq) => source.advance(seq) })
  source.connected({ databaseId, epoch: 1, durableSeq: 0 })
  const consumer = openConsumer({
    name: 'follower',
    journal: directory,
    cursors: path.join(root, 'cursors'),
    source,
    onGap: (gap) => assert.unreachable(JSON.stringify(gap)),
    onBadCursor: () => assert.unreachable(),
  })
  const read = async () => (await consumer.read({ maxRows: 1, maxDelayMs: 0, signal: AbortSignal.timeout(20_000) })).map(idOf)
  try {
    for (let id = 1; id < 60; id += 2) {
      const size = random.int(0, 200)
      await writer.durable(append(writer, id, random.bytes(100)))
      // Of the same length as what comes in its place, often.
      const ahead = writeAhead(writer, 1000 + id, random.bytes(size))
      await untilOnDisk(writer.nextSeq)
      assert.equal(await read(), [id], 'what lies behind comes into the memory of the reader as well')
      await ahead.withdraw()
      await writer.durable(append(writer, id + 1, random.bytes(random.pick([size, random.int(0, 200)]))))
      assert.equal(await read(), [id + 1])
    }
  } finally {
    consumer.close()
    await writer.close()
  }
})

test('the probe’s fsync is answered beside it, and closing waits for its end', async () => {
  const writer = openWriter(directory)
  const ahead = writeAhead(writer, 1)
  const synced = writer.sync()
  const closed = writer.close()
  assert.is(ahead.confirm(), 1)
  await Promise.all([synced.catch(() => {}), closed])
  assert.equal(seqsOf(directory), [1])
  assert.is(markedSeq(), 1)
})

for (const fault of ['the write', 'the fsync', 'the fsync that makes sure it is gone'])
  test(`when ${fault} fails, the journal has failed: once, and nothing is told`, async () => {
    const failures: string[] = []
    const writer = openWriter(directory, { onFailure: ({ message }) => failures.push(message) })
    await writer.durable(append(writer, 1))
    let syncs = 0
    await withSync(
      (fd, real, done) => {
        if (++syncs === (fault === 'the fsync' ? 1 : 2)) done(Object.assign(new Error('EIO'), { code: 'EIO' }))
        else real(fd, done)
      },
      async () => {
        const { writeSync } = fs
        if (fault === 'the write')
          fs.writeSync = () => {
            throw Object.assign(new Error('EIO'), { code: 'EIO' })
          }
        const ahead = writeAhead(writer, 2)
        fs.writeSync = writeSync
        const withdrawn = await ahead.withdraw().then(
          () => 'withdrawn',
          () => 'failed',
        )
        assert.equal([withdrawn, failures.length, writer.durableSeq, markedSeq()], ['failed', 1, 1, 1])
        assert.throws(() => writer.reserve([encoded(3)]), /could not be written/)
      },
    )
    await writer.close()
  })

/** A journal of two transactions and one that was written ahead, as a kill leaves it. */
async function leaveInDoubt(): Promise<BatchPlace> {
  const writer = openWriter(directory)
  await writer.durable(append(writer, 1))
  await writer.durable(append(writer, 2))
  await withHeldSync(async (release) => {
    const ahead = writeAhead(writer, 3, random.bytes(random.int(0, 9000)))
    const left = filesOf(directory)
    ahead.confirm()
    release()
    await writer.close()
    putFiles(directory, left)
  })
  return batchesOf(directory).at(-1) as BatchPlace
}

const found = () => repairJournal(directory, databaseId, path.join(root, 'quarantine'))

for (const end of ['a kill', 'a power cut'])
  for (const refused of [false, true])
    test(`in doubt after ${end}: ${refused ? 'what is withdrawn is kept aside and cut off' : 'what is kept stays'}; until then the doubt stays, also over another kill`, async () => {
      const last = await leaveInDoubt()
      const bytes = fs.readFileSync(last.file).subarray(last.offset, last.offset + last.length)
      if (end === 'a power cut') {
        // The mark may be older.
        setMark(directory, { offset: batchesOf(directory)[1]?.offset as number, seq: 1 })
        rebooted(directory)
      }
      const { doubt, lastSeq, gaps, cutBytes } = found()
      assert.equal([lastSeq, gaps, cutBytes], [3, [], 0])
      assert.equal(doubt, { seq: 3, file: last.file, segment: 1, offset: last.offset, length: last.length })
      assert.equal(found().doubt, doubt)
      const kept = path.join(root, 'kept')
      if (refused) assert.ok(withdraw(directory, databaseId, doubt as Doubt, { quarantine: kept, reason: 'a test' })?.startsWith(kept))
      else keep(directory, databaseId, doubt as Doubt)
      assert.equal([...filesOf(kept).values()].slice(0, 1), refused ? [bytes] : [])
      const settled = found()
      assert.equal([settled.doubt, settled.lastSeq, settled.gaps, settled.cutBytes], [undefined, refused ? 2 : 3, [], 0])
      assert.equal(seqsOf(directory), refused ? [1, 2] : [1, 2, 3])
    })

test('trials that have ended the process are counted, of that very batch; two are enough', async () => {
  await leaveInDoubt()
  const doubt = found().doubt as Doubt
  beginTrial(directory, doubt)
  assert.equal([isHopeless(directory, doubt), found().doubt], [false, doubt])
  beginTrial(directory, doubt)
  assert.equal([isHopeless(directory, doubt), isHopeless(directory, { ...doubt, offset: 1 }), found().doubt], [true, false, doubt])
  beginTrial(directory, { ...doubt, offset: 1 })
  assert.not(isHopeless(directory, doubt))
  beginTrial(directory, doubt)
  endTrial(directory)
  beginTrial(directory, doubt)
  assert.not(isHopeless(directory, doubt))
  for (const damaged of ['', 'null', '{"seq":3,']) {
    fs.writeFileSync(path.join(directory, trialNote), damaged)
    assert.not(isHopeless(directory, doubt))
  }
})

test('no doubt is left of one that something says to be durable: the mark, or what was written behind it', async () => {
  const last = await leaveInDoubt()
  setMark(directory, { offset: last.offset + last.length, seq: 3 })
  assert.equal([found().doubt, found().lastSeq], [undefined, 3])
  const writer = openWriter(directory, { nextSeq: 4 })
  await writer.durable(append(writer, 4))
  await writer.close()
  setMark(directory, { segment: 1, offset: last.offset, seq: 2 })
  rebooted(directory)
  assert.is(listSegments(directory).length, 2)
  assert.equal([found().doubt, found().lastSeq], [undefined, 4])
  // Its name says that seq 3 had been committed.
  fs.truncateSync(listSegments(directory)[1]?.file as string, segmentHeaderBytes)
  fs.rmSync(markFile(directory))
  assert.equal([found().doubt, found().lastSeq], [undefined, 3])
})

test.run()
