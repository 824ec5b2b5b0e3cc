import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { openConsumer } from '../../agent/journal/consumer.ts'
import { repairJournal } from '../../agent/journal/repair.ts'
import { retain } from '../../agent/journal/retention.ts'
import { listSegments, segmentHeaderBytes } from '../../agent/journal/segment.ts'
import { append, type BatchPlace, batchesOf, databaseId, flip, openWriter, otherBoot, writeJournal } from '../fixtures/journal.ts'
import { TestSource } from '../fixtures/journal-source.ts'
import { spawnChild } from '../support/process.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('journal consumer')
const random = seededRandom('consumer')
let root: string
let directory: string
let source: TestSource
let gaps: { firstSeq: number; lastSeq: number; reason: string }[]
let badCursors: string[]
const opened: { close(): void }[] = []
const timers: NodeJS.Timeout[] = []

test.before.each(() => {
  root = temporaryDirectory('consumer')
  directory = path.join(root, 'journal')
  source = new TestSource()
  gaps = []
  badCursors = []
})
test.after.each(() => {
  for (const consumer of opened.splice(0)) consumer.close()
  for (const timer of timers.splice(0)) clearTimeout(timer)
})

function open() {
  const consumer = openConsumer({
    name: 'test',
    journal: directory,
    cursors: path.join(root, 'cursors'),
    source,
    onGap: (gap) => gaps.push(gap),
    onBadCursor: (_file, quarantined) => badCursors.push(quarantined),
  })
  opened.push(consumer)
  return consumer
}
type Consumer = ReturnType<typeof open>

const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, i) => first + i)
const ranges = () => gaps.map(({ firstSeq, lastSeq }) => [firstSeq, lastSeq])
/** Aborts after `ms`; unlike AbortSignal.timeout it keeps the process alive until then. */
function after(ms: number): AbortSignal {
  const abort = new AbortController()
  const timer = setTimeout(() => abort.abort(), ms)
  timers.push(timer)
  return abort.signal
}
const never = () => new AbortController().signal

/** Everything up to the seq that is durable. */
async function readAll(consumer: Consumer, last = source.durableSeq): Promise<number[]> {
  const seqs: number[] = []
  const end = after(20_000)
  while ((seqs.at(-1) ?? 0) < last) {
    const batch = await consumer.read({ maxRows: random.int(1, 30), maxDelayMs: 0, signal: end })
    assert.ok(batch.length > 0, `read on after ${seqs.at(-1)}`)
    seqs.push(...batch.map(({ seq }) => seq))
  }
  return seqs
}

/** `count` transactions in segments of about three. */
const writeSegments = (count: number, nextSeq = 1) =>
  writeJournal(
    directory,
    upTo(count).map(() => random.bytes(1000)),
    { nextSeq, segmentBytes: segmentHeaderBytes + 3000 },
  )

test('reads what is durable and no further, over segments, up to maxRows', async () => {
  await writeSegments(20)
  source.durableSeq = 7
  const consumer = open()
  assert.is(consumer.oldest, 1)
  assert.equal(await readAll(consumer), upTo(7))
  source.durableSeq = 20
  const batch = await consumer.read({ maxRows: 10, maxDelayMs: 1000, signal: never() })
  assert.equal(
    batch.map(({ seq }) => seq),
    upTo(12, 8),
    'each transaction counts as itself and its row',
  )
  assert.equal(await readAll(consumer), upTo(20, 13))
  assert.equal(gaps, [])
})

test('collects for maxDelayMs and waits without spinning', async () => {
  const writer = openWriter(directory, {
    onDurable: (seq) => {
      source.durableSeq = seq
    },
  })
  const consumer = open()
  const reading = consumer.read({ maxRows: 1000, maxDelayMs: 2000, signal: never() })
  for (let i = 0; i < 5; i++) await writer.durable(append(writer, i))
  const start = performance.now()
  assert.equal(
    (await reading).map(({ seq }) => seq),
    upTo(5),
  )
  assert.ok(performance.now() - start > 300, 'it went on collecting')
  assert.ok(source.waits < 15, `${source.waits} waits`)
  await writer.close()
})

test('an aborted read gives nothing away: what it had collected comes again', async () => {
  await writeSegments(5)
  source.durableSeq = 5
  const consumer = open()
  const abort = new AbortController()
  const reading = consumer.read({ maxRows: 1000, maxDelayMs: 60_000, signal: abort.signal })
  setImmediate(() => abort.abort())
  assert.equal(await reading, [])
  assert.equal(await consumer.read({ maxRows: 10, maxDelayMs: 0, signal: abort.signal }), [])
  assert.equal(await readAll(consumer), upTo(5))
})

