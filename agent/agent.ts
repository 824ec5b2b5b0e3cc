/**
 * The agent: holds the lock of its data directory, serves control socket and status page, has the supervisor adopt or start the
 * engine, then starts the plugins. It stops in reverse and leaves the engine alone: a process of its own, which the next agent adopts.
 */

import { type AgentControl, serveAgentControl } from './agent-control.ts'
import { handlersOf } from './agent-handlers.ts'
import { Alerts } from './alerts.ts'
import { CertificateWatch } from './certificate-watch.ts'
import { type Clock, systemClock } from './clock.ts'
import { type Config, inQuietHours } from './config.ts'
import { Consumers } from './consumers.ts'
import { ensureDirectory, removeDurably, writeOnFullDisk } from './disk.ts'
import { DaemonGuardError, isDiskFull, messageOf } from './errors.ts'
import { returnGarbage } from './garbage.ts'
import { IncidentStore } from './incidents.ts'
import { scanner } from './integrity.ts'
import { removeAllLeftovers } from './leftovers.ts'
import { acquireLock, type Lock } from './lock.ts'
import type { Log } from './log.ts'
import { type Paths, pathsOf } from './paths.ts'
import type { EngineControl } from './plugin.ts'
import { type ConfiguredPlugin, PluginHost } from './plugin-host.ts'
import { ChosenSnapshots } from './restore.ts'
import { version } from './runtime.ts'
import { Scheduler } from './scheduler.ts'
import { takeSnapshot } from './snapshots.ts'
import { type StatusServer, serveStatus } from './status.ts'
import { collectStatus } from './status-collector.ts'
import type { StatusReport } from './status-report.ts'
import { createSupervisor, type Supervisor } from './supervisor.ts'
import { prepareDisk } from './windows/disk.ts'

export interface AgentOptions {
  config: Config
  plugins: readonly ConfiguredPlugin[]
  log: Log
  clock?: Clock
}

/** Plugins that read the whole database file, which must not disturb the market's hours. */
const quietPlugins: readonly string[] = [scanner]
/** How long to wait before the status page is tried again on its port. */
const statusRetryMs = 10_000
/** After this the start of everything has left its garbage. */
const settlingMs = 5_000

export class Agent {
  readonly config: Config
  readonly paths: Paths
  readonly log: Log
  readonly clock: Clock
  readonly startedAt: number
  readonly incidents: IncidentStore
  readonly alerts: Alerts
  readonly scheduler: Scheduler
  readonly supervisor: Supervisor
  readonly plugins: PluginHost
  /** Null without `engine.tls`. */
  readonly certificate: CertificateWatch | null
  /** Which snapshot the next restore takes. */
  readonly chosen: ChosenSnapshots
  /** The engine that serves now; every call rejects when there is none. */
  readonly engine: EngineControl
  /** Resolves when somebody asked the agent to stop; true: the engine too. */
  readonly stopRequested: Promise<{ engine: boolean }>
  readonly requestStop: (how: { engine: boolean }) => void
  #consumers: Consumers
  #lock: Lock | undefined
  #control: AgentControl | undefined
  #status: StatusServer | undefined
  #statusProblem: string | null = null
  #stopping = new AbortController()
  #stopped: Promise<void> | undefined

