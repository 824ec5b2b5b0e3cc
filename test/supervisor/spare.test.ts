/** The spare engine over real processes: it takes the place of one that died, and is no engine before that. */

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { isAlive } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { type Supervised, supervise } from './fixture.ts'

const test = suite('spare engine')
const open: Supervised[] = []

async function begin(options: Omit<Parameters<typeof supervise>[0], 'engines'>): Promise<Supervised> {
  const supervised = supervise({ engines: [['healthy']], ...options })
  open.push(supervised)
  await supervised.supervisor.start()
  await served(supervised)
  return supervised
}

/** Up, and probed; its pid. */
async function served({ supervisor, incidents }: Supervised): Promise<number> {
  await waitFor('an engine that serves and no open incident', () => {
    return supervisor.status().state === 'up' && incidents.list().every((incident) => incident.closedAt !== null)
  })
  return supervisor.status().pid as number
}

/** Lets the pause pass after which a spare is started; its pid. */
async function spareOf({ supervisor, clock }: Supervised, before: number | null = null): Promise<number> {
  await waitFor('a spare waits', () => {
    clock.advance(1_000)
    const { spare } = supervisor.status()
    return spare !== null && spare !== before
  })
  return supervisor.status().spare as number
}

async function killed(it: Supervised, ...pids: number[]): Promise<number> {
  // A spare takes its place sooner than anybody may look.
  const ends = () => it.told.filter((what) => what === 'down').length
  const before = ends()
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  await waitFor('the end of the engine is noticed', () => ends() > before)
  return await served(it)
}

test.after.each(async () => {
  for (const { supervisor } of open.splice(0)) {
    const { pid } = supervisor.status()
    await supervisor.stop()
    if (pid !== null && isAlive(pid)) process.kill(pid, 'SIGKILL')
  }
})

test('it waits beside an engine that serves, and takes its place: not a process has to be started then', async () => {
  const it = await begin({ spare: ['waits'] })
  assert.is(it.supervisor.status().spare, null, 'not while clients come back')
  const first = it.supervisor.status().pid as number
  const spare = await spareOf(it)
  assert.is(it.supervisor.status().pid, first)
  assert.is(await killed(it, first), spare)
  assert.equal(it.started, ['healthy'])
  assert.is(it.supervisor.status().restarts, 1)
  assert.is(it.supervisor.status().adopted, false)
  // And another one takes the place of that.
  const next = await spareOf(it)
  assert.is(await killed(it, spare), next)
  assert.equal(it.started, ['healthy'])
  assert.equal(it.told, ['up', 'down', 'up', 'down', 'up'])
})

test('its death is no death of an engine: nothing is counted, nobody is alarmed, another one takes its place', async () => {
  const it = await begin({ spare: ['waits'] })
  const engine = it.supervisor.status().pid
  const spare = await spareOf(it)
  process.kill(spare, 'SIGKILL')
  assert.is.not(await spareOf(it, spare), spare)
  const { state, pid, restarts, failedRestarts } = it.supervisor.status()
  assert.equal([state, pid, restarts, failedRestarts], ['up', engine, 0, 0])
  assert.equal([it.incidents.list(), it.alerts], [[], []])
})

test('engine and spare killed together: an engine is started, as without one', async () => {
  const it = await begin({ spare: ['waits'] })
  const engine = it.supervisor.status().pid as number
  const spare = await spareOf(it)
  process.kill(spare, 'SIGKILL')
  const next = await killed(it, engine)
  assert.not.ok([engine, spare].includes(next))
  assert.equal(it.started, ['healthy', 'healthy'])
  const { restarts, failedRestarts } = it.supervisor.status()
  assert.equal([restarts, failedRestarts], [1, 0])
})

test('one that cannot start is tried ever more rarely, without an alert', async () => {
  const it = await begin({ spare: ['exits', '1'] })
  const pauses: number[] = []
  await waitFor('five attempts', () => {
    for (const pause of it.clock.sleeping(3_000)) if (!pauses.includes(pause)) pauses.push(pause)
    it.clock.advance(600_000)
    return pauses.length >= 5
  })
  assert.equal(pauses.slice(0, 5), [3_000, 6_000, 12_000, 24_000, 48_000])
  assert.equal([it.incidents.list(), it.alerts], [[], []])
  assert.is(it.supervisor.status().restarts, 0)
})

test('it ends with the supervisor, and with an engine that is stopped by command', async () => {
  const stopped = await begin({ spare: ['waits'] })
  const engine = stopped.supervisor.status().pid as number
  const spare = await spareOf(stopped)
  await stopped.supervisor.stop()
  assert.not.ok(isAlive(spare))
  assert.ok(isAlive(engine))
  process.kill(engine, 'SIGKILL')

  const it = await begin({ spare: ['waits'] })
  const other = await spareOf(it)
  await it.supervisor.stopEngine({ checkpoint: false })
  assert.not.ok(isAlive(other))
  it.clock.advance(600_000)
  assert.is(it.supervisor.status().spare, null)
  await it.supervisor.start()
  assert.ok(isAlive(await spareOf(it)))
})

for (const [what, change] of [
  ['program', (file: string) => fs.appendFileSync(file, '\n')],
  ['log', (_: string, log: string) => fs.renameSync(log, `${log}.old`)],
] as const) {
  test(`another ${what} has taken the place of its own: it is not used`, async () => {
    const directory = temporaryDirectory('sp')
    const programs = path.join(import.meta.dirname, '../fixtures/engines')
    for (const name of ['waits.mjs', 'serve.mjs']) fs.copyFileSync(path.join(programs, name), path.join(directory, name))
    const program = path.join(directory, 'waits.mjs')
    const it = await begin({ spare: { command: process.execPath, args: [program, directory] } })
    const spare = await spareOf(it)
    change(program, it.paths.engineLog)
    const next = await killed(it, it.supervisor.status().pid as number)
    assert.is.not(next, spare)
    assert.equal(it.started, ['healthy', 'healthy'])
    await waitFor('it has ended', () => !isAlive(spare))
  })
}

test.run()
