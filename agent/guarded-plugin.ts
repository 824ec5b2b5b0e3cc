/**
 * One plugin under guard (R7): its start is tried again with growing pauses, whatever it throws is caught and reported, and what a failed
 * attempt had scheduled or opened is gone before the next one.
 */

import type { Alerts } from './alerts.ts'
import type { Clock } from './clock.ts'
import { messageOf } from './errors.ts'
import type { Log } from './log.ts'
import type {
  EngineControl,
  EngineSupervisor,
  Incident,
  IncidentLog,
  JournalConsumer,
  Plugin,
  PluginContext,
  PluginHealth,
  RunningPlugin,
} from './plugin.ts'
import type { Job, Scheduler } from './scheduler.ts'
import type { LagReport, PluginReport } from './status-report.ts'

/** What the host hands on to plugins, each time labelled with the plugin's name. */
export interface PluginServices {
  /** agent.name */
  host: string
  log: Log
  clock: Clock
  paths: PluginContext['paths']
  engine: EngineControl
  supervisor: EngineSupervisor
  incidents: IncidentLog
  alerts: Alerts
  scheduler: Scheduler
  /** A journal cursor under that name; `close` ends its reads. */
  openConsumer(name: string, log: Log): JournalConsumer & { close?(): void | Promise<void> }
  /** Why a plugin's schedule must rest now (quiet hours), or null. */
  quiet(name: string): string | null
  /** Milliseconds before each further attempt to start a plugin; the last one repeats. */
  retryPauses?: readonly number[]
}

export interface ConfiguredPlugin {
  readonly plugin: Plugin
  readonly options: unknown
}

const defaultPauses = [1000, 2000, 5000, 15_000, 60_000]

/** Failed runs of one job in a row after which its plugin is unhealthy, whatever it says itself. */
const tolerableFailures = 3

/** One attempt at running a plugin, with all that it asked for: gone as a whole when the attempt fails. */
interface Attempt {
  jobs: Job[]
  engineListeners: ((state: 'up' | 'down') => void)[]
  durableListeners: ((seq: number) => void)[]
  consumer: ReturnType<PluginServices['openConsumer']> | undefined
  ended: boolean
}

export class GuardedPlugin {
  readonly #services: PluginServices
  readonly #plugin: Plugin
  readonly #options: unknown
  readonly #log: Log
  readonly #stopping = new AbortController()
  /** Ends the pause before the next attempt. */
  #wake = new AbortController()
  #state: PluginReport['state'] = 'starting'
  #lastError: string | undefined
  #running: RunningPlugin | undefined
  #attempt: Attempt | undefined
  #incident: Incident | undefined
  #work: Promise<void> | undefined

  constructor(services: PluginServices, { plugin, options }: ConfiguredPlugin) {
    this.#services = services
    this.#plugin = plugin
    this.#options = options
    this.#log = services.log.child({ plugin: plugin.name })
  }

  get name(): string {
    return this.#plugin.name
  }

  prompt(): void {
    void this.#attempt?.jobs[0]?.runNow()
  }

  /** Resolves after the first attempt, whatever its outcome; further attempts go on behind. */
  start(): Promise<void> {
    return new Promise((resolve) => {
      this.#work = this.#keepTrying(resolve).finally(resolve)
    })
  }

