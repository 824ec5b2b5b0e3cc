/** The supervisor over real processes that misbehave in one way each: adoption, restarts, giving up, flapping, hangs, stopping. */

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { isAlive } from '../support/process.ts'
import { waitFor } from '../support/wait.ts'
import { fixture, type Supervised, supervise } from './fixture.ts'

const test = suite('supervisor')
const open: Supervised[] = []
/** Milliseconds, on a loaded machine. */
const soon = 15_000

function begin(options: Parameters<typeof supervise>[0]): Supervised {
  const supervised = supervise(options)
  open.push(supervised)
  return supervised
}

/** Up, and probed. */
async function served({ supervisor, incidents }: Supervised): Promise<number> {
  await waitFor('an engine that serves and no open incident', () => {
    return supervisor.status().state === 'up' && incidents.list().every((incident) => incident.closedAt !== null)
  })
  return supervisor.status().pid as number
}

const state = ({ supervisor }: Supervised) => supervisor.status().state

test.after.each(async () => {
  for (const { supervisor } of open.splice(0)) {
    const { pid } = supervisor.status()
    if (pid !== null && isAlive(pid)) process.kill(pid, 'SIGCONT')
    if (pid !== null && isAlive(pid)) process.kill(pid, 'SIGKILL')
    await supervisor.stop()
  }
})

test('starts an engine in a session of its own and says so', async () => {
  const it = begin({ engines: [['healthy']] })
  await it.supervisor.start()
  const pid = await served(it)
  assert.equal(it.told, ['up'])
  assert.is(it.supervisor.current?.hello.pid, pid)
  assert.is(Number(fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[3]), pid, 'its session')
  assert.match(fs.readFileSync(`/proc/${pid}/environ`, 'utf8'), 'UV_THREADPOOL_SIZE=16')
  assert.match(fs.readFileSync(it.paths.engineLog, 'utf8'), `fixture engine ${pid} serves`)
  assert.is(it.incidents.list().length, 0)
})

test('stopping is safe without a start, and twice, and leaves the engine alone', async () => {
  const it = begin({ engines: [['healthy']] })
  await it.supervisor.stop()
  await it.supervisor.start()
  const pid = await served(it)
  await it.supervisor.stop()
  await it.supervisor.stop()
  assert.ok(isAlive(pid))
  assert.is(it.supervisor.current, null)
  const next = begin({ engines: [['exits']], directory: it.paths.data })
  await next.supervisor.start()
  assert.is(next.supervisor.status().pid, pid)
  assert.ok(next.supervisor.status().adopted)
  assert.equal(next.started, [])
})

test('an engine that is killed is replaced at once, and the incident says how long it took', async () => {
  const it = begin({ engines: [['healthy']] })
  await it.supervisor.start()
  const pid = await served(it)
  const before = performance.now()
  process.kill(pid, 'SIGKILL')
  await waitFor('its end to be noticed', () => it.supervisor.current === null)
  const next = await served(it)
  const took = performance.now() - before
  assert.ok(took < soon, `${took} ms`)
  assert.is.not(next, pid)
  assert.equal(it.told, ['up', 'down', 'up'])
  const [incident, ...rest] = it.incidents.list()
  assert.is(rest.length, 0)
  assert.is(incident?.cause, 'engine-died')
  assert.match(incident?.message ?? '', 'killed by SIGKILL')
  assert.is(incident?.loss, 0)
  assert.ok((incident?.downtimeMs ?? 0) > 0 && (incident?.downtimeMs ?? 0) <= took, `${incident?.downtimeMs} ms`)
  assert.equal(it.alerts, [])
})

test('the death of an adopted engine is noticed at once too', async () => {
  const first = begin({ engines: [['healthy']] })
  await first.supervisor.start()
  const pid = await served(first)
  await first.supervisor.stop()
  const it = begin({ engines: [['healthy']], directory: first.paths.data })
  await it.supervisor.start()
  await served(it)
  process.kill(pid, 'SIGKILL')
  await waitFor('its end to be noticed', () => it.supervisor.current === null, { deadline: soon })
  assert.is.not(await served(it), pid)
})

