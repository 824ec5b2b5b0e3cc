// A spare engine's rehearsal: a replay that really happens, and of which nothing is left; one that fails, or is interrupted, keeps the spare from nothing.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { rehearse } from '../../agent/engine/rehearsal.ts'
import { engineEnvironment } from '../../agent/supervisor/spawn.ts'
import { faultEnvironment } from '../fault/support/faults.ts'
import { TestEngine } from '../support/engine.ts'
import { type Child, spawnChild } from '../support/process.ts'
import { programCommand } from '../support/program.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('rehearsal')
/** The tables and their first rows are one transaction. */
const all = { replayed: 401, refused: [], inserted: 400, updated: 200 }

/** A data directory whose journal has something to replay, and a spare on it in an empty directory of its own. */
async function spareOn(engine: TestEngine, { env = {}, input = 'pipe' }: { env?: Record<string, string>; input?: string } = {}) {
  const cwd = temporaryDirectory('spare')
  const { command, args } = programCommand()
  const spare = spawnChild(command, [...args, 'engine', '-c', engine.config, '--spare'], {
    cwd,
    env: { ...engineEnvironment(), ...env },
    input,
  })
  return { spare, cwd }
}

async function killedEngine(): Promise<TestEngine> {
  const engine = await TestEngine.start()
  await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY)', 'INSERT INTO t VALUES (1)', 'INSERT INTO t VALUES (2)')
  await engine.kill()
  return engine
}

/** What it has told in its log under that message. */
function told(spare: Child, message: RegExp): Record<string, unknown> | undefined {
  const lines = spare.stdout().split('\n').slice(0, -1)
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>).find(({ msg }) => message.test(String(msg)))
}

async function waits(spare: Child, message: RegExp): Promise<Record<string, unknown>> {
  await waitFor('it says what became of the rehearsal', () => spare.exit !== null || told(spare, message) !== undefined, {
    deadline: 60_000,
  })
  assert.is(spare.exit, null, spare.output())
  return told(spare, message) as Record<string, unknown>
}

/** Path, size and last change of every file. */
function filesBelow(directory: string): string[] {
  return fs
    .readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => ({ name, stat: fs.statSync(path.join(directory, name)) }))
    .map(({ name, stat }) => `${name} ${stat.isFile() ? stat.size : ''} ${stat.mtimeMs} ${stat.ctimeMs}`)
    .sort()
}

async function serves(engine: TestEngine, spare: Child): Promise<void> {
  await waitFor('it serves', async () => spare.exit !== null || (await engine.sql('SELECT 1')).length === 1, { deadline: 60_000 })
  assert.equal(await engine.sql('SELECT id FROM t ORDER BY id'), [['1'], ['2']], spare.output())
  assert.equal(await engine.sql("SELECT current_setting('threads'), current_setting('memory_limit')"), [['2', '194.5 MiB']])
  assert.equal(await engine.sql("SELECT c.relname FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid WHERE k.contype = 'p'"), [
    ['t'],
  ])
}

test('it replays what the journal would hold, inserts and updates, into the tables', async () => {
  assert.equal(await rehearse(() => false), all)
})

test('it ends after the piece in which it is wanted, and before the first', async () => {
  let left = 3
  const { replayed, inserted, updated } = await rehearse(() => left-- === 0)
  assert.equal([replayed, inserted, updated], [151, 150, 75])
  assert.is((await rehearse(() => true)).inserted, 0)
})

test('a spare rehearses and leaves no trace; then it is an engine, or ends with its agent', async () => {
  const engine = await killedEngine()
  const before = filesBelow(engine.data)
  const { spare, cwd } = await spareOn(engine)
  const other = await spareOn(engine)
  for (const each of [spare, other.spare]) {
    const { replayed, refused, inserted, updated } = await waits(each, /^rehearsed$/)
    assert.equal({ replayed, refused, inserted, updated }, all)
  }
  assert.equal(filesBelow(engine.data), before)
  assert.equal([fs.readdirSync(cwd), fs.readdirSync(other.cwd)], [[], []])
  spare.process.stdin?.end('begin\n')
  await serves(engine, spare)
  assert.is((told(spare, /^recovered$/) as { replayed?: number }).replayed, 3)
  other.spare.process.stdin?.end()
  assert.equal(await other.spare.exited, { code: 0, signal: null })
  await spare.kill()
})

test('a rehearsal that fails is told, and no more', async () => {
  const engine = await killedEngine()
  const trace = path.join(temporaryDirectory('trace'), 'trace')
  // Full is what DuckDB's memory would be; the replay after the word passes the same place.
  const faults = [{ label: 'REPLAY:COMMIT', action: 'ENOSPC' as const }]
  const plan = faultEnvironment({ role: 'engine', faults, trace })
  const NODE_OPTIONS = `${engineEnvironment().NODE_OPTIONS} ${plan.NODE_OPTIONS}`
  const { spare } = await spareOn(engine, { env: { ...plan, NODE_OPTIONS } })
  const { msg } = await waits(spare, /rehearse/)
  assert.match(String(msg), /could not rehearse: .*ENOSPC/)
  assert.match(fs.readFileSync(trace, 'utf8'), /^fired REPLAY:COMMIT/)
  spare.process.stdin?.end('begin\n')
  await serves(engine, spare)
  await spare.kill()
})

test('what it has prepared for another database is not used', async () => {
  const engine = await killedEngine()
  const config = fs.readFileSync(engine.config, 'utf8')
  fs.writeFileSync(engine.config, config.replace(/^engine:$/m, 'engine:\n  database: another.duckdb'))
  assert.is.not(fs.readFileSync(engine.config, 'utf8'), config)
  const { spare } = await spareOn(engine)
  await waits(spare, /^rehearsed$/)
  fs.writeFileSync(engine.config, config)
  spare.process.stdin?.end('begin\n')
  await serves(engine, spare)
  await spare.kill()
})

test('the word is heard during the rehearsal', async () => {
  const engine = await killedEngine()
  const { spare } = await spareOn(engine, { input: 'begin\n' })
  await serves(engine, spare)
  const { replayed } = told(spare, /^rehearsed$/) as { replayed: number }
  assert.ok(replayed < all.replayed, spare.output())
  await spare.kill()
})

test.run()
