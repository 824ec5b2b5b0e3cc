/** Every command by name. A command's module is loaded when it is called, so that `--version` is fast and only the engine loads DuckDB. */

import type { Command } from './command.ts'

export interface CommandEntry {
  readonly name: string
  readonly summary: string
  /** Started by the agent, not by people. */
  readonly hidden?: true
  load(): Promise<{ default: Command }>
}

export const commands: readonly CommandEntry[] = [
  { name: 'run', summary: 'the agent, in the foreground: keeps the engine alive, runs the plugins', load: () => import('./run.ts') },
  { name: 'check', summary: 'validate the configuration and its environment', load: () => import('./check.ts') },
  { name: 'status', summary: 'engine, plugins, lag, last scan, last snapshot, incidents', load: () => import('./status.ts') },
  { name: 'stop', summary: 'stop the agent, with --engine the engine too', load: () => import('./stop.ts') },
  { name: 'checkpoint', summary: 'bring the database file up to the journal now', load: () => import('./checkpoint.ts') },
  { name: 'scan', summary: 'verify every live block of the database, or of any .duckdb file', load: () => import('./scan.ts') },
  { name: 'snapshot', summary: 'take a verified snapshot now, or list them', load: () => import('./snapshot.ts') },
  {
    name: 'restore',
    summary: 'put a snapshot in place of the database file; the journal is replayed onto it',
    load: () => import('./restore.ts'),
  },
  { name: 'journal', summary: 'print every journaled change as JSON, or verify every checksum', load: () => import('./journal.ts') },
  { name: 'password', summary: 'turn a password into what the configuration may hold in its place', load: () => import('./password.ts') },
  { name: 'service', summary: 'install, upgrade, remove, start and stop the system service', load: () => import('./service.ts') },
  { name: 'licenses', summary: 'of everything inside this executable', load: () => import('./licenses.ts') },
  { name: 'demo', summary: 'the whole story in a temporary directory: trades, kills, recovery, proof', load: () => import('./demo.ts') },
  { name: 'engine', summary: 'the engine', hidden: true, load: () => import('./engine.ts') },
  { name: 'adopt', summary: 'take over an existing database file', hidden: true, load: () => import('./adopt.ts') },
]
