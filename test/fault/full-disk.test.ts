// deadline: 480s
// The disk is full: commits fail with 53100, reads go on, writes resume by themselves when there is space again; nothing acknowledged is lost.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { waitFor } from '../support/wait.ts'
import { Guarded, patience } from './support/guarded.ts'
import { assertSettled } from './support/ledger.ts'
import { canMount, SmallDisk } from './support/small-disk.ts'
import { schema, Writers } from './support/writers.ts'

const test = suite('full disk')
const name = 'on a full disk commits fail with 53100, reads go on, and writes resume when there is space'

if (!canMount) test.skip(name)
else
  test(name, async () => {
    const disk = new SmallDisk('48m')
    const guarded = await Guarded.prepare({
      data: disk.directory,
      // No scanner: its first snapshot asks for more space than this disk ever has.
      plugins: [
        'watchdog: { schedule: "* * * * * *", max_restarts: 1000 }',
        'checkpointer: { every_transactions: 300 }',
        'integrity-scanner: false',
      ],
    })
    try {
      await guarded.start()
      await guarded.sql(...schema)
      const writers = new Writers(guarded, { pause: 1 })
      writers.start(['single', 'single', 'transaction', 'transaction'])
      try {
        await acknowledged(writers, 100)
        const engine = guarded.enginePid()
        disk.fill()
        await waitFor('commits are refused', () => refusedWith(writers, '53100') > 20, { deadline: patience })
        // Reads, while nothing can be written.
        assert.ok(Number((await guarded.sql('SELECT count(*) FROM singles'))[0]?.[0]) > 0)
        await guarded.until(
          'the agent says so',
          ({ problems, healthy }) => !healthy && problems.some((problem) => /journal|disk|space/i.test(problem)),
        )
        assert.is(guarded.enginePid(), engine, 'the engine lives on: a restart would not help')
        disk.clear()
        await acknowledged(writers, 400) // over a checkpoint
        assert.is(guarded.enginePid(), engine)

        // Full again, and killed under it: it comes back at once, and tells why it takes no writes.
        disk.fill()
        await refusedOnceMore(writers)
        await guarded.killEngine()
        disk.fill()
        await servesReadsOnly(guarded, writers)
        const next = guarded.enginePid()
        assert.is.not(next, engine)
        disk.clear()
        await acknowledged(writers, 200)
        assert.is(guarded.enginePid(), next)

        // So does an agent that starts on the full disk.
        disk.fill()
        await refusedOnceMore(writers)
        await guarded.killAgent()
        await guarded.killEngine()
        disk.fill()
        await guarded.start()
        await servesReadsOnly(guarded, writers)
        disk.clear()
        await acknowledged(writers, 200)
        await guarded.killEngine()
        await acknowledged(writers, 100)
      } finally {
        await writers.stop()
      }
      assert.equal(
        [...new Set(writers.refused.values())].filter((code) => code !== '53100'),
        [],
      )
      await assertSettled(guarded, writers)
      await guarded.until('all is well again', ({ healthy }) => healthy)
      assert.is((await guarded.command('scan')).code, 0)
      await guarded.stop()

      // After a stop in order there is no engine.json whose blocks could be written again: the engine is known without.
      disk.fill()
      await guarded.start()
      await guarded.until('it is said', ({ problems }) => problems.some((one) => /the disk is full/.test(one)))
      assert.not.ok(fs.existsSync(path.join(guarded.data, 'engine.json')))
      const pid = guarded.enginePid()
      await guarded.killAgent()
      await guarded.start()
      assert.is(guarded.enginePid(), pid, 'it is adopted')
      disk.clear()
      await guarded.until('all is well', ({ healthy }) => healthy)
      await guarded.stop()
    } finally {
      await guarded.end()
    }
  })

function refusedWith(writers: Writers, code: string): number {
  writers.check()
  return [...writers.refused.values()].filter((one) => one === code).length
}

async function refusedOnceMore(writers: Writers): Promise<void> {
  const before = refusedWith(writers, '53100')
  await waitFor('commits are refused', () => refusedWith(writers, '53100') > before + 5, { deadline: patience })
}

/** A new engine, on the full disk: it serves reads, refuses writes, is reported, and is not restarted by any probe. */
async function servesReadsOnly(guarded: Guarded, writers: Writers): Promise<void> {
  await guarded.until('it is said', ({ problems, engine }) => engine.state === 'up' && problems.some((one) => /the disk is full/.test(one)))
  const engine = guarded.enginePid()
  const probes = await probesOf(guarded)
  await refusedOnceMore(writers)
  assert.ok(Number((await guarded.sql('SELECT count(*) FROM singles'))[0]?.[0]) > 0)
  await waitFor('it is probed', async () => (await probesOf(guarded)) >= probes + 3, { deadline: patience })
  assert.is(guarded.enginePid(), engine, 'no restart would help')
}

/** Probes that the watchdog has made, and all of which were answered since the last that was not. */
async function probesOf(guarded: Guarded): Promise<number> {
  const facts = (await guarded.status()).plugins.find(({ name }) => name === 'watchdog')?.facts ?? {}
  return facts.failuresInRow === 0 ? Number(facts.probes) : 0
}

async function acknowledged(writers: Writers, orders: number): Promise<void> {
  const target = writers.acknowledged + orders
  await waitFor(
    `${orders} more orders are acknowledged`,
    () => {
      writers.check()
      return writers.acknowledged >= target
    },
    { deadline: patience },
  )
}

test.run()
