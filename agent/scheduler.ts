/**
 * Cron for the agent (node-cron) with what cron lacks: no overlapping runs of a job, a deadline for each run through its
 * AbortSignal, errors contained and counted. A run that ignores its signal is reported as overdue and keeps its job busy:
 * starting a second one beside it would be worse than starting none.
 */

import { createTask, type ScheduledTask } from 'node-cron'
import type { Clock } from './clock.ts'
import { DaemonGuardError, messageOf } from './errors.ts'
import type { Log } from './log.ts'

export interface JobOptions {
  /** `<plugin>` or `<plugin>#2`: the name in log, status and metrics. */
  name: string
  /** Five or six fields, in the machine's time zone. */
  cron: string
  /** Milliseconds after which the run's signal aborts. */
  deadlineMs: number
  tick(signal: AbortSignal): Promise<void>
  /** Asked before each run: a reason not to run now (quiet hours), or null. */
  pause?(): string | null
  /** Told of every run that failed, overdue ones included. */
  onFailure?(error: unknown): void
}

/** Counters since the job was scheduled; times in milliseconds since the Unix epoch. */
export interface JobFacts {
  name: string
  cron: string
  running: boolean
  /** The run under way has passed its deadline and has not ended. */
  overdue: boolean
  runs: number
  failures: number
  /** Failures since the last success. */
  failuresInRow: number
  /** Ticks that found the run before still under way. */
  overlaps: number
  /** Ticks that were left out by `pause`. */
  paused: number
  lastStartedAt: number | null
  lastDurationMs: number | null
  lastError: string | null
}

export interface Job {
  readonly facts: JobFacts
  /** Runs now unless a run is under way; resolves when the run has ended, whatever its outcome. */
  runNow(): Promise<void>
  /** No further run; aborts the one under way and waits for it at most `graceMs`. */
  stop(graceMs?: number): Promise<void>
}

const quiet = { info() {}, warn() {}, error() {}, debug() {} }

export class Scheduler {
  #jobs = new Set<Job>()
  #clock: Clock
  #log: Log

  constructor(options: { clock: Clock; log: Log }) {
    this.#clock = options.clock
    this.#log = options.log
  }

  /** Starts a job; throws DaemonGuardError when the cron expression is wrong. */
  schedule(options: JobOptions): Job {
    const job = new CronJob(options, this.#clock, this.#log, () => this.#jobs.delete(job))
    this.#jobs.add(job)
    return job
  }

  facts(): JobFacts[] {
    return [...this.#jobs].map((job) => job.facts)
  }

  /** Stops every job and waits at most `graceMs` for the runs under way. Safe twice. */
  async stop(graceMs = 3000): Promise<void> {
    await Promise.all([...this.#jobs].map((job) => job.stop(graceMs)))
  }
}

class CronJob implements Job {
  readonly facts: JobFacts
  #options: JobOptions
  #clock: Clock
  #log: Log
  #task: ScheduledTask
  #stopped = new AbortController()
  #run: Promise<void> | undefined
  #forget: () => void

  constructor(options: JobOptions, clock: Clock, log: Log, forget: () => void) {
    this.#options = options
    this.#clock = clock
    this.#log = log.child({ job: options.name })
    this.#forget = forget
    this.facts = {
      name: options.name,
      cron: options.cron,
      running: false,
      overdue: false,
      runs: 0,
      failures: 0,
      failuresInRow: 0,
      overlaps: 0,
      paused: 0,
      lastStartedAt: null,
      lastDurationMs: null,
      lastError: null,
    }
    const tick = () => {
      void this.runNow()
    }
    try {
      this.#task = createTask(options.cron, tick, { name: options.name, logger: quiet, suppressMissedWarning: true })
    } catch (error) {
      throw new DaemonGuardError(`wrong cron expression "${options.cron}": ${messageOf(error)}`, {
        where: options.name,
        hint: 'daemonguard check',
      })
    }
    // A tick that a busy event loop missed runs late, once: an hourly snapshot must not wait for the next hour.
    this.#task.on('execution:missed', tick)
    void this.#task.start()
  }

  async runNow(): Promise<void> {
    if (this.#stopped.signal.aborted) return
    if (this.#run !== undefined) {
      this.facts.overlaps += 1
      return
    }
    try {
      const reason = this.#options.pause?.() ?? null
      if (reason !== null) {
        this.facts.paused += 1
        this.#log.debug(`not run: ${reason}`)
        return
      }
      this.#run = this.#once()
      await this.#run
    } catch (error) {
      this.#failed(error)
    } finally {
      this.#run = undefined
    }
  }

  async #once(): Promise<void> {
    const { deadlineMs, name } = this.#options
    const deadline = new AbortController()
    const finished = new AbortController()
    const started = this.#clock.monotonic()
    const signal = AbortSignal.any([this.#stopped.signal, deadline.signal])
    this.facts.running = true
    this.facts.runs += 1
    this.facts.lastStartedAt = this.#clock.now()
    void this.#clock.sleep(deadlineMs, finished.signal).then(() => {
      if (finished.signal.aborted) return
      this.facts.overdue = true
      deadline.abort(new DaemonGuardError(`${name} did not end within ${deadlineMs} ms`, { where: name }))
    })
    try {
      await this.#options.tick(signal)
      // A tick that returned early because of its deadline has not done its work.
      if (deadline.signal.aborted) throw deadline.signal.reason
      this.facts.failuresInRow = 0
      this.facts.lastError = null
    } catch (error) {
      if (this.#stopped.signal.aborted) return
      this.#failed(deadline.signal.aborted ? deadline.signal.reason : error)
    } finally {
      finished.abort()
      this.facts.running = false
      this.facts.overdue = false
      this.facts.lastDurationMs = Math.round(this.#clock.monotonic() - started)
    }
  }

  #failed(error: unknown): void {
    this.facts.failures += 1
    this.facts.failuresInRow += 1
    this.facts.lastError = messageOf(error)
    this.#log.warn(`run failed: ${messageOf(error)}`)
    try {
      this.#options.onFailure?.(error)
    } catch (failure) {
      this.#log.error({ err: failure }, 'the failure listener failed')
    }
  }

  async stop(graceMs = 3000): Promise<void> {
    this.#stopped.abort(new DaemonGuardError(`${this.#options.name} is stopping`))
    await this.#task.destroy()
    const ended = new AbortController()
    const run = (this.#run ?? Promise.resolve()).finally(() => ended.abort())
    await Promise.race([run, this.#clock.sleep(graceMs, ended.signal)])
    ended.abort()
    this.#forget()
  }
}
