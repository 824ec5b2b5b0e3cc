/** Where everything lies under `agent.data_dir` (design: "The files"). */

import path from 'node:path'
import type { Config } from './config.ts'

export interface Paths {
  /** agent.data_dir */
  data: string
  database: string
  journal: string
  cursors: string
  snapshots: string
  quarantine: string
  deadLetter: string
  incidents: string
  /** Where `adopt` works; while it exists, an adoption is under way or was interrupted. */
  adoption: string
  /** {databaseId}: this data directory's identity, written by the engine at its first start. */
  identityFile: string
  /** pid, start time, nonce, sockets of the running engine. */
  engineFile: string
  engineLog: string
  /** What SQL clients have set for good. */
  settingsFile: string
  engineLock: string
  /** Control socket of the engine. */
  controlSocket: string
  agentFile: string
  /** Of the agent as a service of Windows, which has no other place for it. */
  agentLog: string
  agentLock: string
  /** Control socket of the agent. */
  agentSocket: string
}

export function pathsOf(config: Pick<Config, 'agent' | 'engine'>): Paths {
  const data = config.agent.data_dir
  const inData = (name: string) => path.join(data, name)
  return {
    data,
    database: config.engine.database,
    journal: config.engine.journal_dir,
    cursors: inData('cursors'),
    snapshots: inData('snapshots'),
    quarantine: inData('quarantine'),
    deadLetter: inData('dead-letter'),
    incidents: inData('incidents'),
    adoption: inData('adoption'),
    identityFile: inData('identity.json'),
    engineFile: inData('engine.json'),
    engineLog: inData('engine.log'),
    settingsFile: inData('settings.json'),
    engineLock: inData('engine.lock'),
    controlSocket: inData('control.sock'),
    agentFile: inData('agent.json'),
    agentLog: inData('agent.log'),
    agentLock: inData('agent.lock'),
    agentSocket: inData('agent.sock'),
  }
}

/** Name of the catalog that a database file is to DuckDB: that of the file, without its ending. */
export function catalogName(file: string): string {
  return path.basename(file).replace(/\.[^.]*$/, '')
}