test('the cursor moves by confirm only; a new process goes on from it, with its state; seek moves the position alone', async () => {
  await writeSegments(10)
  source.durableSeq = 10
  const first = open()
  assert.equal(await readAll(first), upTo(10))
  assert.is(first.confirmed, 0)
  await first.confirm(4)
  await first.saveState({ bounds: [5, 7] })
  first.seek(8)
  assert.equal(await readAll(first), [9, 10])
  const second = open()
  assert.is(second.confirmed, 4)
  assert.equal(second.loadState(), { bounds: [5, 7] })
  assert.equal(await readAll(second), upTo(10, 5))
})

test('readRange gives transactions again without moving the position, and tells what is missing in it, once', async () => {
  await writeSegments(12)
  source.durableSeq = 12
  const place = batchesOf(directory).find(({ firstSeq }) => firstSeq === 5) as BatchPlace
  flip(place.file, place.offset + 80)
  const consumer = open()
  await consumer.read({ maxRows: 4, maxDelayMs: 0, signal: never() })
  const range = async (first: number, last: number) => {
    const seqs: number[] = []
    for await (const { seq } of consumer.readRange(first, last)) seqs.push(seq)
    return seqs
  }
  assert.equal(await range(2, 7), [2, 3, 4, 6, 7])
  assert.equal(await range(2, 7), [2, 3, 4, 6, 7])
  assert.equal(
    await readAll(consumer),
    upTo(12, 3).filter((seq) => seq !== 5),
  )
  assert.equal(ranges(), [[5, 5]])
})

test('a flipped byte costs its batch, is told once, and reading goes on behind it', async () => {
  for (const lost of [1, 2, 3, 8, 12]) {
    fs.rmSync(root, { recursive: true, force: true })
    await writeSegments(12)
    source.durableSeq = 12
    const place = batchesOf(directory).find(({ firstSeq }) => firstSeq === lost) as BatchPlace
    flip(place.file, place.offset + random.int(0, place.length - 1))
    gaps = []
    const consumer = open()
    if (lost === 12) {
      assert.equal(await readAll(consumer, 11), upTo(11))
      const nothing = await consumer.read({ maxRows: 9, maxDelayMs: 0, signal: after(50) })
      assert.equal(nothing, [])
    } else
      assert.equal(
        await readAll(consumer),
        upTo(12).filter((seq) => seq !== lost),
      )
    consumer.seek(0)
    await readAll(consumer, 11)
    assert.equal(ranges(), [[lost, lost]])
  }
})

test('a rotten end of the live segment is told as far as it is durable, and what is appended behind it is read', async () => {
  const writer = openWriter(directory)
  for (let i = 0; i < 3; i++) await writer.durable(append(writer, i))
  const place = batchesOf(directory).at(-1) as BatchPlace
  flip(place.file, place.offset + 70)
  source.durableSeq = 3
  const consumer = open()
  assert.equal(await readAll(consumer, 2), [1, 2])
  assert.equal(await consumer.read({ maxRows: 9, maxDelayMs: 0, signal: after(30) }), [])
  assert.equal(ranges(), [[3, 3]])
  // Written, but not yet announced: neither read nor spun upon.
  for (let i = 0; i < 3; i++) await writer.durable(append(writer, i))
  const before = source.waits
  assert.equal(await consumer.read({ maxRows: 9, maxDelayMs: 0, signal: after(30) }), [])
  assert.ok(source.waits - before < 5)
  source.durableSeq = 6
  assert.equal(await readAll(consumer), [4, 5, 6])
  assert.equal(ranges(), [[3, 3]])
  await writer.close()
})

test('a missing segment is told exactly, in the middle and at the end', async () => {
  await writeSegments(12)
  const segments = listSegments(directory)
  const [second, third] = [segments[1], segments[2]] as [{ file: string; firstSeq: number }, { firstSeq: number }]
  const last = segments.at(-1) as { file: string; firstSeq: number }
  fs.rmSync(second.file)
  fs.rmSync(last.file)
  source.durableSeq = 12
  const consumer = open()
  const seqs = await readAll(consumer, last.firstSeq - 1)
  assert.equal(await consumer.read({ maxRows: 9, maxDelayMs: 0, signal: after(30) }), [])
  assert.equal(ranges(), [
    [second.firstSeq, third.firstSeq - 1],
    [last.firstSeq, 12],
  ])
  assert.equal(
    seqs,
    upTo(last.firstSeq - 1).filter((seq) => seq < second.firstSeq || seq >= third.firstSeq),
  )
})

test('retention may delete sealed segments behind the position, also the one that is open', async () => {
  await writeSegments(12)
  source.durableSeq = 12
  const consumer = open()
  const seqs = await readAll(consumer, 6)
  const removed = retain({ journalDir: directory, cursors: [seqs.at(-1) as number], snapshots: [{ seq: seqs.at(-1) as number }] })
  assert.ok(removed.length > 0)
  // One read may have taken all that there is.
  const rest = seqs.at(-1) === 12 ? [] : await readAll(consumer)
  assert.equal([...seqs, ...rest], upTo(12))
  assert.ok(consumer.oldest > 1)
  assert.equal(gaps, [])
})

