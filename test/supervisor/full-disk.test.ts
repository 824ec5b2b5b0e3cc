/** The supervisor on a full disk: what needs space is tried again until there is some, without a limit, and said once. */

import fs from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { SnapshotSource } from '../../agent/supervisor/restore.ts'
import { isAlive } from '../support/process.ts'
import { waitFor } from '../support/wait.ts'
import { giveIdentity, type Supervised, supervise } from './fixture.ts'

const test = suite('supervisor on a full disk')
const open: Supervised[] = []
const patience = 60_000

test.after.each(async () => {
  for (const { supervisor } of open.splice(0)) {
    const { pid } = supervisor.status()
    if (pid !== null && isAlive(pid)) process.kill(pid, 'SIGKILL')
    await supervisor.stop()
  }
})

function begin(options: Parameters<typeof supervise>[0]): Supervised {
  const it = supervise(options)
  giveIdentity(it.paths)
  open.push(it)
  return it
}

/** Lets its pauses pass until an engine serves, and looks at what was said meanwhile. */
async function servedInTheEnd(it: Supervised): Promise<void> {
  await waitFor(
    'an engine that serves and no open incident',
    () => {
      if (it.clock.sleeping(5000).includes(5000)) it.clock.advance(5000)
      const { state } = it.supervisor.status()
      assert.is.not(state, 'gave-up')
      return state === 'up' && it.incidents.list().every(({ closedAt }) => closedAt !== null)
    },
    { deadline: patience },
  )
  const [incident, ...others] = it.incidents.list()
  assert.is(others.length, 0)
  assert.match(incident?.hint ?? '', 'free space')
  assert.is(incident?.loss, 0)
}

test('an engine that cannot start for want of space is tried more often than any limit allows, and an operator is called once', async () => {
  const failures = Array.from({ length: 12 }, () => ['exits', '73', 'ENOSPC: no space left on device, write'])
  const it = begin({ engines: [...failures, ['healthy']] })
  await it.supervisor.start()
  const { state, problem, hint } = it.supervisor.status()
  assert.is(state, 'recovering', 'the agent goes on, and says')
  assert.match(problem ?? '', 'the disk is full')
  assert.match(hint ?? '', 'free space')
  await servedInTheEnd(it)
  assert.is(it.started.length, 13)
  assert.is(it.alerts.length, 1, JSON.stringify(it.alerts))
  assert.is(it.incidents.list()[0]?.cause, 'disk-full')
})

test('a snapshot for which there is no room waits for it, and is not taken for a bad one', async () => {
  let room = false
  const attempts: string[] = []
  const snapshots: SnapshotSource = {
    list: () => [{ file: '/snapshots/10.duckdb', companions: [], seq: 10 }],
    verify: async () => null,
    restore: async ({ file }, target) => {
      attempts.push(file)
      room = attempts.length > 12
      if (!room) throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })
      fs.writeFileSync(target, 'good 10')
    },
  }
  const it = begin({ engines: [['exits', '74'], ['healthy']], overrides: { snapshots: () => snapshots } })
  fs.writeFileSync(it.paths.database, 'broken')
  await it.supervisor.start()
  await servedInTheEnd(it)
  assert.is(attempts.length, 13)
  assert.is(fs.readFileSync(it.paths.database, 'utf8'), 'good 10')
  assert.equal(it.started, ['exits', 'healthy'])
})

test.run()
