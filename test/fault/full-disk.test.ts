// deadline: 240s
// The disk is full: commits fail with 53100, reads go on, writes resume by themselves when there is space again; nothing acknowledged is lost.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { onExit } from '../support/cleanup.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { Guarded, patience } from './support/guarded.ts'
import { assertSettled } from './support/ledger.ts'
import { schema, Writers } from './support/writers.ts'

const test = suite('full disk')
const name = 'on a full disk commits fail with 53100, reads go on, and writes resume when there is space'
const isRoot = process.platform === 'linux' && process.getuid?.() === 0

if (!isRoot) test.skip(name)
else
  test(name, async () => {
    const data = smallDisk('48m')
    const ballast = path.join(data, 'ballast')
    const guarded = await Guarded.prepare({
      data,
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
        fillUp(ballast)
        await waitFor('commits are refused', () => refusedWith(writers, '53100') > 20, { deadline: patience })
        // Reads, while nothing can be written.
        assert.ok(Number((await guarded.sql('SELECT count(*) FROM singles'))[0]?.[0]) > 0)
        await guarded.until(
          'the agent says so',
          ({ problems, healthy }) => !healthy && problems.some((problem) => /journal|disk|space/i.test(problem)),
        )
        assert.is(guarded.enginePid(), engine, 'the engine lives on: a restart would not help')
        fs.rmSync(ballast)
        await acknowledged(writers, 400) // over a checkpoint
        assert.is(guarded.enginePid(), engine)

        // Full again, and killed under it: it comes back by itself, at the latest when there is space.
        fillUp(ballast)
        const before = refusedWith(writers, '53100')
        await waitFor('commits are refused again', () => refusedWith(writers, '53100') > before + 5, { deadline: patience })
        await guarded.killEngine()
        const reads = await readsWhileFull(guarded)
        process.stdout.write(`[after a kill on the full disk: ${reads ? 'serves reads' : 'waits for space'}] `)
        fs.rmSync(ballast)
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
    } finally {
      await guarded.end()
    }
  })

/** A file system of its own, unmounted when this process ends. */
function smallDisk(size: string): string {
  const directory = temporaryDirectory('disk')
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'tmpfs', directory], { encoding: 'utf8' })
  assert.is(mounted.status, 0, mounted.stderr)
  onExit(() => void spawnSync('umount', ['-l', directory]))
  return directory
}

/** Takes all that is left of the disk. */
function fillUp(file: string): void {
  const fd = fs.openSync(file, 'w')
  try {
    for (const bytes of [1 << 20, 1 << 12])
      try {
        for (;;) fs.writeSync(fd, Buffer.alloc(bytes, 1))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      }
  } finally {
    fs.closeSync(fd)
  }
}

function refusedWith(writers: Writers, code: string): number {
  writers.check()
  return [...writers.refused.values()].filter((one) => one === code).length
}

/** Whether a new engine serves reads although nothing can be written; it has some time for it. */
async function readsWhileFull(guarded: Guarded): Promise<boolean> {
  return await waitFor('reads are served', async () => (await guarded.sql('SELECT count(*) FROM singles')).length === 1, {
    deadline: 5_000,
  }).then(
    () => true,
    () => false,
  )
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
