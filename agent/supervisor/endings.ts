/**
 * How an engine process ended, told apart by name: the cause decides the step (design: "Recovery ladder"), so it must not be
 * guessed from a number twice.
 */

import { ExitCode } from '../errors.ts'

export type EndingName =
  /** Exit 0: somebody asked it to stop. */
  | 'stopped'
  /** Any other exit code: it could not start or go on. */
  | 'failed'
  /** Its memory may disagree with its journal; a new process recovers. */
  | 'suspect'
  | 'corrupt'
  /** It needs space on the disk; a restart does not help before there is some. */
  | 'full'
  /** Another engine holds the lock. */
  | 'locked'
  | 'config'
  /** By a signal from outside: SIGKILL (the out-of-memory killer's too), SIGTERM … */
  | 'killed'
  /** By a signal that its own fault raised: SIGSEGV, SIGABRT … */
  | 'crashed'
  /** It was not our child, so nobody can say how. */
  | 'gone'
  /** It never was: the program could not be started. */
  | 'unstarted'

export interface Ending {
  readonly name: EndingName
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** For people: `exit code 70 (…)`, `killed by SIGKILL`. */
  readonly text: string
}

const faults: readonly string[] = ['SIGSEGV', 'SIGABRT', 'SIGBUS', 'SIGILL', 'SIGFPE', 'SIGTRAP', 'SIGSYS']

const namedCodes: Record<number, [EndingName, string]> = {
  0: ['stopped', 'a clean stop'],
  [ExitCode.suspect]: ['suspect', 'a fatal error made its memory untrustworthy'],
  [ExitCode.corrupt]: ['corrupt', 'the database file is damaged'],
  [ExitCode.full]: ['full', 'the disk is full'],
  [ExitCode.locked]: ['locked', 'another engine holds the lock'],
  [ExitCode.config]: ['config', 'bad configuration'],
}

/** Names the end of a child process. */
export function endingOf(code: number | null, signal: NodeJS.Signals | null): Ending {
  if (signal !== null) {
    const name = faults.includes(signal) ? 'crashed' : 'killed'
    return { name, code, signal, text: `${name} by ${signal}` }
  }
  const [name, meaning] = namedCodes[code ?? -1] ?? (process.platform === 'win32' ? onWindows(code ?? -1) : failed)
  return { name, code, signal, text: `exit code ${code} (${meaning})` }
}

const failed: [EndingName, string] = ['failed', 'it could not start or go on']

/** Windows has no signals: a fault's code is an NTSTATUS of severity "error" (Node's own abort: 134), and who ends a process gives its code, most often 1. */
function onWindows(code: number): [EndingName, string] {
  if (code >= 0xc0000000) return ['crashed', `0x${code.toString(16)}`]
  if (code === 134) return ['crashed', 'Node ended itself']
  return code === 1 ? ['failed', 'it could not start or go on, or was ended from outside'] : failed
}

/** The end of a process that was not our child. */
export const gone: Ending = { name: 'gone', code: null, signal: null, text: 'it ended; it was adopted, so its exit code is unknown' }

/** The cause under which an incident is filed. */
export function incidentCause(ending: Ending): string {
  if (ending.name === 'suspect') return 'engine-suspect'
  if (ending.name === 'corrupt') return 'database-corrupt'
  if (ending.name === 'full') return 'disk-full'
  if (ending.name === 'config') return 'bad-configuration'
  if (ending.name === 'unstarted') return 'engine-not-started'
  return 'engine-died'
}