test('an engine that was found dead at the start is an incident whose downtime nobody knows', async () => {
  const first = begin({ engines: [['healthy']] })
  await first.supervisor.start()
  const pid = await served(first)
  await first.supervisor.stop()
  process.kill(pid, 'SIGKILL')
  await waitFor('its end', () => !isAlive(pid))
  const it = begin({ engines: [['healthy']], directory: first.paths.data })
  await it.supervisor.start()
  await served(it)
  const [incident] = it.incidents.list()
  assert.match(incident?.message ?? '', 'found dead')
  assert.is(incident?.downtimeMs, null)
})

test('a suspect engine is replaced at once', async () => {
  const it = begin({ engines: [['dies-after-probe', '70'], ['healthy']] })
  await it.supervisor.start()
  await waitFor('the second engine', () => it.started.length === 2)
  await served(it)
  assert.is(it.incidents.list()[0]?.cause, 'engine-suspect')
})

test('after three failed restarts it stops, stays up, and says what to type next; an agent that starts anew tries once more', async () => {
  const it = begin({ engines: [['exits', '1', 'fixture: the port is taken']] })
  await it.supervisor.start()
  assert.is(state(it), 'gave-up')
  assert.is(it.started.length, 4, 'one start and three restarts')
  const { hint, problem } = it.supervisor.status()
  assert.match(hint ?? '', 'daemonguard stop, then daemonguard run')
  assert.match(problem ?? '', '3 restarts failed')
  assert.is(it.alerts.length, 1)
  const [incident] = it.incidents.list()
  assert.is(incident?.severity, 'critical')
  assert.is(incident?.hint, hint)
  assert.is(incident?.closedAt, null)
  const evidence = incident?.evidence as { logTail: string[] } | undefined
  assert.is(evidence?.logTail.at(-1), 'fixture: the port is taken')
  await assertRejects(it.supervisor.restart('a probe failed'), /3 restarts failed/)
  assert.is(it.started.length, 4)
  await it.supervisor.stop()

  const stillBroken = begin({ engines: [['exits']], directory: it.paths.data })
  await stillBroken.supervisor.start()
  assert.is(state(stillBroken), 'gave-up')
  assert.is(stillBroken.started.length, 1)
  await stillBroken.supervisor.stop()

  const repaired = begin({ engines: [['healthy']], directory: it.paths.data })
  await repaired.supervisor.start()
  await served(repaired)
  assert.equal(
    repaired.incidents.list().map(({ id }) => id),
    [incident?.id],
  )
})

test('an engine that dies before its first successful probe counts as a failed restart', async () => {
  const it = begin({ engines: [['dies-when-probed']] })
  await it.supervisor.start()
  await waitFor('it to give up', () => state(it) === 'gave-up')
  assert.is(it.supervisor.status().failedRestarts, 3)
})

test('a bad configuration is not tried twice', async () => {
  const it = begin({ engines: [['exits', '78']] })
  await it.supervisor.start()
  assert.is(state(it), 'gave-up')
  assert.is(it.started.length, 1)
  assert.is(it.supervisor.status().hint, 'daemonguard check -c /etc/daemonguard/config.yaml')
})

test('a program that cannot be started is an ending like any other', async () => {
  const it = begin({ engines: [['healthy']], overrides: { command: () => ({ command: '/nonexistent/daemonguard', args: [] }) } })
  await it.supervisor.start()
  assert.is(state(it), 'gave-up')
  assert.match(it.supervisor.status().lastEnding ?? '', 'ENOENT')
})

test('an engine that serves and dies again is restarted three times at once, then with growing pauses and one alert', async () => {
  const it = begin({ engines: [['dies-after-probe']] })
  await it.supervisor.start()
  const pauses: number[] = []
  for (const expected of [250, 500, 1000, 2000]) {
    await waitFor(`the pause of ${expected} ms`, () => it.clock.sleeping(250).includes(expected))
    pauses.push(expected)
    it.clock.advance(expected)
  }
  assert.ok(it.supervisor.status().flapping)
  assert.equal(
    it.alerts.map(({ message }) => message),
    ['the engine is flapping: it serves and dies again'],
  )
  assert.ok(it.started.length >= 4 + pauses.length - 1)
  await it.supervisor.stop()
  const next = begin({ engines: [['healthy']], directory: it.paths.data })
  await next.supervisor.start()
  await served(next)
  assert.ok(next.supervisor.status().flapping, 'the next agent knows')
  next.clock.advance(301_000)
  next.supervisor.probed()
  assert.not(next.supervisor.status().flapping)
  assert.is(next.supervisor.status().restarts, 0)
})

