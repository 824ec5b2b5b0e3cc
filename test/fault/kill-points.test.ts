// deadline: 900s
// beside: others
// Every labelled step of the engine: it is killed there, again while it recovers from that, and has lost, doubled and halved nothing.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { listSegments, segmentHeaderBytes, segmentName } from '../../agent/journal/segment.ts'
import { flip, rebooted } from '../fixtures/journal.ts'
import { seededRandom } from '../support/random.ts'
import type { Fault } from './support/faults.ts'
import { enginePoints, labelsOf } from './support/labels.ts'
import { Lives } from './support/lives.ts'

const test = suite('kill points')
const random = seededRandom('kill points')
const passes = process.env.SOAK === undefined ? 1 : 10
const struck = new Set<string>()

const { serving, alone, doubtful, checkpointed, starting, first, rotation, damaged } = enginePoints

const killAt = (label: string, hits: number): Fault => ({ label, hit: random.int(1, hits), action: 'kill', partial: random.chance(0.5) })

/** What has struck in these lives is noted. */
async function inLives(work: (lives: Lives) => Promise<void>): Promise<void> {
  const lives = await Lives.prepare()
  try {
    await work(lives)
  } finally {
    await lives.engine.kill()
    lives.close()
    for (const label of lives.struck) struck.add(label)
  }
}

/** What must lie in the data directory for a step of the start to come. */
function prepareStart(label: string, lives: Lives): Fault[] {
  const journal = lives.journal
  if (label === 'REPAIR:LEFTOVER') fs.writeFileSync(path.join(journal, 'durable.mark.1.tmp'), 'half')
  if (label === 'REPAIR:UNBORN') {
    const last = listSegments(journal).at(-1) as { file: string; firstSeq: number }
    // The kill before may have left one.
    if (fs.statSync(last.file).size >= segmentHeaderBytes)
      fs.writeFileSync(path.join(journal, segmentName(last.firstSeq + 100_000)), Buffer.alloc(random.int(0, 2) * 3000))
  }
  // As a checkpoint leaves it that a power cut ends.
  if (label === 'RECOVERY:WAL') fs.writeFileSync(`${lives.engine.database}.wal`, Buffer.alloc(random.int(0, 2) * 50))
  // Taken back when the disk gives no more.
  return label === 'SEGMENT:DROP' ? [{ label: 'SEGMENT:ALLOCATE', action: 'ENOSPC' }] : []
}

for (let pass = 0; pass < passes; pass++) {
  test(`killed at each step of serving and of starting (pass ${pass + 1})`, () =>
    inLives(async (lives) => {
      lives.plan([])
      assert.ok(await lives.start())
      await lives.createTables()
      const starts = random.shuffle(Object.entries(starting))
      const ends = [...random.shuffle(Object.entries(serving)), ...random.shuffle(Object.entries(checkpointed))]
      for (const [i, [label, hits]] of ends.entries()) {
        await lives.engine.kill()
        lives.plan([{ ...killAt(label, hits), when: lives.working }])
        assert.ok(await lives.start(), `it serves, and dies at ${label} later`)
        await lives.check()
        lives.work()
        if (label === 'ENGINE:STOP') await lives.engine.control.shutdown({ checkpoint: true })
        await lives.ended()
        const share = Math.ceil(starts.length / Math.max(1, Object.keys(serving).length - i))
        for (const [start, hits] of starts.splice(0, share)) {
          lives.plan([...prepareStart(start, lives), killAt(start, hits)])
          if (!(await lives.start())) continue
          // The end before may have struck right after a checkpoint: there was nothing to replay.
          await lives.leaveSomethingToReplay()
          assert.not.ok(await lives.start(), `it dies at ${start}`)
        }
      }
      lives.plan([])
      assert.ok(await lives.start())
      await lives.check()
      await lives.assertRebuilds()
      process.stdout.write(`[${lives.acknowledged.length} orders] `)
    }))
}

test('killed while the disk and DuckDB have the same transaction at the same time, and while what DuckDB refuses is taken back', () =>
  inLives(async (lives) => {
    const liveUntil = async (fault: Fault) => {
      lives.plan([{ ...fault, when: lives.working }])
      assert.ok(await lives.start())
      await lives.check()
      lives.workAlone()
      await lives.ended()
    }
    lives.plan([])
    assert.ok(await lives.start())
    await lives.createTables()
    await lives.engine.kill()
    for (const [label, hits] of random.shuffle(Object.entries(alone))) await liveUntil(killAt(label, hits))
    for (const [label, hits] of Object.entries(doubtful)) {
      // Before anything of it is taken back.
      await liveUntil({ label: 'AHEAD:WITHDRAW', hit: 1, action: 'kill' })
      if (random.chance(0.5)) rebooted(lives.journal, lives.engine.control.hello.databaseId)
      lives.plan([killAt(label, hits)])
      assert.not.ok(await lives.start(), `it dies at ${label}`)
    }
    lives.plan([])
    assert.ok(await lives.start())
    await lives.check()
    await lives.assertRebuilds()
  }))

test('killed at each step of the very first start', () =>
  inLives(async (lives) => {
    for (const [label, hits] of Object.entries(first)) {
      lives.plan([killAt(label, hits)])
      assert.not.ok(await lives.start())
    }
    lives.plan([])
    assert.ok(await lives.start())
    await lives.createTables()
    await lives.check()
  }))

test('killed while the journal goes on to its next segment, and at each step of putting a damaged one aside', () =>
  inLives(async (lives) => {
    // Together more than a segment; each is too small for a spill.
    const bulk = Array<string>(12).fill('INSERT INTO bulk SELECT i, repeat(chr((65 + i % 20)::INTEGER), 20000) FROM range(290) r(i)')
    lives.plan([{ ...killAt('JOURNAL:ROTATE', rotation['JOURNAL:ROTATE']), when: lives.working }])
    assert.ok(await lives.start())
    await lives.createTables()
    await lives.engine.sql('CREATE TABLE bulk (id INTEGER, v VARCHAR)', ...bulk)
    lives.work()
    await lives.ended()
    lives.plan([{ ...killAt('SEGMENT:SEAL', rotation['SEGMENT:SEAL']), when: lives.working }])
    assert.ok(await lives.start())
    await lives.check()
    await lives.engine.control.checkpoint()
    await lives.engine.sql(...bulk)
    lives.work()
    await lives.ended()
    lives.plan([])
    assert.ok(await lives.start())
    await lives.check()
    await lives.engine.control.checkpoint()
    const state = await lives.engine.sql('SELECT count(*), sum(id) FROM bulk')
    await lives.engine.kill()
    // Acknowledged bytes go bad that the file has: nothing is lost but the evidence is kept.
    flip(listSegments(lives.journal)[0]?.file as string, 5000)
    for (const [label, hits] of Object.entries(damaged)) {
      lives.plan([killAt(label, hits)])
      assert.not.ok(await lives.start())
    }
    lives.plan([])
    assert.ok(await lives.start())
    assert.is(lives.engine.control.hello.recovery.gaps.length, 0, 'the file has what cannot be read')
    assert.equal(await lives.engine.sql('SELECT count(*), sum(id) FROM bulk'), state)
  }))

test('every step of the engine is among them', () => {
  assert.equal(
    labelsOf(enginePoints).filter((label) => !struck.has(label)),
    [],
  )
})

test.run()
