/**
 * The benchmark: DaemonGuard beside DuckDB alone and PostgreSQL, on the same disk, turn by turn.
 *
 *   npm run bench -- [ROW …] [--rounds N] [--seconds S] [--quick] [--large] [--engine-only] [--sources] [--json FILE] [--keep]
 *
 * ROW: numbers of rows (rows/index.ts); default: all. Each round measures every side of a row once, one after the other, for S seconds
 * (default 5, 5 rounds). --quick: tiny sizes that show that a row runs, and measure nothing. --large: row 11 up to 50 million rows.
 * --sources: DaemonGuard from its sources instead of as the packed executable, which is built when it is older than they are (--quick does
 * too). --engine-only: without the agent, so without checkpoints, where a row does not need it. --json: where the values go (default
 * dist/bench.json). --keep: leaves the data for a look. TMPDIR chooses the disk. Exit 0: every row was measured, whatever came out of it.
 */

import fs from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { selfCommand } from '../../agent/runtime.ts'
import { engineEnvironment } from '../../agent/supervisor/spawn.ts'
import { builtExecutable } from '../build/built.ts'
import { bringPrerequisites } from '../support/prerequisites.ts'
import { describeMachine, loadAverage } from './machine.ts'
import { postgresObstacle, postgresVersion } from './peers/postgres.ts'
import { head, json, type RowResult, table } from './report.ts'
import { rows } from './rows/index.ts'
import { Stage, type StageOptions } from './stage.ts'

interface Options extends StageOptions {
  readonly sources: boolean
  readonly chosen: readonly number[]
  readonly json: string
}

class UsageError extends Error {}

function readArguments(): Options {
  const { values, positionals } = parse()
  const chosen = positionals.length === 0 ? [...rows.keys()] : positionals.map(Number)
  const unknown = positionals.filter((text) => !rows.has(Number(text)))
  if (unknown.length > 0) throw new UsageError(`no such row: ${unknown.join(', ')} (there are ${[...rows.keys()].join(', ')})`)
  const { quick, large, keep } = values
  return {
    chosen,
    rounds: positive('--rounds', values.rounds ?? (quick ? '1' : '5')),
    seconds: positive('--seconds', values.seconds ?? '5'),
    quick,
    large,
    keep,
    engineOnly: values['engine-only'],
    sources: values.sources || quick,
    json: path.resolve(values.json),
  }
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        rounds: { type: 'string' },
        seconds: { type: 'string' },
        quick: { type: 'boolean', default: false },
        large: { type: 'boolean', default: false },
        'engine-only': { type: 'boolean', default: false },
        sources: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        json: { type: 'string', default: path.resolve(import.meta.dirname, '../../dist/bench.json') },
      },
    })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function positive(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new UsageError(`${name} ${text} is not a positive whole number`)
  return value
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

async function main(): Promise<number> {
  const options = readArguments()
  if (!options.quick) bringPrerequisites(['psql', 'pgbench', 'postgresql', 'jemalloc'], new Set())
  const program = options.sources ? selfCommand() : { command: await builtExecutable(), args: [] }
  const stage = new Stage(options, program)
  const obstacle = postgresObstacle(stage.directory)
  if (obstacle !== undefined) print(`PostgreSQL is left out: ${obstacle}`)
  const machine = describeMachine(stage.directory, postgresVersion())
  const startedAt = new Date().toISOString()
  const allocatorIn = (env: NodeJS.ProcessEnv) => env.LD_PRELOAD || 'the C library'
  const settings = [
    `${options.rounds} rounds of ${options.seconds} s${options.quick ? ' (QUICK: sizes are tiny, the numbers mean nothing)' : ''}; Unix sockets`,
    `DaemonGuard: ${options.sources ? 'from its sources' : 'packed'}, default configuration${options.engineOnly ? ', engine without its agent' : ''}, memory from ${allocatorIn(engineEnvironment())}; DuckDB alone: default settings, its own WAL, memory from ${allocatorIn(process.env)}`,
  ]
  if (machine.fileSystem.type === 'tmpfs') settings.push('THE DISK IS MEMORY: set TMPDIR to a real one, durability costs nothing here')
  print(head(machine, settings))

  const results: RowResult[] = []
  try {
    if (obstacle === undefined) settings.push(`PostgreSQL: ${JSON.stringify(await (await stage.postgres())?.settings())}`)
    for (const number of options.chosen) {
      const row = rows.get(number)
      if (row === undefined) continue
      const before = loadAverage()
      const about = { row: number, title: row.title }
      try {
        const report = await row.measure(stage)
        results.push({ ...about, report, load: [before, loadAverage()] })
      } catch (error) {
        results.push({ ...about, error: (error as Error).message, load: [before, loadAverage()] })
      }
      print(table(results.at(-1) as RowResult, !options.quick))
    }
  } finally {
    await stage.end()
  }
  const { chosen: _, json: file, ...used } = options
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.writeFileSync(file, `${JSON.stringify({ startedAt, machine, settings, options: used, rows: json(results) }, null, 2)}\n`)
  print(`\n${file}${options.keep ? `; data in ${stage.directory}` : ''}`)
  return results.some(({ error }) => error !== undefined) ? 1 : 0
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    process.stderr.write(`${error instanceof UsageError ? error.message : error.stack}\n`)
    process.exit(error instanceof UsageError ? 2 : 1)
  },
)
