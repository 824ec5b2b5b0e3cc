// deadline: 400s
// beside: others
// The power goes at any moment of an engine's life: its journal, and an engine that starts on what is left, have all that clients were told.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import { seededRandom } from '../support/random.ts'
import { soak, timeIsUp } from '../support/soak.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { assertEngineHolds, assertJournalHolds } from './support/engine-cut.ts'
import { recordEngines, type Told } from './support/engine-life.ts'
import { LossyDisk } from './support/lossy-disk.ts'
import { at, cuts, unsynced } from './support/power-cut.ts'
import { readEvents } from './support/recorder.ts'

const test = suite('power cut of an engine')
const random = seededRandom('power cut of an engine')

test('an engine cut off at any event of its life, and again while it recovers from that, has all that was told', async () => {
  const engines = await recordEngines()
  const done = { journals: 0, served: 0, restored: 0, again: 0 }
  const starts = soak ? 300 : 5
  const journals = soak ? 1000 : 60
  for (const cut of cuts(engines, starts + journals, random)) {
    const told = cut.told as Told[]
    if (!random.chance(starts / (starts + journals)) || timeIsUp()) {
      await at(cut, () => unsynced(() => assertJournalHolds(cut, told, engines)))
      done.journals++
      continue
    }
    const log = path.join(temporaryDirectory('log'), 'events')
    const disk = new LossyDisk(cut.root)
    await at(cut, async () => {
      done[await assertEngineHolds(cut, told, engines, { log })]++
      if (!random.chance(0.4)) return
      for (const second of cuts({ disk, events: readEvents(log) }, 1, random)) {
        await at(second, () => assertEngineHolds(second, told, engines, { earlier: cut }))
        done.again++
      }
    })
    fs.rmSync(path.dirname(log), { recursive: true })
  }
  process.stdout.write(`${JSON.stringify(done)} `)
})

test.run()