test('a repair may replace the segment that is open, and the engine writes on in the next', async () => {
  await writeSegments(4)
  source.durableSeq = 4
  const consumer = open()
  await consumer.read({ maxRows: 1, maxDelayMs: 0, signal: never() })
  const place = batchesOf(directory).find(({ firstSeq }) => firstSeq === 2) as BatchPlace
  flip(place.file, place.offset + 70)
  const repair = repairJournal(directory, databaseId, path.join(root, 'quarantine'))
  assert.equal(repair.gaps, [{ firstSeq: 2, lastSeq: 2 }])
  await writeSegments(3, 5)
  source.durableSeq = 7
  source.epoch = 2
  const seqs = await readAll(consumer)
  // It had read ahead: it may still have what is damaged on disk.
  assert.equal(
    seqs.filter((seq) => seq !== 2),
    upTo(7, 3),
  )
  assert.equal(ranges(), seqs.includes(2) ? [] : [[2, 2]])
})

test('an empty segment that is created anew under the same name is followed', async () => {
  await writeSegments(2)
  const empty = openWriter(directory, { nextSeq: 3 })
  await empty.close()
  source.durableSeq = 2
  const consumer = open()
  assert.equal(await readAll(consumer), [1, 2])
  // As if it stood at the empty one when that was removed.
  consumer.seek(2)
  source.durableSeq = 2
  const reading = consumer.read({ maxRows: 1, maxDelayMs: 0, signal: never() })
  fs.rmSync((listSegments(directory).at(-1) as { file: string }).file)
  await writeSegments(1, 3)
  source.durableSeq = 3
  assert.equal(
    (await reading).map(({ seq }) => seq),
    [3],
  )
  assert.equal(gaps, [])
})

test('a cursor that cannot be read is moved aside and told; reading begins at the oldest segment, which is no gap', async () => {
  for (const content of [
    '',
    '{',
    'null',
    '[]',
    '{"version":2}',
    '{"version":1,"confirmed":-1,"epoch":1,"databaseId":"a"}',
    JSON.stringify({ version: 1, databaseId: '../../x', epoch: 1, confirmed: 3 }),
  ]) {
    fs.rmSync(root, { recursive: true, force: true })
    badCursors = []
    await writeSegments(5, 100)
    source.durableSeq = 104
    fs.mkdirSync(path.join(root, 'cursors'))
    fs.writeFileSync(path.join(root, 'cursors', 'test.json'), content)
    const consumer = open()
    assert.is(badCursors.length, 1, content)
    assert.is(fs.readFileSync(badCursors[0] as string, 'utf8'), content)
    assert.equal(await readAll(consumer), upTo(104, 100))
    assert.is(open().confirmed, 99, 'the new cursor is durable')
    assert.is(badCursors.length, 1)
  }
  assert.equal(gaps, [])
})

test('the cursor of another database is kept aside, and this one begins at 0', async () => {
  await writeSegments(3)
  source.durableSeq = 3
  source.databaseId = otherBoot
  await open().confirm(2)
  source.databaseId = databaseId
  const consumer = open()
  assert.is(consumer.confirmed, 0)
  assert.equal(await readAll(consumer), [1, 2, 3])
  assert.equal(fs.readdirSync(path.join(root, 'cursors')).sort(), ['test.json', `test.json.${otherBoot}`])
})

test('follows a writer in another process, over kills, repairs and new segments: every seq once, in order', async () => {
  const fixture = path.resolve(import.meta.dirname, '../fixtures/journal-appender.ts')
  const abort = new AbortController()
  fs.mkdirSync(directory)
  const following = source.follow(directory, abort.signal)
  const seqs: number[] = []
  let consumer = open()
  try {
    for (let round = 0; round < 5; round++) {
      const child = spawnChild(process.execPath, [
        fixture,
        directory,
        path.join(root, 'quarantine'),
        String(random.int(0, 2 ** 31)),
        'small',
      ])
      const target = (seqs.at(-1) ?? 0) + 200
      while ((seqs.at(-1) ?? 0) < target) {
        const batch = await consumer.read({ maxRows: 50, maxDelayMs: 5, signal: after(20_000) })
        assert.ok(batch.length > 0 && child.exit === null, child.output())
        seqs.push(...batch.map(({ seq }) => seq))
        await consumer.confirm(seqs.at(-1) as number)
      }
      await child.kill()
      // A new agent every second time.
      if (round % 2 === 1) consumer = open()
    }
    assert.equal(seqs, upTo(seqs.length))
    assert.equal(gaps, [])
  } finally {
    abort.abort()
    await following
  }
})

test.run()
