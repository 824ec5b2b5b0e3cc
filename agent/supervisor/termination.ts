/** Ends an engine's process: in order, or at once. Both are safe for the data: after any end the journal has every acknowledged commit. */

import { type Clock, within } from '../clock.ts'
import { DaemonGuardError, messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { whoIs } from '../shell.ts'
import type { EngineConnection } from './adopt.ts'
import { gone } from './endings.ts'
import { isAlive } from './process.ts'
import type { EngineProcess } from './spawn.ts'

/** A checkpoint writes whatever has changed since the last one. */
const checkpointGraceMs = 120_000
const terminationGraceMs = 10_000
const killGraceMs = 30_000

/** SIGKILL, and waits for the end. Throws when the process outlives it (a disk that does not answer). */
export async function killProcess(engine: EngineProcess, clock: Clock): Promise<void> {
  send(engine, 'SIGKILL')
  if (await endsWithin(engine, killGraceMs, clock)) return
  throw new DaemonGuardError(`the engine (pid ${engine.pid}) does not end, not even by SIGKILL`, {
    hint: process.platform === 'win32' ? whoIs(engine.pid) : `ps -o pid,stat,wchan:30,cmd -p ${engine.pid}`,
  })
}

/** Asks over the control socket (with `connection`), then by SIGTERM, then by SIGKILL. */
export async function endInOrder(
  engine: EngineProcess,
  connection: EngineConnection | null,
  options: { checkpoint: boolean; clock: Clock; log: Log },
): Promise<void> {
  const { checkpoint, clock, log } = options
  if (connection !== null) {
    const answered = new AbortController()
    try {
      await Promise.race([connection.shutdown({ checkpoint }), clock.sleep(terminationGraceMs, answered.signal)])
      answered.abort()
      if (await endsWithin(engine, checkpoint ? checkpointGraceMs : terminationGraceMs, clock)) return
    } catch (error) {
      if (await endsWithin(engine, 0, clock)) return
      log.warn(`the engine refuses to stop: ${messageOf(error)}`)
    }
  }
  send(engine, 'SIGTERM')
  if (await endsWithin(engine, terminationGraceMs, clock)) return
  log.warn({ pid: engine.pid }, 'the engine ignores SIGTERM: SIGKILL')
  await killProcess(engine, clock)
}

function send(engine: EngineProcess, signal: NodeJS.Signals): void {
  // Pid 0 is a process that never was; to the system it means our own group.
  if (engine.ending !== null || engine.pid <= 0) return
  try {
    process.kill(engine.pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

async function endsWithin(engine: EngineProcess, ms: number, clock: Clock): Promise<boolean> {
  await within(engine.ended, ms, clock)
  // An adopted process whose connection still stands has no end to await: its pid tells.
  if (engine.ending === null && engine.adopted && !isAlive(engine.pid)) engine.ending = gone
  return engine.ending !== null || engine.pid <= 0
}
