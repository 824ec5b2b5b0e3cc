// A transaction that was written wrongly, under a checksum that holds, and a consumer: it passes that one, tells of it, and reads all others of the same batch.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { openConsumer } from '../../agent/journal/consumer.ts'
import { append, type BatchPlace, batchesOf, miswrite, openWriter } from '../fixtures/journal.ts'
import { TestSource } from '../fixtures/journal-source.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('undecoded')
const last = 12
const all = Array.from({ length: last }, (_, i) => i + 1)

for (const [what, chosen] of [
  ['first', () => [0]],
  ['in between', () => [2]],
  ['twice in between', () => [2, 4]],
  ['last', (count: number) => [count - 1]],
  ['the last two', (count: number) => [count - 2, count - 1]],
] as const) {
  test(`${what} in its batch`, async () => {
    const root = temporaryDirectory('undecoded')
    const journal = path.join(root, 'journal')
    const writer = openWriter(journal)
    for (const id of all) append(writer, id)
    await writer.durable(last)
    await writer.close()
    const batch = batchesOf(journal).find(({ count }) => count > 5) as BatchPlace
    const bad = chosen(batch.count).map((at) => batch.firstSeq + at)
    for (const seq of bad)
      miswrite(batch, seq, (body) => {
        body[16] = 9
      })
    const gaps: { firstSeq: number; lastSeq: number; reason: string }[] = []
    const source = new TestSource()
    source.durableSeq = last
    const cursors = path.join(root, 'cursors')
    const consumer = openConsumer({ name: 'test', journal, cursors, source, onGap: (gap) => gaps.push(gap), onBadCursor: () => {} })
    try {
      const read: number[] = []
      const abort = new AbortController()
      const good = all.filter((seq) => !bad.includes(seq))
      while (read.length < good.length)
        read.push(...(await consumer.read({ maxRows: 3, maxDelayMs: 0, signal: abort.signal })).map(({ seq }) => seq))
      assert.equal(read, good)
      // What stands last is passed when somebody asks again.
      const more = consumer.read({ maxRows: 1, maxDelayMs: 0, signal: abort.signal })
      abort.abort()
      assert.equal(await more, [])
      assert.equal(
        gaps.map(({ firstSeq, lastSeq }) => [firstSeq, lastSeq]),
        bad.map((seq) => [seq, seq]),
      )
      for (const { reason } of gaps) assert.match(reason, /its checksum holds, but it cannot be decoded/)
    } finally {
      consumer.close()
      fs.rmSync(root, { recursive: true })
    }
  })
}

test.run()