  async #keepTrying(onFirst: () => void): Promise<void> {
    const pauses = this.#services.retryPauses ?? defaultPauses
    for (let failures = 0; !this.#stopping.signal.aborted; failures++) {
      const attempt: Attempt = { jobs: [], engineListeners: [], durableListeners: [], consumer: undefined, ended: false }
      this.#attempt = attempt
      this.#wake = new AbortController()
      try {
        // Through a promise, so that a start() that throws at once is no different.
        const running = await Promise.resolve().then(() => this.#plugin.start(this.#context(attempt), this.#options as never))
        this.#running = running
        if (this.#stopping.signal.aborted) return
        this.#state = 'running'
        this.#lastError = undefined
        this.#closeIncident()
        this.#log.debug('started')
        return
      } catch (error) {
        await this.#end(attempt)
        if (this.#stopping.signal.aborted) return
        this.#failed(error)
        onFirst()
        await this.#services.clock.sleep(
          pauses[Math.min(failures, pauses.length - 1)] ?? 60_000,
          AbortSignal.any([this.#stopping.signal, this.#wake.signal]),
        )
        this.#state = 'starting'
      }
    }
  }

  #failed(error: unknown): void {
    this.#state = 'failed'
    const message = messageOf(error)
    // The same words every minute help nobody.
    if (this.#lastError !== message) this.#log.error({ err: error }, `it does not start: ${message}`)
    this.#lastError = message
    if (this.#incident !== undefined) return
    const text = `the plugin ${this.#plugin.name} does not start: ${message}`
    this.#incident = this.#services.incidents.open({
      severity: 'warning',
      cause: 'plugin-failed',
      message: text,
      actions: ['trying again with growing pauses'],
    })
    this.#services.alerts.raise(this.#plugin.name, text)
  }

  #closeIncident(): void {
    if (this.#incident !== undefined) this.#services.incidents.close(this.#incident, { actions: ['it started'] })
    this.#incident = undefined
  }

  #context(attempt: Attempt): PluginContext {
    const { name } = this.#plugin
    const services = this.#services
    return {
      name,
      host: services.host,
      log: this.#log,
      clock: services.clock,
      paths: services.paths,
      engine: services.engine,
      supervisor: services.supervisor,
      incidents: services.incidents,
      alert: (message, details) => services.alerts.raise(name, message, details),
      consumer: () => {
        attempt.consumer ??= services.openConsumer(name, this.#log)
        return attempt.consumer
      },
      schedule: (cron, deadlineMs, tick) => {
        // A late call of an attempt that has failed must not schedule beside the next one.
        if (attempt.ended) return
        const label = attempt.jobs.length === 0 ? name : `${name}#${attempt.jobs.length + 1}`
        attempt.jobs.push(services.scheduler.schedule({ name: label, cron, deadlineMs, tick, pause: () => services.quiet(name) }))
      },
      onEngine: (listener) => void attempt.engineListeners.push(listener),
      onDurable: (listener) => void attempt.durableListeners.push(listener),
    }
  }

  engineIs(state: 'up' | 'down'): void {
    // What kept it from starting may have been the engine.
    if (state === 'up') this.#wake.abort()
    this.#tell(this.#attempt?.engineListeners ?? [], state)
  }

  durableIs(seq: number): void {
    this.#tell(this.#attempt?.durableListeners ?? [], seq)
  }

  #tell<Fact>(listeners: readonly ((fact: Fact) => unknown)[], fact: Fact): void {
    for (const listener of listeners) {
      // A listener may be an async function: its rejection is caught as well.
      const failed = (error: unknown) => this.#log.error({ err: error }, `its listener failed: ${messageOf(error)}`)
      try {
        Promise.resolve(listener(fact)).catch(failed)
      } catch (error) {
        failed(error)
      }
    }
  }

  report(): PluginReport {
    const { name } = this.#plugin
    if (this.#state !== 'running') {
      const summary = this.#lastError === undefined ? this.#state : `does not start: ${this.#lastError}`
      return { name, state: this.#state, healthy: false, summary, facts: {} }
    }
    const health = this.#health()
    const stuck = this.#attempt?.jobs.find(({ facts }) => facts.overdue || facts.failuresInRow >= tolerableFailures)?.facts
    if (stuck === undefined) return { name, state: 'running', ...health }
    const trouble = stuck.overdue
      ? `${stuck.name} does not end`
      : `${stuck.name} failed ${stuck.failuresInRow} times in a row: ${stuck.lastError}`
    return { name, state: 'running', ...health, healthy: false, summary: health.healthy ? trouble : `${health.summary}; ${trouble}` }
  }

  #health(): PluginHealth {
    try {
      return this.#running?.health() ?? { healthy: false, summary: 'it tells nothing about its health', facts: {} }
    } catch (error) {
      return { healthy: false, summary: `it cannot tell its health: ${messageOf(error)}`, facts: {} }
    }
  }

  lag(): LagReport | undefined {
    const consumer = this.#attempt?.consumer
    if (consumer === undefined) return undefined
    const { confirmed, durable } = consumer
    return { consumer: this.#plugin.name, confirmed, durable, lag: Math.max(0, durable - confirmed) }
  }

  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort()
    const done = new AbortController()
    const work = this.#stopAll(graceMs)
      .catch((error) => this.#log.error({ err: error }, `it did not stop cleanly: ${messageOf(error)}`))
      .finally(() => done.abort())
    await Promise.race([work, this.#services.clock.sleep(graceMs, done.signal)])
    if (!done.signal.aborted) this.#log.warn(`it did not stop within ${graceMs} ms`)
    done.abort()
    this.#state = 'stopped'
  }

  async #stopAll(graceMs: number): Promise<void> {
    // A start() under way may yet bring something to stop.
    await this.#work
    const running = this.#running
    this.#running = undefined
    // Its own stop first: it knows in which order its work ends. Jobs and cursor go afterwards, even if it fails.
    try {
      await running?.stop()
    } finally {
      if (this.#attempt !== undefined) await this.#end(this.#attempt, graceMs)
    }
  }

  async #end(attempt: Attempt, graceMs = 1000): Promise<void> {
    attempt.ended = true
    attempt.engineListeners = []
    attempt.durableListeners = []
    await Promise.all(attempt.jobs.map((job) => job.stop(graceMs)))
    await attempt.consumer?.close?.()
    attempt.jobs = []
    attempt.consumer = undefined
  }
}
