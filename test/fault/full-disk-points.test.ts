// deadline: 600s
// beside: others
// The disk is full at any step of the engine that writes: a commit is refused before DuckDB has made it, a start serves or says 73, and nothing that was acknowledged is lost.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ExitCode } from '../../agent/errors.ts'
import { codeOf } from '../support/engine.ts'
import { seededRandom } from '../support/random.ts'
import { waitFor } from '../support/wait.ts'
import type { Fault } from './support/faults.ts'
import { patience } from './support/guarded.ts'
import { enginePoints } from './support/labels.ts'
import { Lives } from './support/lives.ts'

const test = suite('full disk points')
const random = seededRandom('full disk points')
const soak = process.env.SOAK !== undefined
/** All of them in the soak, else some. */
const some = <T>(items: readonly T[], count: number): T[] => (soak ? [...items] : random.shuffle(items).slice(0, count))

async function withLives(work: (lives: Lives) => Promise<void>): Promise<void> {
  const lives = await Lives.prepare()
  try {
    await work(lives)
    await lives.engine.kill()
    lives.plan([])
    assert.ok(await lives.start())
    await lives.check()
  } finally {
    await lives.engine.kill()
    lives.close()
  }
}

const reason = async (lives: Lives): Promise<string | null> => (await lives.engine.control.status()).readOnlyReason

for (const label of some(['SEGMENT:CREATE', 'SEGMENT:HEADER', 'SEGMENT:ALLOCATE', 'SEGMENT:SYNC', 'SEGMENT:ENTRY'], 1)) {
  test(`full at ${label}, when the journal goes on: commits are refused, reads go on, and writes resume by themselves`, async () => {
    await withLives(async (lives) => {
      const full = path.join(lives.engine.data, '..', 'full')
      lives.plan([{ label, action: 'ENOSPC', every: true, when: full, partial: random.chance(0.5) }])
      assert.ok(await lives.start())
      await lives.createTables()
      fs.writeFileSync(full, '')
      lives.workFilling()
      await waitFor('commits are refused', async () => /the disk is full/.test((await reason(lives)) ?? ''), { deadline: patience })
      assert.is((await lives.engine.sql('SELECT count(*) FROM medium')).length, 1)
      await lives.engine.control.probe()
      fs.rmSync(full)
      await waitFor('there is room', async () => (await reason(lives)) === null, { deadline: patience })
      const before = lives.acknowledged.length
      await waitFor('writes are taken', () => lives.acknowledged.length >= before + 10, { deadline: patience })
      assert.ok(lives.engine.running)
      await lives.rest()
    })
  })
}

test('full where space had been allocated: nothing is answered any more, the engine ends itself (70)', async () => {
  for (const label of some(['JOURNAL:WRITE', 'JOURNAL:SYNC', 'MARK:MOVE'], 1))
    await withLives(async (lives) => {
      lives.plan([{ label, hit: random.int(20, 60), action: 'ENOSPC', when: lives.working, partial: random.chance(0.5) }])
      assert.ok(await lives.start())
      await lives.createTables()
      lives.work()
      assert.equal(await lives.ended(), { code: ExitCode.suspect, signal: null })
    })
})

test('full at a step of the start: it serves where it can, else it says that the disk is full, and the next start has everything', async () => {
  // What can be done without, put off, or done in the blocks that are there.
  const dispensable = ['LOCK:PID', 'MARK:REPLACE', 'ENGINE:FACTS', ...labelsThat(/^SEGMENT:(?!DROP)/)]
  const others = labelsThat(/^(LOCK:OPEN|[A-Z]+:DIRECTORY|REPAIR:(OPEN|CUT|REWRITE|SYNC))$/)
  await withLives(async (lives) => {
    lives.plan([])
    assert.ok(await lives.start())
    await lives.createTables()
    for (const label of [...some(dispensable, 3), ...some(others, 2)]) {
      await lives.leaveSomethingToReplay()
      const kinds: Fault['kinds'] = label.endsWith(':DIRECTORY') ? undefined : ['open', 'write', 'sync', 'cut', 'rename', 'sync-directory']
      lives.plan([{ label, action: 'ENOSPC', kinds, every: random.chance(0.5), partial: random.chance(0.5) }])
      const serves = await lives.start()
      if (serves) {
        assert.is((await lives.engine.sql('SELECT count(*) FROM spare')).length, 1)
        await lives.engine.control.probe()
        await lives.check()
        const code = await codeOf(lives.engine.sql('INSERT INTO spare VALUES (2)'))
        assert.ok([undefined, '53100'].includes(code), `${label}: ${code}`)
      } else assert.is((await lives.engine.exit()).code, ExitCode.full, `${label}: ${lives.engine.output()}`)
      if (dispensable.includes(label)) assert.ok(serves, `${label}: ${lives.engine.output()}`)
      await lives.engine.kill()
      lives.plan([])
      assert.ok(await lives.start())
    }
  })
})

test('full when a setting is to be kept: its statement is told, and nothing else happens', async () => {
  await withLives(async (lives) => {
    lives.plan([{ label: 'ENGINE:SETTINGS', action: 'ENOSPC', kinds: ['open', 'write', 'sync', 'rename'] }])
    assert.ok(await lives.start())
    await lives.createTables()
    const set = () => codeOf(lives.engine.sql('PRAGMA wal_autocheckpoint = 5000'))
    assert.is(await set(), '53100')
    assert.is(await set(), undefined)
  })
})

function labelsThat(pattern: RegExp): string[] {
  return Object.keys(enginePoints.starting).filter((label) => pattern.test(label))
}

test.run()
