// deadline: 900s
// Replay equals live (R6). Random workloads of every shape and type run on real engines; after each, the journal replayed onto an empty database,
// onto a snapshot from the middle of the workload, and (for some) by a restart after SIGKILL, gives what is live. One that fails is shrunk.
// COUNT: how many (200; SOAK=1: 5,000). SEED: the first of them. LOG: a file for the SQL of each.

import fs from 'node:fs'
import { suite } from 'uvu'
import { seededRandom, seedOf } from '../support/random.ts'
import { soak, timeIsUp } from '../support/soak.ts'
import { ReplayRig } from './support/replay-rig.ts'
import { shrunk } from './support/shrinking.ts'
import { textOf } from './support/steps.ts'
import { Workload } from './support/workload.ts'

const test = suite('replay')
const count = Number(process.env.COUNT ?? (soak ? 5_000 : 200))
const base = seedOf('replay')
const shrinkingMs = 120_000
/** Workloads that one engine sees, one after another; then it is killed, and what it recovers is compared as well. */
const perEngine = 10
/** Engines at a time: while one commits, the journal of the other is replayed. */
const lanes = 2
const refused = new Map<string, number>()
let compared = 0

for (let first = 0; first < count; first += lanes * perEngine) {
  const last = Math.min(count, first + lanes * perEngine)
  test(`workloads ${first + 1} to ${last} of ${count}`, async () => {
    if (timeIsUp()) return
    const starts = Array.from({ length: lanes }, (_, lane) => first + lane * perEngine).filter((start) => start < last)
    const failures = await Promise.all(starts.map((start) => inTurn(start, Math.min(last, start + perEngine))))
    if (failures.flat().length > 0) throw new Error(failures.flat().join('\n\n'))
  })
}

test.after(() => {
  process.stdout.write(
    `\n# ${compared} workloads compared\nrefused, by SQLSTATE: ${JSON.stringify(Object.fromEntries([...refused].sort()))}\n`,
  )
})

/** Workloads `from` to `to` - 1 on one engine; says what has failed. */
async function inTurn(from: number, to: number): Promise<string[]> {
  const failures: string[] = []
  let rig = await ReplayRig.start()
  try {
    for (let i = from; i < to && !timeIsUp(); i++) {
      const random = seededRandom('replay', base + i)
      const workload = new Workload(random, await rig.begin())
      let why = ''
      try {
        const long = random.chance(0.1)
        await workload.run(random.int(3, long ? 60 : 12))
        const happen = rig.pass.bind(rig)
        await workload.pass('checkpoint', happen)
        await workload.run(random.int(3, long ? 100 : 20))
        if (random.chance(0.1)) {
          await workload.pass('kill', happen)
          await workload.run(random.int(3, 12))
        }
        why = await rig.compare({ kill: i === to - 1, macros: workload.madeMacros })
      } catch (error) {
        why = `${(error as Error).message}\n${rig.output()}`
      }
      compared++
      for (const [code, times] of workload.failures) refused.set(code, (refused.get(code) ?? 0) + times)
      if (process.env.LOG !== undefined)
        fs.appendFileSync(process.env.LOG, `-- SEED=${random.seed} ${why}\n${workload.steps.map(textOf).join('\n')}\n`)
      if (why === '') continue
      failures.push(`SEED=${random.seed}: ${why}\n${await smallest(workload)}`)
      await rig.end()
      rig = await ReplayRig.start()
    }
  } finally {
    await rig.end()
  }
  return failures
}

/** The shortest part of the workload that goes wrong, as SQL. */
async function smallest(workload: Workload): Promise<string> {
  let rig = await ReplayRig.start()
  try {
    const { part, why } = await shrunk(
      workload.steps,
      async (steps) => {
        try {
          return await rig.repeat(steps)
        } catch (error) {
          await rig.end()
          rig = await ReplayRig.start()
          return (error as Error).message
        }
      },
      shrinkingMs,
    )
    if (why === '') return `it did not happen again; all of it was:\n${workload.steps.map(textOf).join('\n')}`
    return `shrunk from ${workload.steps.length} steps to ${part.length}: ${why}\n${part.map(textOf).join('\n')}`
  } finally {
    await rig.end()
  }
}

test.run()