  constructor({ config, plugins, log, clock = systemClock }: AgentOptions) {
    this.config = config
    this.paths = pathsOf(config)
    this.log = log
    this.clock = clock
    this.startedAt = clock.now()
    const { promise, resolve } = Promise.withResolvers<{ engine: boolean }>()
    this.stopRequested = promise
    this.requestStop = resolve
    this.incidents = new IncidentStore({ directory: this.paths.incidents, clock, log: log.child({ part: 'incidents' }) })
    this.alerts = new Alerts({ targets: config.agent.alerts, host: config.agent.name, log: log.child({ part: 'alerts' }), clock })
    this.scheduler = new Scheduler({ clock, log: log.child({ part: 'scheduler' }) })
    const { tls } = config.engine
    const alert = (message: string, details: Record<string, unknown>) => this.alerts.raise('agent', message, details)
    this.certificate = tls === null ? null : new CertificateWatch({ files: tls, clock, scheduler: this.scheduler, alert })
    this.chosen = new ChosenSnapshots(this.paths.snapshots)
    this.supervisor = createSupervisor({
      config,
      paths: this.paths,
      log: log.child({ part: 'supervisor' }),
      clock,
      incidents: this.incidents,
      alert: (message, details) => this.alerts.raise('supervisor', message, details),
      snapshots: (databaseId) => this.chosen.source(databaseId),
    })
    this.engine = engineOf(this.supervisor)
    this.#consumers = new Consumers(this)
    this.plugins = new PluginHost(
      {
        host: config.agent.name,
        log,
        clock,
        paths: this.paths,
        engine: this.engine,
        supervisor: this.supervisor,
        incidents: this.incidents,
        alerts: this.alerts,
        scheduler: this.scheduler,
        openConsumer: (name, pluginLog) => this.#consumers.open(name, pluginLog),
        quiet: (name) =>
          quietPlugins.includes(name) && inQuietHours(config.agent.quiet_hours, new Date(clock.now())) ? 'quiet hours' : null,
      },
      plugins,
    )
  }

