// deadline: 600s
// beside: others
// Every labelled step of a spilled transaction: the engine is killed there, in the middle of one, while it cleans up and while it replays. All of it is there or nothing.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { listSpills } from '../../agent/journal/spill.ts'
import { flip } from '../fixtures/journal.ts'
import { seededRandom } from '../support/random.ts'
import type { Fault } from './support/faults.ts'
import { labelsOf, spillPoints } from './support/labels.ts'
import { Lives, largeRows } from './support/lives.ts'

const test = suite('spill points')
const random = seededRandom('spill points')
const passes = process.env.SOAK === undefined ? 1 : 10
const struck = new Set<string>()
/** A spilled transaction passes these as any other does: one of them in each pass. */
const commits = ['COMMIT:RESERVE', 'COMMIT:DUCKDB', 'COMMIT:APPEND', 'COMMIT:APPENDED', 'JOURNAL:WRITE', 'JOURNAL:SYNC', 'MARK:MOVE']

const killAt = (label: string, hits: number): Fault => ({ label, hit: random.int(1, hits), action: 'kill', partial: random.chance(0.5) })
const spillsOf = (lives: Lives) => listSpills(lives.journal)

/** As many spills as there are large transactions: none is left of those that were not committed. */
async function assertNoTrace(lives: Lives): Promise<void> {
  const [[count] = []] = await lives.engine.sql('SELECT count(DISTINCT id) FROM large')
  assert.is(spillsOf(lives).length, Number(count), `spills after ${lives.story.slice(-3).join(', ')}`)
}

async function withLives(work: (lives: Lives) => Promise<void>): Promise<void> {
  const lives = await Lives.prepare()
  try {
    lives.plan([])
    assert.ok(await lives.start())
    await lives.createTables()
    await work(lives)
  } finally {
    await lives.engine.kill()
    lives.close()
    for (const label of lives.struck) struck.add(label)
  }
}

for (let pass = 0; pass < passes; pass++) {
  test(`killed at each step of large transactions, and of the start after it (pass ${pass + 1})`, () =>
    withLives(async (lives) => {
      const ends = [
        ...Object.entries(spillPoints.writing),
        ...random
          .shuffle(commits)
          .slice(0, 1)
          .map((label): [string, number] => [label, 3]),
      ]
      const found = async () => {
        await lives.check()
        await assertNoTrace(lives)
        // What is not in the file is replayed at every start.
        await lives.engine.control.checkpoint()
      }
      for (const [label, hits] of random.shuffle(ends)) {
        await lives.engine.kill()
        lives.plan([{ ...killAt(label, hits), when: lives.working }])
        assert.ok(await lives.start(), `it serves, and dies at ${label} later`)
        await found()
        lives.workLarge()
        await lives.ended()
      }
      lives.plan([])
      assert.ok(await lives.start())
      await found()
      // Three to replay, and one that was not committed.
      for (let i = 0; i < 3; i++) await lives.insertLarge()
      await lives.engine.kill()
      const orphan = path.join(lives.journal, `${'9'.padStart(20, '0')}-${'0123abcd'}.dgs`)
      for (const [label, hits] of random.shuffle(Object.entries(spillPoints.starting))) {
        if (label === 'REPAIR:SPILL') fs.writeFileSync(orphan, random.bytes(random.int(0, 5000)))
        lives.plan([killAt(label, hits)])
        assert.not.ok(await lives.start(), `it dies at ${label}`)
      }
      lives.plan([])
      assert.ok(await lives.start())
      await lives.check()
      await assertNoTrace(lives)
      await lives.assertRebuilds()
    }))
}

test('killed at each step of putting a damaged spill aside, whose transaction the file has', () =>
  withLives(async (lives) => {
    await lives.insertLarge()
    await lives.engine.control.checkpoint()
    await lives.engine.kill()
    const [name] = spillsOf(lives)
    const spill = path.join(lives.journal, name as string)
    flip(spill, 5000)
    const damaged = fs.readFileSync(spill)
    for (const [label, hits] of Object.entries(spillPoints.damaged)) {
      lives.plan([killAt(label, hits)])
      assert.not.ok(await lives.start(), `it dies at ${label}`)
    }
    lives.plan([])
    assert.ok(await lives.start())
    assert.equal(lives.engine.control.hello.recovery.gaps, [], 'the file has it')
    assert.equal(await lives.engine.sql('SELECT count(*) FROM large'), [[String(largeRows)]])
    assert.equal(spillsOf(lives), [])
    const quarantine = path.join(lives.engine.data, 'quarantine')
    const kept = fs.readdirSync(quarantine, { recursive: true, encoding: 'utf8' }).filter((file) => path.basename(file) === name)
    assert.is(kept.length, 1)
    assert.ok(fs.readFileSync(path.join(quarantine, kept[0] as string)).equals(damaged), 'the evidence is as it was found')
    assert.ok(fs.existsSync(path.join(quarantine, `${kept[0]}.reason.json`)))
  }))

test('every step of a spill is among them', () => {
  assert.equal(
    labelsOf(spillPoints).filter((label) => !struck.has(label)),
    [],
  )
})

test.run()
