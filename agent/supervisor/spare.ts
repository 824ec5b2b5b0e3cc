/**
 * The spare: a process that becomes the engine when one is wanted, started beforehand, so that after a death only the opening and the
 * replay are left (agent/engine/spare.ts). Until then it is no engine: it has no lock, no port, no file of the database, and nobody is
 * told of it. It reads the configuration when it begins, as every engine does. It ends with its agent, whose end closes its stdin.
 *
 * One that dies is no death of an engine: it is replaced, after a pause that grows, and counts nowhere. One whose program has been
 * replaced since is not used.
 */

import fs from 'node:fs'
import type { Writable } from 'node:stream'
import { type Clock, within } from '../clock.ts'
import { messageOf } from '../errors.ts'
import { isAlive } from './process.ts'
import { type EngineProcess, type SpawnOptions, spawnWaiting } from './spawn.ts'

/** Its start takes a third of a second of a core: not while clients come back to a new engine. */
const firstPauseMs = 3_000
const longestPauseMs = 600_000
/** How long its end is waited for. */
const endMs = 5_000

interface Waiting {
  readonly process: EngineProcess
  readonly stdin: Writable | null
  /** What its program and its log were when it was started. */
  readonly files: string
}

export class Spare {
  #options: SpawnOptions & { clock: Clock }
  #waiting: Waiting | null = null
  #planned: AbortController | null = null
  /** Spares in a row that ended by themselves. */
  #failures = 0

  constructor(options: SpawnOptions & { clock: Clock }) {
    this.#options = options
  }

  /** Its pid, or null when none waits. */
  get pid(): number | null {
    return this.#waiting?.process.pid ?? null
  }

  /** An engine serves: from a moment later on, a spare waits. */
  prepare(): void {
    if (this.#waiting !== null || this.#planned !== null) return
    const planned = new AbortController()
    this.#planned = planned
    const pauseMs = Math.min(firstPauseMs * 2 ** this.#failures, longestPauseMs)
    void this.#options.clock.sleep(pauseMs, planned.signal).then(() => {
      if (this.#planned === planned) this.#start()
    })
  }

  /** The spare as an engine that begins now; null when there is none to be used. It belongs to the caller. */
  take(): EngineProcess | null {
    const waiting = this.#waiting
    this.#drop()
    if (waiting === null) return null
    const { process, stdin, files } = waiting
    if (process.ending !== null || !isAlive(process.pid)) return null
    if (stdin === null || files !== this.#files()) {
      end(waiting)
      return null
    }
    this.#failures = 0
    stdin.end('begin\n')
    return process
  }

  /** Ends it; resolves when it is gone. Safe without one, and twice. */
  async end(): Promise<void> {
    const waiting = this.#waiting
    this.#drop()
    if (waiting === null) return
    end(waiting)
    await within(waiting.process.ended, endMs, this.#options.clock)
  }

  #drop(): void {
    this.#waiting = null
    this.#planned?.abort()
    this.#planned = null
  }

  #start(): void {
    this.#planned = null
    let waiting: Waiting
    try {
      waiting = { ...spawnWaiting(this.#options), files: this.#files() }
    } catch (error) {
      // Short of memory, most likely: nothing that an engine needs.
      this.#failures++
      this.#options.log.warn(`no spare engine could be started: ${messageOf(error)}`)
      this.prepare()
      return
    }
    const { process, stdin } = waiting
    this.#waiting = waiting
    // It may end before it is told to begin.
    stdin?.on('error', () => {})
    void process.ended.then(({ text }) => {
      if (this.#waiting !== waiting) return
      this.#waiting = null
      this.#failures++
      this.#options.log.warn({ pid: process.pid }, `the spare engine ended, and is replaced: ${text}`)
      this.prepare()
    })
  }

  /** Identifies the program's files and the log: where one is another by now, a spare is no longer what a new process would be. */
  #files(): string {
    const { command, args, logFile } = this.#options
    const program = [command, args[0] ?? ''].map((file) => {
      const stat = fs.statSync(file, { throwIfNoEntry: false })
      return stat === undefined ? '' : `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeMs}`
    })
    return [...program, fs.statSync(logFile, { throwIfNoEntry: false })?.ino].join(' ')
  }
}

/** It has nothing to lose. */
function end({ process: { pid, ending }, stdin }: Waiting): void {
  stdin?.destroy()
  try {
    if (ending === null && pid > 0) process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}
