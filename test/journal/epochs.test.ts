// A cut begins a new epoch, in which seqs are given anew: what consumers that had read further make of it.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { openConsumer } from '../../agent/journal/consumer.ts'
import { listSegments, segmentHeaderBytes } from '../../agent/journal/segment.ts'
import type { Change } from '../../agent/journal/types.ts'
import { type BatchPlace, batchesOf, writeJournal } from '../fixtures/journal.ts'
import { TestSource } from '../fixtures/journal-source.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('journal epochs')
const random = seededRandom('epochs')
let root: string
let directory: string
let source: TestSource
let gaps: { firstSeq: number; lastSeq: number; reason: string }[]
const opened: { close(): void }[] = []
const timers: NodeJS.Timeout[] = []

test.before.each(() => {
  root = temporaryDirectory('epochs')
  directory = path.join(root, 'journal')
  source = new TestSource()
  gaps = []
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
    onBadCursor: () => {},
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

test('seqs that are given anew after a cut are read anew, and what is void is told', async () => {
  await writeSegments(5)
  source.durableSeq = 5
  const first = open()
  assert.equal(await readAll(first), upTo(5))
  await first.confirm(5)
  const place = batchesOf(directory).find(({ firstSeq }) => firstSeq === 4) as BatchPlace
  fs.truncateSync(place.file, place.offset)
  for (const { file, firstSeq } of listSegments(directory)) if (firstSeq > 3) fs.rmSync(file)
  await writeSegments(1, 4)
  for (const consumer of [first, open()]) {
    source.epoch = 2
    source.durableSeq = 3
    const reading = consumer.read({ maxRows: 1, maxDelayMs: 0, signal: after(20_000) })
    source.durableSeq = 4
    assert.equal(
      (await reading).map(({ seq }) => seq),
      [4],
    )
    assert.is(consumer.confirmed, 3)
  }
  assert.equal(ranges(), [
    [4, 5],
    [4, 5],
  ])
})

test('a cut below the cursor is noticed when the new epoch has long passed it, by a new process too: nothing is left out', async () => {
  await writeSegments(8)
  source.durableSeq = 8
  const before = open()
  assert.equal(await readAll(before), upTo(8))
  await before.confirm(7)
  // Put back to what it was at seq 4; then it goes on, in a new epoch, further than it was.
  const place = batchesOf(directory).find(({ firstSeq }) => firstSeq === 5) as BatchPlace
  fs.truncateSync(place.file, place.offset)
  for (const { file, firstSeq } of listSegments(directory)) if (firstSeq > 4) fs.rmSync(file)
  await writeJournal(
    directory,
    upTo(8).map((id) => Buffer.from(`new ${id}`)),
    { nextSeq: 5, epoch: 2, segmentBytes: segmentHeaderBytes + 1000 },
  )
  source.epoch = 2
  source.durableSeq = 12
  for (const consumer of [before, open()]) {
    const told = gaps.length
    const read: { seq: number; content: string }[] = []
    while ((read.at(-1)?.seq ?? 0) < 12) {
      for (const { seq, changes } of await consumer.read({ maxRows: 3, maxDelayMs: 0, signal: after(20_000) }))
        for (const change of changes as Iterable<Change>)
          if ('rows' in change) read.push({ seq, content: String(Buffer.from(change.rows.columns[1]?.[0] as Uint8Array)) })
    }
    assert.equal(
      read,
      upTo(12, 5).map((seq) => ({ seq, content: `new ${seq - 4}` })),
      'each of the new ones, once',
    )
    assert.is(consumer.confirmed, 4)
    assert.equal(ranges().slice(told), [consumer === before ? [5, 8] : [5, 7]])
  }
  // Once confirmed, it is settled.
  const told = gaps.length
  const again = open()
  assert.equal(await readAll(again), upTo(12, 5))
  await again.confirm(12)
  source.durableSeq = 12
  const settled = open()
  assert.is(settled.confirmed, 12)
  assert.is(gaps.length, told + 1)
})

test('a new epoch that lies behind the cursor changes nothing', async () => {
  await writeSegments(5)
  source.durableSeq = 5
  const first = open()
  assert.equal(await readAll(first), upTo(5))
  await first.confirm(5)
  await writeJournal(directory, [null, null, null], { nextSeq: 6, epoch: 3 })
  source.epoch = 3
  source.durableSeq = 8
  for (const consumer of [first, open()]) assert.equal(await readAll(consumer), upTo(8, 6))
  assert.equal(gaps, [])
})

test.run()