test('with max_restarts: 1000 the pauses stay under 250 ms', async () => {
  const it = begin({
    engines: [['dies-after-probe'], ['dies-after-probe'], ['exits'], ['exits'], ['dies-when-probed'], ['dies-after-probe'], ['healthy']],
  })
  it.supervisor.configure({ maxRestarts: 1000 })
  void it.supervisor.start()
  const pauses = new Set<number>()
  await waitFor('the last engine', () => {
    // 2000 and more are bounds of waits for a process, not pauses.
    for (const ms of it.clock.sleeping(100)) if (ms < 2000) pauses.add(ms)
    return it.started.length === 7
  })
  assert.equal([...pauses], [150], 'a quarter of ten minutes, over 1000')
  await served(it)
})

test('a hung engine is killed and replaced on request', async () => {
  const it = begin({ engines: [['healthy']] })
  await it.supervisor.start()
  const pid = await served(it)
  process.kill(pid, 'SIGSTOP')
  await Promise.all([it.supervisor.restart('3 probes failed'), it.supervisor.restart('3 probes failed')])
  assert.not(isAlive(pid))
  await served(it)
  assert.is(it.started.length, 2, 'the second request joined the first')
  assert.is(it.incidents.list()[0]?.cause, 'engine-hung')
})

test('a hung engine of an earlier agent is waited for, named, and killed on request', async () => {
  const first = begin({ engines: [['healthy']] })
  await first.supervisor.start()
  const pid = await served(first)
  await first.supervisor.stop()
  process.kill(pid, 'SIGSTOP')
  const it = begin({ engines: [['healthy']], directory: first.paths.data })
  await it.supervisor.start()
  assert.is(state(it), 'down')
  assert.match(it.supervisor.status().problem ?? '', `process ${pid}`)
  it.clock.advance(6000)
  await waitFor('an alert', () => it.alerts.length === 1)
  assert.is(it.alerts[0]?.details.pid, pid)
  await it.supervisor.restart('3 probes failed')
  assert.not(isAlive(pid))
  assert.is.not(await served(it), pid)
})

test('a start that shows no sign of work is ended and counts as failed', async () => {
  const it = begin({ engines: [['hangs'], ['healthy']], overrides: { stallMs: 60_000 } })
  void it.supervisor.start()
  await waitFor('it to hang', () => fs.existsSync(it.paths.engineLog) && fs.readFileSync(it.paths.engineLog, 'utf8').includes('hangs'))
  await waitFor(
    'the second engine',
    () => {
      it.clock.advance(30_000)
      return it.started.length === 2
    },
    { every: 200 },
  )
  await served(it)
  assert.is(it.incidents.list()[0]?.cause, 'engine-hung')
})

test('a lock that another process holds is waited for, with an alert that names it', async () => {
  const holder = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'sleep', '1000'])
  const it = begin({ engines: [['exits', '75', `another engine already runs on this data directory: pid ${holder.pid}`], ['healthy']] })
  await it.supervisor.start()
  assert.is(state(it), 'down')
  it.clock.advance(6000)
  await waitFor('an alert', () => it.alerts.length === 1)
  assert.match(it.alerts[0]?.message ?? '', `process ${holder.pid}`)
  await assertRejects(it.supervisor.restart('probe'), new RegExp(`process ${holder.pid}`))
  assert.ok(holder.exitCode === null && isAlive(holder.pid as number), 'it is not ours to kill')
  holder.kill('SIGKILL')
  await served(it)
  assert.is(it.supervisor.status().failedRestarts, 0)
})

test('an engine that comes up elsewhere while ours finds the lock taken is adopted', async () => {
  const it = begin({ engines: [['exits', '75', `pid ${process.pid}`]] })
  await it.supervisor.start()
  const other = fixture(['healthy'], it.paths.data)
  const child = spawn(other.command, other.args)
  assert.is(await served(it), child.pid)
  assert.ok(it.supervisor.status().adopted)
})

