/** One attempt to have an engine: adopt the one that runs, else take the database over if that is needed, start a process, and wait until it serves. */

import path from 'node:path'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import { sizeOf } from '../log-file.ts'
import { type Connect, type EngineConnection, type Found, findEngine, readEngineFile } from './adopt.ts'
import type { Ending } from './endings.ts'
import { trafficOf } from './process.ts'
import { type EngineProcess, spawnEngine } from './spawn.ts'

export type Attempt =
  | { readonly kind: 'serving'; readonly connection: EngineConnection }
  | { readonly kind: 'died'; readonly ending: Ending; readonly process: EngineProcess }
  /** Nobody answers, and no sign of work for `stallMs`: a start that hangs. The process still lives. */
  | { readonly kind: 'stalled'; readonly process: EngineProcess }
  | { readonly kind: 'aborted' }

export interface StartOptions {
  paths: { data: string; engineFile: string; engineLock: string; engineLog: string; controlSocket: string; database: string }
  connect: Connect
  command(): { command: string; args: string[] }
  clock: Clock
  log: Log
  /** How long a starting engine may show no sign of work. */
  stallMs: number
  /** A process that begins to be an engine now; null: one has to be started. */
  spare(): EngineProcess | null
  onSpawn(process: EngineProcess): void
}

const pollMs = 20
/** Less traffic than this between two looks is an idle process, not a replay. */
const trafficOfWork = 64 * 1024

/** Starts a process, or takes the spare, and waits until it (or another engine that was faster) serves. `signal` ends the wait, not the process. */
export async function startEngine(options: StartOptions, signal: AbortSignal): Promise<Attempt> {
  const { paths, clock, log } = options
  const stale = readEngineFile(paths.engineFile)?.nonce
  const process = options.spare() ?? spawnEngine({ ...options.command(), cwd: path.resolve(paths.data), logFile: paths.engineLog, log })
  options.onSpawn(process)
  let lastSign = clock.monotonic()
  let lastLook = lastSign
  let work = signsOfWork(process.pid, paths.engineLog)
  while (!signal.aborted) {
    const nonce = readEngineFile(paths.engineFile)?.nonce
    // On a full disk it may have to do without engine.json.
    if ((nonce !== undefined && nonce !== stale) || clock.monotonic() - lastLook >= 1000) {
      const found = await findEngine({ paths, connect: options.connect, known: null })
      if (found.kind === 'engine') return { kind: 'serving', connection: found.connection }
    }
    if (process.ending !== null) return { kind: 'died', ending: process.ending, process }
    const now = clock.monotonic()
    if (now - lastLook >= 1000) {
      lastLook = now
      const signs = signsOfWork(process.pid, paths.engineLog)
      if (signs.log !== work.log || signs.traffic - work.traffic >= trafficOfWork) {
        work = signs
        lastSign = now
      }
      if (now - lastSign >= options.stallMs) return { kind: 'stalled', process }
    }
    await Promise.race([process.ended, clock.sleep(pollMs, signal)])
  }
  return { kind: 'aborted' }
}

/** A long replay reads the journal, writes the database and logs; a hung start does none of it. */
function signsOfWork(pid: number, logFile: string): { log: number; traffic: number } {
  return { log: sizeOf(logFile), traffic: trafficOf(pid) ?? 0 }
}

/** A process that stands in the way of a start. */
export interface Obstacle {
  pid: number | null
  /** Certainly the engine of this data directory: it may be killed when it hangs. */
  ours: boolean
  why: string
  /** Set by restart(): kill it, for this reason. */
  kill: string | null
}

/** How long to wait before trying again though the obstacle still lives: it may have dropped its lock. */
const retryMs = 10_000
const alertMs = 5000

/**
 * Waits until the obstacle is gone, serves (then its connection is returned), or is to be killed. Returns undefined when a new
 * attempt is due. `alert` is called once, when it takes long.
 */
export async function waitForObstacle(options: {
  obstacle: Obstacle
  find(): Promise<Found>
  isAlive(pid: number): boolean
  kill(pid: number): Promise<void>
  alert(): void
  clock: Clock
  signal: AbortSignal
}): Promise<EngineConnection | undefined> {
  const { obstacle, clock, signal } = options
  const start = clock.monotonic()
  let alerted = false
  while (!signal.aborted) {
    const found = await options.find()
    if (found.kind === 'engine') return found.connection
    if (found.kind === 'blocked') Object.assign(obstacle, { pid: found.pid, ours: found.ours, why: found.why })
    else if (obstacle.pid === null ? clock.monotonic() - start >= 1000 : !options.isAlive(obstacle.pid)) return undefined
    if (obstacle.kill !== null && obstacle.ours && obstacle.pid !== null) {
      await options.kill(obstacle.pid)
      return undefined
    }
    const waited = clock.monotonic() - start
    if (waited >= alertMs && !alerted) {
      alerted = true
      options.alert()
    }
    // One that answers for another database, or hangs, would only be met again.
    if (waited >= retryMs && found.kind === 'none') return undefined
    await clock.sleep(50, signal)
  }
  return undefined
}