  /**
   * Takes the lock (exit code 75 with the holder's pid when another agent has it) and starts everything. Resolves when the engine
   * serves, or the supervisor cannot go on alone, and every plugin has been tried once; the agent goes on in each case.
   */
  async start(): Promise<void> {
    prepareDisk()
    ensureDirectory(this.paths.data, 'AGENT:DIRECTORY')
    this.#lock = acquireLock(this.paths.agentLock, 'agent')
    await this.#attempt('what a killed process left behind was not removed', async () => {
      const removed = removeAllLeftovers(this.paths)
      if (removed.length > 0) this.log.info({ removed }, 'removed temporary files that a killed process had left behind')
    })
    try {
      this.#control = await serveAgentControl(this.paths.agentSocket, handlersOf(this), this.log.child({ part: 'control' }))
      this.#writeAgentFile()
    } catch (error) {
      await this.stop()
      throw error
    }
    this.#consumers.expectDatabase()
    await this.#serveStatus()
    this.certificate?.start()
    this.supervisor.onEngine((state) => this.#engineIs(state))
    this.supervisor.onJournalDamage(() => void this.#snapshotAtOnce())
    await this.supervisor.start()
    if (!this.#stopping.signal.aborted) await this.plugins.start()
    void this.clock.sleep(settlingMs, this.#stopping.signal).then(() => returnGarbage())
  }

  get statusPage(): string | null {
    return this.#status?.url ?? null
  }

  status(): Promise<StatusReport> {
    return collectStatus(this, this.#statusProblem)
  }

  /** Stops in reverse; with `engine`, the engine as well, after a checkpoint. Safe without start, and twice. */
  stop(options: { engine: boolean } = { engine: false }): Promise<void> {
    this.#stopped ??= this.#stop(options.engine)
    return this.#stopped
  }

  async #stop(engine: boolean): Promise<void> {
    this.#stopping.abort()
    await this.plugins.stop()
    await this.scheduler.stop()
    // Each step is tried whatever the one before came to: what cannot be stopped must not keep the rest running.
    if (engine) await this.#attempt('the engine was not stopped', () => this.supervisor.stopEngine({ checkpoint: true }))
    await this.#attempt('the supervisor did not stop', () => this.supervisor.stop())
    await this.#attempt('the status page did not stop', async () => this.#status?.stop())
    await this.#attempt('the alerts did not stop', () => this.alerts.stop())
    if (this.#lock === undefined) return
    await this.#attempt('the control socket did not stop', async () => this.#control?.stop())
    await this.#attempt('agent.json was not removed', async () => {
      removeDurably(this.paths.agentFile, 'AGENT:STOP')
      removeDurably(this.paths.agentSocket, 'AGENT:STOP')
    })
    this.#lock.release()
  }

  async #attempt(failure: string, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      this.log.error({ err: error }, `${failure}: ${messageOf(error)}`)
    }
  }

  #engineIs(state: 'up' | 'down'): void {
    const connection = this.supervisor.current
    if (state === 'up' && connection !== null) {
      this.#consumers.durable.connected(connection.hello)
      connection.onDurable((seq) => {
        this.#consumers.durable.advance(seq)
        this.plugins.durableIs(seq)
      })
      // It may have been adopted, with the users of an earlier configuration.
      void this.updateUsers()
    }
    this.plugins.engineIs(state)
  }

  /** Gives the engine the users of the configuration. False when they count only from its next start on. Never throws. */
  async updateUsers(): Promise<boolean> {
    try {
      const applied = await this.supervisor.current?.users(this.config.engine.auth)
      if (applied === false) this.log.warn('engine.auth: its methods have changed, which counts from the engine’s next start on')
      return applied !== false
    } catch (error) {
      this.log.warn(`the engine did not take the users of engine.auth: ${messageOf(error)}`)
      return false
    }
  }

  /** The journal alone can't bring the database back any more: from now on a snapshot has to. */
  async #snapshotAtOnce(): Promise<void> {
    const { engine, paths, clock, log } = this
    const { signal } = this.#stopping
    try {
      await engine.checkpoint(signal)
      const taken = await takeSnapshot({ engine, paths, clock, signal })
      log.info({ file: taken.file }, `took a snapshot at seq ${taken.seq}, because the journal was damaged`)
    } catch (error) {
      if (signal.aborted) return
      this.alerts.raise('agent', `the journal was damaged, and no new snapshot could be taken: ${messageOf(error)}`, {
        hint: 'daemonguard snapshot',
      })
    }
  }

  /** A page that cannot be served is a fault of the page alone: said, and tried again. */
  async #serveStatus(): Promise<void> {
    const { signal } = this.#stopping
    const log = this.log.child({ part: 'status' })
    try {
      const served = await serveStatus({ listen: this.config.agent.listen, report: () => this.status(), log })
      if (signal.aborted) return await served.stop()
      this.#status = served
      this.#statusProblem = null
      this.#writeAgentFile()
    } catch (error) {
      const problem = error instanceof DaemonGuardError ? `${error.message} (${error.where})` : messageOf(error)
      if (this.#statusProblem === null) log.error(problem)
      this.#statusProblem = problem
      void this.clock.sleep(statusRetryMs, signal).then(() => (signal.aborted ? undefined : this.#serveStatus()))
    }
  }

  #writeAgentFile(): void {
    const { startedAt, paths } = this
    const facts = {
      pid: process.pid,
      startedAt,
      version,
      statusPage: this.statusPage,
      controlSocket: paths.agentSocket,
      config: this.config.file,
    }
    try {
      writeOnFullDisk(paths.agentFile, `${JSON.stringify(facts, null, 2)}\n`, 'AGENT:FACTS')
    } catch (error) {
      // Commands find the agent by its socket.
      if (!isDiskFull(error)) throw error
      this.log.warn(`${paths.agentFile} could not be written: ${messageOf(error)}`)
    }
  }
}

/** The supervisor's engine as plugins see it. */
function engineOf(supervisor: Supervisor): EngineControl {
  const current = () => {
    const connection = supervisor.current
    if (connection !== null) return connection
    const { state, problem, hint } = supervisor.status()
    throw new DaemonGuardError(`no engine serves now (${problem ?? state})`, { hint: hint ?? 'daemonguard status' })
  }
  return {
    status: async (signal) => current().status(signal),
    checkpoint: async (signal) => current().checkpoint(signal),
    hold: async (signal) => current().hold(signal),
    probe: async (signal) => current().probe(signal),
  }
}