test('an engine of another database is neither adopted nor killed', async () => {
  const it = begin({ engines: [['healthy']] })
  const other = fixture(['other-database'], it.paths.data)
  const child = spawn(other.command, other.args)
  await waitFor('the other engine', () => fs.existsSync(it.paths.engineFile))
  await it.supervisor.start()
  assert.is(state(it), 'down')
  assert.match(it.supervisor.status().problem ?? '', '/elsewhere/other.duckdb')
  await assertRejects(it.supervisor.restart('probe'), /another database/)
  assert.ok(isAlive(child.pid as number))
  child.kill('SIGKILL')
})

test('an engine.json that names a stranger proves nothing', async () => {
  const it = begin({ engines: [['healthy']] })
  fs.mkdirSync(it.paths.data, { recursive: true })
  fs.writeFileSync(it.paths.engineFile, JSON.stringify({ pid: process.pid, startedAt: 1_000_000, nonce: 'x' }))
  await it.supervisor.start()
  assert.is.not(await served(it), process.pid)
})

test('stopEngine ends the engine in order, and nothing starts it again', async () => {
  const it = begin({ engines: [['healthy']] })
  await it.supervisor.start()
  const pid = await served(it)
  await it.supervisor.stopEngine({ checkpoint: true })
  assert.not(isAlive(pid))
  assert.not(fs.existsSync(it.paths.engineFile))
  assert.is(it.incidents.list().length, 0)
  assert.is(it.started.length, 1)
  await it.supervisor.start()
  await served(it)
})

test('stopEngine ends an engine that ignores shutdown and SIGTERM', async () => {
  const it = begin({ engines: [['ignores-sigterm']] })
  await it.supervisor.start()
  const pid = await served(it)
  const stopped = it.supervisor.stopEngine({ checkpoint: false })
  let ended = false
  void stopped.then(() => {
    ended = true
  })
  await waitFor(
    'its end',
    () => {
      it.clock.advance(5000)
      return ended
    },
    { every: 100 },
  )
  assert.not(isAlive(pid))
})

test('stopEngine ends a start that is under way', async () => {
  const it = begin({ engines: [['hangs']] })
  void it.supervisor.start()
  await waitFor('it to hang', () => fs.existsSync(it.paths.engineLog) && fs.readFileSync(it.paths.engineLog, 'utf8').includes('hangs'))
  await it.supervisor.stopEngine({ checkpoint: true })
  assert.is(state(it), 'down')
})

test('a recovery that found the journal damaged is reported with its range, once, and asks for a snapshot', async () => {
  const it = begin({ engines: [['recovers-with-gaps']] })
  let damage = 0
  it.supervisor.onJournalDamage(() => damage++)
  await it.supervisor.start()
  await waitFor('the damage report', () => damage === 1)
  const [incident] = it.incidents.list()
  assert.is(incident?.cause, 'journal-corrupt')
  // Seq 2 and 3 are in the file, which was opened at 3.
  assert.equal(incident?.loss, { firstSeq: 4, lastSeq: 8, tables: ['main.brokers', 'main.trades'] })
  await it.supervisor.stop()
  const next = begin({ engines: [['exits']], directory: it.paths.data })
  next.supervisor.onJournalDamage(() => damage++)
  await next.supervisor.start()
  await waitFor('the first probe', () => next.supervisor.status().state === 'up')
  await next.supervisor.current?.status()
  assert.is(damage, 1)
  assert.is(next.incidents.list().length, 1)
})

test('the engine log is rotated at 16 MB', async () => {
  const it = begin({ engines: [['healthy']] })
  fs.mkdirSync(it.paths.data, { recursive: true })
  fs.writeFileSync(it.paths.engineLog, Buffer.alloc(16 * 1024 * 1024, 'x'))
  await it.supervisor.start()
  await served(it)
  assert.ok(fs.statSync(it.paths.engineLog).size < 1000)
  assert.is(fs.statSync(`${it.paths.engineLog}.1`).size, 16 * 1024 * 1024)
  // Grown while the engine runs:
  fs.appendFileSync(it.paths.engineLog, Buffer.alloc(16 * 1024 * 1024, 'y'))
  it.supervisor.probed()
  assert.is(fs.statSync(it.paths.engineLog).size, 0)
  assert.is(path.basename(it.paths.engineLog), 'engine.log')
})

async function assertRejects(promise: Promise<unknown>, pattern: RegExp): Promise<void> {
  let message = ''
  await promise.catch((error: Error) => {
    message = error.message
  })
  assert.match(message, pattern)
}

test.run()
