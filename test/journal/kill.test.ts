// deadline: 300s
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock } from '../../agent/clock.ts'
import { readMark } from '../../agent/journal/mark.ts'
import { repairJournal } from '../../agent/journal/repair.ts'
import { segmentName } from '../../agent/journal/segment.ts'
import { databaseId, seqsOf } from '../fixtures/journal.ts'
import { spawnChild } from '../support/process.ts'
import { seededRandom } from '../support/random.ts'
import { soak, timeIsUp } from '../support/soak.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('journal kill')
const random = seededRandom('kill')
const kills = soak ? 1_000 : 30

/** Returns at the moment when bytes appear behind the mark: without a pause, so that the kill comes while the rest is being written. */
function untilBatchBegins(directory: string, spin: number): void {
  const end = performance.now() + 500
  const head = Buffer.alloc(4)
  while (performance.now() < end) {
    const mark = readMark(directory, databaseId)
    if (mark === undefined) continue
    const fd = fs.openSync(path.join(directory, segmentName(mark.segment)), 'r')
    fs.readSync(fd, head, 0, 4, mark.offset)
    fs.closeSync(fd)
    if (head.readUInt32LE(0) !== 0 && readMark(directory, databaseId)?.offset === mark.offset) break
  }
  for (const until = performance.now() + spin; performance.now() < until; );
}

test(`${kills} times a process that appends as fast as it can is killed: nothing is called corrupt, and every acknowledged seq is there`, async () => {
  const root = temporaryDirectory('kill')
  const directory = path.join(root, 'journal')
  const quarantine = path.join(root, 'quarantine')
  const fixture = path.resolve(import.meta.dirname, '../fixtures/journal-appender.ts')
  let acknowledged = 0
  let cuts = 0
  let rounds = 0
  for (; rounds < kills && !timeIsUp(); rounds++) {
    const kind = rounds % 2 === 0 ? 'small' : 'large'
    const child = spawnChild(process.execPath, [fixture, directory, quarantine, String(random.int(0, 2 ** 31)), kind])
    const target = acknowledged + random.int(1, kind === 'small' ? 40 : 2)
    const lastOf = (text: string) => Number(/(\d+)\n[^\n]*$/.exec(text)?.[1] ?? 0)
    await waitFor('acknowledgements', () => child.exit !== null || lastOf(child.stdout()) >= target, { deadline: 30_000, every: 1 })
    assert.is(child.exit, null, child.output())
    // Small batches are met at any moment; a large one just when its first bytes are in the file.
    if (kind === 'small') await systemClock.sleep(random.float() * 10)
    else untilBatchBegins(directory, random.float() * 2)
    await child.kill()
    const lines = child.stdout().split('\n')
    const repair = JSON.parse(lines[1] as string)
    assert.equal([repair.quarantined, repair.gaps], [[], []], `round ${rounds}`)
    assert.ok(repair.lastSeq >= acknowledged, `round ${rounds}: ${acknowledged} was acknowledged, the journal ends at ${repair.lastSeq}`)
    if (repair.cutBytes > 0) cuts += 1
    acknowledged = Math.max(acknowledged, lastOf(child.stdout()))
  }
  const { quarantined, gaps, lastSeq } = repairJournal(directory, databaseId, quarantine)
  assert.equal([quarantined, gaps], [[], []])
  assert.ok(lastSeq >= acknowledged)
  assert.equal(
    seqsOf(directory),
    Array.from({ length: lastSeq }, (_, i) => i + 1),
  )
  assert.not.ok(fs.existsSync(quarantine))
  process.stdout.write(`\n# ${rounds} kills, ${cuts} torn tails, ${lastSeq} transactions\n`)
})

test.run()
