// deadline: 300s
// beside: others
// The power goes at any moment: of what was written and not fsynced anything may be missing, in any part; of what was told nothing is.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Random, seededRandom } from '../support/random.ts'
import { soak } from '../support/soak.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { assertNothingLost, JournalLife, type Told } from './support/journal-life.ts'
import { LossyDisk } from './support/lossy-disk.ts'
import { at, cuts, unsynced } from './support/power-cut.ts'
import type { DiskEvent } from './support/recorder.ts'

const test = suite('power cut')
const random = seededRandom('power cut')

/** Without what says that these steps have ended: a program that does not take them, or not in time. */
const without =
  (e: DiskEvent['e'], ...labels: string[]) =>
  (events: readonly DiskEvent[]): DiskEvent[] =>
    events.filter((event) => event.e !== e || !labels.includes(event.label))

/** The mark is moved when the fsync begins, not when it has ended. */
function markTooEarly(events: readonly DiskEvent[]): DiskEvent[] {
  const changed = [...events]
  for (const [i, { e, label }] of events.entries()) {
    if (e !== 'write' || label !== 'MARK:MOVE') continue
    const begin = changed.findLastIndex((event, j) => j < i && event.e === 'syncing' && event.label === 'JOURNAL:SYNC')
    changed.splice(begin, 0, ...changed.splice(i, 1))
  }
  return changed
}

const faults: Record<string, (events: readonly DiskEvent[]) => DiskEvent[]> = {
  'acknowledges before its fsync has ended': without('synced', 'JOURNAL:SYNC'),
  'moves the mark before the fsync has ended': markTooEarly,
  'does not fsync the directory of a new segment': without('synced-directory', 'SEGMENT:ENTRY'),
  'does not fsync the directory in which it makes others': without('synced-directory', 'JOURNAL:DIRECTORY', 'CURSOR:DIRECTORY'),
  'does not fsync a spill': without('synced', 'SPILL:SYNC'),
  'does not fsync the directory of a spill': without('synced-directory', 'SPILL:ENTRY'),
  'does not fsync a cursor before its rename': without('synced', 'CURSOR:SAVE'),
  'does not fsync the directory of a cursor': without('synced-directory', 'CURSOR:SAVE'),
  'does not fsync the journal that it has found before it serves': without('synced', 'REPAIR:SYNC'),
  'deletes a segment before the deletion of the one before is durable': without('synced-directory', 'RETENTION:REMOVE'),
}

/** Cuts a life off, and the life of those who take over as well. Returns how often. */
async function cutOff(life: JournalLife, count: number, random: Random): Promise<number> {
  let done = 0
  for (const cut of cuts(life, count, random)) {
    await at(cut, async () => {
      if (random.chance(0.3)) {
        const next = new JournalLife(cut.root, random, life, cut.told as Told[])
        await next.record(2, 6)
        for (const second of cuts(next, 3, random)) {
          await at(second, () => assertNothingLost(second.root, next, second.told as Told[]))
          done++
        }
      } else {
        await assertNothingLost(cut.root, life, cut.told as Told[])
        done++
      }
    })
  }
  return done
}

test('a journal cut off at any event of its life, and again in the life after that, has all that was told', async () => {
  let count = 0
  for (let i = 0; i < (soak ? 20 : 2); i++) {
    const life = new JournalLife(temporaryDirectory('life'), random)
    await life.record(12, 25)
    count += await unsynced(() => cutOff(life, 100, random))
  }
  process.stdout.write(`[${count} cuts] `)
})

/** What the check says of a life in which a fault is; undefined when it says nothing. */
async function complaint(life: JournalLife, events: readonly DiskEvent[], count: number): Promise<unknown> {
  for (const cut of cuts({ disk: new LossyDisk(life.root, temporaryDirectory('nothing')), events }, count, random)) {
    try {
      await assertNothingLost(cut.root, life, cut.told as Told[])
    } catch (error) {
      return error
    }
  }
  return undefined
}

test('of a program that leaves out one fsync the same cuts show what is lost', async () => {
  const lives: JournalLife[] = []
  for (const [fault, change] of Object.entries(faults)) {
    let found: unknown
    // What a fault needs, as two segments that go at once, not every life has.
    for (let i = 0; found === undefined && i < 40; i++) {
      const life = lives[i >> 2] ?? new JournalLife(temporaryDirectory('life'), random)
      if (!lives.includes(life)) {
        await life.record(15, 25)
        lives.push(life)
      }
      found = await unsynced(() => complaint(life, change(life.events), 60))
    }
    assert.ok(found !== undefined, `an engine that ${fault} passes`)
  }
})

test.run()
