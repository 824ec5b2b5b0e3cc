// deadline: 180s
// A spare engine, as a host has it: it takes nothing of an engine's before it is told to begin, and then it is one like any other.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { isAlive } from '../support/process.ts'
import { waitFor } from '../support/wait.ts'
import { Guarded, patience } from './support/guarded.ts'

const test = suite('spare engine')

/** The one that waits: the program is loaded, its stdin is read. */
async function spareOf(guarded: Guarded): Promise<number> {
  await waitFor('a spare waits', () => guarded.spares().length === 1, { deadline: patience })
  const [spare] = guarded.spares()
  await waitFor('it has loaded DuckDB, and sleeps', () => /libduckdb/.test(read(spare, 'maps')) && /^S/.test(stateOf(spare)), {
    deadline: patience,
  })
  return spare as number
}

function read(pid: number | undefined, what: string): string {
  return fs.readFileSync(`/proc/${pid}/${what}`, 'utf8')
}

function stateOf(pid: number | undefined): string {
  return read(pid, 'stat').replace(/^.*\) /s, '')
}

/** Files of the data directory that a process has open. */
function openFiles(pid: number, data: string): string[] {
  return fs
    .readdirSync(`/proc/${pid}/fd`)
    .map((fd) => fs.readlinkSync(`/proc/${pid}/fd/${fd}`))
    .filter((file) => file.startsWith(data))
    .map((file) => path.relative(data, file))
}

test('it has nothing of an engine while it waits, takes its place in its turn, and outlives the agent then', async () => {
  const guarded = await Guarded.prepare({ plugins: ['watchdog: { max_restarts: 1000 }'] })
  try {
    await guarded.start()
    await guarded.sql('CREATE TABLE t (id INTEGER PRIMARY KEY)', 'INSERT INTO t VALUES (1)')
    const spare = await spareOf(guarded)
    assert.equal([...new Set(openFiles(spare, guarded.data))], ['engine.log'])
    assert.is(fs.readFileSync(path.join(guarded.data, 'engine.lock'), 'utf8').trim(), String(guarded.enginePid()))

    // What the configuration says when it begins counts.
    guarded.configure({ plugins: ['watchdog: { max_restarts: 1000 }'], engine: ['external_access: true'] })
    const [old] = await guarded.killEngine()
    await waitFor('an engine serves', async () => (await guarded.sql('INSERT INTO t VALUES (2)')).length === 0, { deadline: patience })
    assert.is.not(old, spare)
    assert.is(guarded.enginePid(), spare)
    assert.equal(await guarded.sql('SELECT id FROM t ORDER BY id'), [['1'], ['2']])
    assert.equal(await guarded.sql("SELECT current_setting('enable_external_access')"), [['t']])
    const { engine } = await guarded.until('the new engine is up', (status) => status.engine.state === 'up')
    assert.is(engine.supervision, 'started')
    assert.is(engine.recovery?.replayed, 2)
    assert.ok(Date.now() - (engine.status?.startedAt ?? 0) < patience)
    const journal = path.join(guarded.data, 'journal')
    for (const name of fs.readdirSync(journal)) assert.is(fs.statSync(path.join(journal, name)).mode & 0o777, 0o600, name)

    const next = await spareOf(guarded)
    assert.is.not(next, spare)
    await guarded.killAgent()
    await waitFor('the spare of an agent that is gone ends', () => !isAlive(next), { deadline: patience })
    assert.is(guarded.enginePid(), spare)
    await guarded.sql('INSERT INTO t VALUES (3)')
    await guarded.start()
    assert.is(guarded.enginePid(), spare)
    const { engine: adopted } = await guarded.status()
    assert.is(adopted.supervision, 'adopted')
    await guarded.stop()
    assert.equal([guarded.engines(), guarded.spares()], [[], []])
  } finally {
    await guarded.end()
  }
})

test.run()
