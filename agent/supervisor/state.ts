/**
 * What the supervisor must not forget when the agent ends: data_dir/supervisor.json, written atomically. A file that cannot be read or
 * has another version is as good as none: it holds no data, and the engine is found without it.
 */

import fs from 'node:fs'
import path from 'node:path'
import { writeOnFullDisk } from '../disk.ts'
import { codeOf, messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { defaultLimits, type RestartLimits, type RestartTimes } from './backoff.ts'
import type { ProcessIdentity } from './process.ts'

const formatVersion = 1

export interface SupervisorMemory {
  /** As last configured: the watchdog, which knows them, starts after the engine. */
  limits: RestartLimits
  restarts: RestartTimes
  flapping: boolean
  /** The engine as last seen. */
  engine: ProcessIdentity | null
  /** Nonce of the engine whose recovery report has been dealt with. */
  reported: string | null
  /** Id of the incident of the present outage. */
  outage: string | null
  /** Set from before the database file is moved away until a snapshot is in its place: an agent that dies in between must go on, not start empty. */
  restoring: { reason: string; evidence: Record<string, unknown> } | null
  /** The database began as a file that was taken over, so the journal alone does not make it whole. */
  adopted: boolean
}

const empty: SupervisorMemory = {
  limits: defaultLimits,
  restarts: { deaths: [], failed: [] },
  flapping: false,
  engine: null,
  reported: null,
  outage: null,
  restoring: null,
  adopted: false,
}

export function loadMemory(directory: string, log: Log): SupervisorMemory {
  const file = fileIn(directory)
  try {
    const { version, ...memory } = JSON.parse(fs.readFileSync(file, 'utf8')) as SupervisorMemory & { version: number }
    if (version !== formatVersion) throw new Error(`it has format ${version}, this program knows ${formatVersion}`)
    return { ...structuredClone(empty), ...memory }
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') log.warn({ file }, `the supervisor starts without its memory: ${messageOf(error)}`)
    return structuredClone(empty)
  }
}

/** Never throws: a full disk must not hold up a recovery. */
export function saveMemory(directory: string, memory: SupervisorMemory, log: Log): void {
  const file = fileIn(directory)
  try {
    writeOnFullDisk(file, `${JSON.stringify({ version: formatVersion, ...memory }, null, 2)}\n`, 'SUPERVISOR:STATE')
  } catch (error) {
    log.warn({ file }, `the supervisor's memory cannot be written: ${messageOf(error)}`)
  }
}

function fileIn(directory: string): string {
  return path.join(directory, 'supervisor.json')
}
