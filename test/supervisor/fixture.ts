/** A supervisor over fixture engines (test/fixtures/engines): real processes, the real control client; only the wire probe is replaced. */

import fs from 'node:fs'
import path from 'node:path'
import type { Clock } from '../../agent/clock.ts'
import { EngineClient } from '../../agent/engine-client.ts'
import { IncidentStore } from '../../agent/incidents.ts'
import { silentLog } from '../../agent/log.ts'
import { type Paths, pathsOf } from '../../agent/paths.ts'
import type { Connect } from '../../agent/supervisor/adopt.ts'
import { createSupervisor, type Supervisor, type SupervisorOptions } from '../../agent/supervisor.ts'
import { onExit } from '../support/cleanup.ts'
import { createTestClock, type TestClock } from '../support/clock.ts'
import { temporaryDirectory } from '../support/temp.ts'

const programs = path.join(import.meta.dirname, '../fixtures/engines')

/** The fixture engines speak no Postgres, so the probe asks for the status: an answer or none, as with the real one. */
export const connectFixture: Connect = async (socket, options) => {
  const client = await EngineClient.connect(socket, options)
  return Object.assign(client, {
    async probe(signal?: AbortSignal) {
      await client.status(signal)
      return 1
    },
  })
}

export interface Supervised {
  supervisor: Supervisor
  paths: Paths
  clock: TestClock
  incidents: IncidentStore
  alerts: { message: string; details: Record<string, unknown> }[]
  /** Programs that were started, in order. */
  started: string[]
  /** 'up' and 'down', as they were told. */
  told: string[]
}

/**
 * `engines`: a program and its arguments for each start, the last one for all that follow (`['healthy']`, `['exits', '70']`).
 * `directory`: the data directory of an earlier supervisor.
 */
export function supervise(options: {
  engines: string[][]
  /** The program of every spare; without it there is none. */
  spare?: string[] | { command: string; args: string[] }
  adopt?: string[]
  directory?: string
  overrides?: Partial<SupervisorOptions>
}): Supervised {
  const data = options.directory ?? temporaryDirectory('sv')
  const paths = pathsOf({
    agent: { data_dir: data },
    engine: { database: path.join(data, 'trade_data.duckdb'), journal_dir: path.join(data, 'journal') },
  } as Parameters<typeof pathsOf>[0])
  const clock = createTestClock()
  const incidents = new IncidentStore({ directory: paths.incidents, clock: clock as Clock, log: silentLog })
  const alerts: Supervised['alerts'] = []
  const started: string[] = []
  const told: string[] = []
  const { spare = [] } = options
  let next = 0
  const supervisor = createSupervisor({
    config: { file: '/etc/daemonguard/config.yaml' },
    paths,
    log: silentLog,
    clock,
    incidents,
    alert: (message, details = {}) => alerts.push({ message, details }),
    connect: connectFixture,
    command(subcommand) {
      if (subcommand === 'adopt') return fixture(options.adopt ?? ['adopts'], data)
      if (subcommand === 'spare') return Array.isArray(spare) ? fixture(spare, data) : spare
      const engine = options.engines[Math.min(next++, options.engines.length - 1)] as string[]
      started.push(engine[0] as string)
      return fixture(engine, data)
    },
    spare: options.spare !== undefined,
    ...options.overrides,
  })
  supervisor.onEngine((state) => told.push(state))
  onExit(() => {
    const pid = supervisor.status().pid
    if (pid !== null) process.kill(pid, 'SIGKILL')
  })
  return { supervisor, paths, clock, incidents, alerts, started, told }
}

/** setpriv: the engine is detached from its agent, but must not outlive the test. */
export function fixture([name, ...args]: string[], data: string): { command: string; args: string[] } {
  return { command: 'setpriv', args: ['--pdeathsig', 'KILL', '--', process.execPath, path.join(programs, `${name}.mjs`), data, ...args] }
}

/** Makes the data directory look like one whose engine has run before. */
export function giveIdentity(paths: Paths): void {
  fs.writeFileSync(paths.identityFile, JSON.stringify({ databaseId: 'fixture' }))
}
