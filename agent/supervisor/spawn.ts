/**
 * Starts the engine as a process of its own session, with its output in engine.log. The engine outlives
 * the agent: nothing here ties the one's life to the other's.
 */

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import type { Writable } from 'node:stream'
import { allocatorEnvironment } from '../allocator.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { appendLog, openLog } from '../log-file.ts'
import { isInJob, type Program, spawnOutsideJob } from '../windows/breakaway.ts'
import { type Ending, endingOf, gone } from './endings.ts'
import { isAlive } from './process.ts'

/** An engine process, child or adopted. */
export interface EngineProcess {
  readonly pid: number
  readonly adopted: boolean
  /** Resolves once it has ended. Never rejects. */
  readonly ended: Promise<Ending>
  /** Null while it runs. */
  ending: Ending | null
}

export interface SpawnOptions {
  command: string
  args: string[]
  cwd: string
  logFile: string
  log: Log
}

/** Starts `command`, detached. A program that cannot be started is an ending, not an exception. */
export function spawnEngine(options: SpawnOptions): EngineProcess {
  const output = outputOf(options.log, options.logFile, openLog)
  try {
    const outside =
      process.platform === 'win32' && isInJob() ? outsideJob({ ...options, env: engineEnvironment(), output }, options.log) : null
    return outside ?? spawnDetached(options, output, 'ignore').process
  } finally {
    if (output !== undefined) fs.closeSync(output)
  }
}

/** The same, with an open stdin. The log stays where it is, full or not: an engine may be writing it. */
export function spawnWaiting(options: SpawnOptions): { process: EngineProcess; stdin: Writable | null } {
  const output = outputOf(options.log, options.logFile, appendLog)
  try {
    return spawnDetached(options, output, 'pipe')
  } finally {
    if (output !== undefined) fs.closeSync(output)
  }
}

function spawnDetached(
  options: SpawnOptions,
  output: number | undefined,
  input: 'ignore' | 'pipe',
): { process: EngineProcess; stdin: Writable | null } {
  const child = spawn(options.command, options.args, {
    cwd: options.cwd,
    detached: true,
    windowsHide: true,
    stdio: [input, output ?? 'ignore', output ?? 'ignore'],
    env: engineEnvironment(),
  })
  child.unref()
  const ended = new Promise<Ending>((resolve) => {
    child.once('error', (error) =>
      resolve({ name: 'unstarted', code: null, signal: null, text: `it cannot be started: ${messageOf(error)}` }),
    )
    child.once('exit', (code, signal) => resolve(endingOf(code, signal)))
  })
  return { process: track({ pid: child.pid ?? 0, adopted: false, ended, ending: null }), stdin: child.stdin }
}

/** Null where the job that the agent is in lets nobody go: an engine that may end with its agent is better than none. */
function outsideJob(program: Program, log: Log): EngineProcess | null {
  try {
    const { pid, ended } = spawnOutsideJob(program)
    return track({ pid, adopted: false, ended: ended.then((code) => endingOf(code, null)), ending: null })
  } catch (error) {
    log.warn(`the engine shares the job object of its agent, and ends with it if that is what the job is for: ${messageOf(error)}`)
    return null
  }
}

/** An engine that another agent started: not a child, so its end is known by its control connection (`closed`), then by its pid. */
export function adoptedProcess(pid: number, closed: Promise<void>): EngineProcess {
  const ended = closed.then(async () => {
    // The kernel closes a dying process's sockets a moment before the process is gone.
    while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 10).unref())
    return gone
  })
  return track({ pid, adopted: true, ended, ending: null })
}

function track(process: EngineProcess): EngineProcess {
  void process.ended.then((ending) => {
    process.ending = ending
  })
  return process
}

/**
 * DuckDB's calls run on libuv's pool: four threads would let a few long queries block every commit (facts: node-api). V8 lets the space for
 * new objects grow to 160 MB when images stream through: a tenth of it does as well, and leaves the memory to DuckDB.
 */
export function engineEnvironment(): NodeJS.ProcessEnv {
  // The service manager's sockets and watchdog are the agent's own.
  const { NOTIFY_SOCKET: _notify, WATCHDOG_PID: _pid, WATCHDOG_USEC: _usec, LISTEN_FDS: _fds, LISTEN_PID: _listen, ...rest } = process.env
  const options = `${rest.NODE_OPTIONS ?? ''} --max-semi-space-size=8`.trim()
  return { ...rest, UV_THREADPOOL_SIZE: '16', NODE_OPTIONS: options, ...allocatorEnvironment(rest) }
}

/** Undefined when the log cannot be opened (a full disk): an engine without a log is better than none. */
function outputOf(log: Log, file: string, open: (file: string) => number): number | undefined {
  try {
    return open(file)
  } catch (error) {
    log.warn({ file }, `the engine runs without a log: ${messageOf(error)}`)
    return undefined
  }
}
