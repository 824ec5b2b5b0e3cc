// deadline: 400s
// Replay equals live (R6): random workloads, then SIGKILL; the database that recovery gives, and the one that the journal alone gives, equal what was there.
// COUNT workloads (default 30); SEED repeats the first of them.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { TestEngine } from '../support/engine.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { difference, stateOf } from './support/state.ts'
import { Workload } from './support/workload.ts'

const test = suite('replay')
const count = Number(process.env.COUNT ?? 30)
const failures = new Map<string, number>()

for (let i = 0; i < count; i++) {
  test(`workload ${i + 1} of ${count}`, async () => {
    const base = process.env.SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(process.env.SEED) + i
    const random = seededRandom('replay', base)
    const engine = await TestEngine.start()
    const copy = await TestEngine.prepare({ data: path.join(temporaryDirectory('r'), 'data') })
    let workload: Workload | undefined
    try {
      workload = new Workload(random, [await engine.connect(), await engine.connect()])
      await workload.run(random.int(10, 30))
      if (random.chance(0.5)) await engine.control.checkpoint().catch(() => {})
      await workload.run(random.int(5, 60))
      for (const [code, times] of workload.failures) failures.set(code, (failures.get(code) ?? 0) + times)

      const reader = await engine.connect()
      const live = await stateOf(reader)
      await engine.restart()
      const recovered = await stateOf(await engine.connect())
      assert.equal(engine.control.hello.recovery.refused, [])
      assert.equal(engine.control.hello.recovery.gaps, [])
      assert.is(difference(live, recovered), '')

      await engine.kill()
      fs.copyFileSync(path.join(engine.data, 'identity.json'), path.join(copy.data, 'identity.json'))
      fs.cpSync(path.join(engine.data, 'journal'), path.join(copy.data, 'journal'), { recursive: true })
      await copy.start()
      assert.equal(copy.control.hello.recovery.refused, [])
      assert.equal(copy.control.hello.recovery.gaps, [])
      assert.is(difference(live, await stateOf(await copy.connect())), '')
      if (process.env.LOG !== undefined) fs.appendFileSync(process.env.LOG, `-- SEED=${random.seed} passed\n${workload.log.join(';\n')}\n`)
    } catch (error) {
      if (process.env.LOG !== undefined) fs.appendFileSync(process.env.LOG, `-- SEED=${random.seed}\n${workload?.log.join(';\n')}\n`)
      throw new Error(
        `SEED=${random.seed}: ${(error as Error).message}\n${String((error as { actual?: unknown }).actual ?? '').slice(0, 3000)}${JSON.stringify((error as { actual?: unknown }).actual)?.slice(0, 1500)}\n${engine.output().slice(-1500)}`,
        { cause: error },
      )
    } finally {
      await engine.kill()
      await copy.kill()
    }
  })
}

test.after(() => {
  process.stdout.write(`\nrefused: ${JSON.stringify(Object.fromEntries(failures))}\n`)
})

test.run()
