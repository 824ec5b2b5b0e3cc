/** `daemonguard.exe service start|stop|restart|status`. */

import { DaemonGuardError, ExitCode } from '../errors.ts'
import { serviceName } from './service.ts'
import { State } from './service-calls.ts'
import { queryService, startService, stopService } from './service-control.ts'

/** A start may replay a long journal. */
const startWithin = 10 * 60_000
const stopWithin = 60_000

const words: Readonly<Record<number, string>> = {
  [State.stopped]: 'stopped',
  [State.startPending]: 'starting',
  [State.stopPending]: 'stopping',
  [State.running]: 'running',
}

export async function handle(verb: string): Promise<number> {
  if (queryService(serviceName) === undefined)
    throw new DaemonGuardError(`there is no service ${serviceName} on this machine`, { hint: 'daemonguard.exe service install' })
  if (verb === 'stop' || verb === 'restart') await stopService(serviceName, stopWithin)
  if (verb === 'start' || verb === 'restart') await startService(serviceName, startWithin)
  const facts = queryService(serviceName)
  const state = words[facts?.state ?? 0] ?? `in state ${facts?.state}`
  const more = facts?.state === State.stopped ? `, exit code ${facts.exitCode}` : `, pid ${facts?.pid}`
  process.stdout.write(`${serviceName} is ${state}${more}\n`)
  return verb === 'status' && facts?.state !== State.running ? ExitCode.failed : ExitCode.ok
}
