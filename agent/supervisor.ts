/**
 * The supervisor: keeps one engine serving. It adopts the engine that runs or starts one, notices its end at once (the control
 * connection closes), and climbs the recovery ladder: the cause of an ending decides the step, the count of failures only when to stop.
 * Operations run one at a time; stop(), stopEngine() and restoreDatabase() end the one under way.
 *
 *   supervisor/ladder.ts      one attempt, and the step after each ending   supervisor/situation.ts   where things stand
 *   supervisor/start.ts       a process until it serves; obstacles          supervisor/adopt.ts       is it our engine?
 *   supervisor/spawn.ts       the process and its log                       supervisor/endings.ts     how it ended, by name
 *   supervisor/termination.ts ending it                                     supervisor/process.ts     pids, locks
 *   supervisor/backoff.ts     how often, how soon                           supervisor/state.ts       what outlives the agent
 *   supervisor/outage.ts      the incident: loss, downtime                  supervisor/losses.ts      what a recovery report means
 *   supervisor/spare.ts       a process that is started beforehand
 *   supervisor/restore.ts     the snapshot step                             supervisor/takeover.ts    a foreign file or WAL
 */

import { within } from './clock.ts'
import type { EngineHello, RecoveryReport } from './control-protocol.ts'
import { DaemonGuardError, messageOf } from './errors.ts'
import { rotateLog } from './log-file.ts'
import type { EngineSupervisor } from './plugin.ts'
import { whoIs } from './shell.ts'
import type { EngineConnection } from './supervisor/adopt.ts'
import { type RestartLimits, stablePeriodMs } from './supervisor/backoff.ts'
import { gone } from './supervisor/endings.ts'
import { Ladder, type Service } from './supervisor/ladder.ts'
import { describeRecovery, isDamaged, lossOf } from './supervisor/losses.ts'
import { isAlive } from './supervisor/process.ts'
import { Situation, type SupervisorOptions, type SupervisorState, type SupervisorStatus } from './supervisor/situation.ts'
import { adoptedProcess, type EngineProcess } from './supervisor/spawn.ts'
import { endInOrder, killProcess } from './supervisor/termination.ts'

export type { EngineConnection, SupervisorOptions, SupervisorState, SupervisorStatus }

interface Serving {
  readonly connection: EngineConnection
  readonly process: EngineProcess
  readonly restart: boolean
  /** Monotonic time of its first successful probe. */
  probedAt: number | null
}

/** How long a process may outlive its control connection before it counts as hung. */
const dyingMs = 2000

export function createSupervisor(options: SupervisorOptions): Supervisor {
  return new Supervisor(options)
}

export class Supervisor implements EngineSupervisor {
  #situation: Situation
  #ladder: Ladder
  #running = false
  /** An engine shall serve. */
  #wanted = false
  #serving: Serving | null = null
  /** Engines that went away and have not been dealt with. */
  #lost: Serving[] = []
  #tail: Promise<void> = Promise.resolve()
  #abort: AbortController | null = null
  /** The operation that will end with an engine, under way or waiting. */
  #bringing: Promise<void> | null = null
  /** The restore that was asked for and is under way. */
  #restoring: Promise<void> | null = null
  #listeners: ((state: 'up' | 'down') => void)[] = []
  #damageListeners: ((report: RecoveryReport) => void)[] = []

  constructor(options: SupervisorOptions) {
    this.#situation = new Situation(options)
    this.#ladder = new Ladder(this.#situation, (connection) => this.#serve(connection))
  }

  /** The connection to the serving engine, or null. */
  get current(): EngineConnection | null {
    return this.#serving?.connection ?? null
  }

  status(): SupervisorStatus {
    const { count, options, state, since, memory, problem, hint, lastEnding } = this.#situation
    const { deaths, failed } = count.inWindow(options.clock.now())
    return {
      state,
      pid: this.#serving?.process.pid ?? null,
      adopted: this.#serving?.process.adopted ?? false,
      spare: this.#situation.spare?.pid ?? null,
      since,
      restarts: deaths,
      failedRestarts: failed,
      flapping: memory.flapping,
      problem,
      hint,
      lastEnding,
    }
  }

  /** Called when an engine begins to serve, and when it is found dead. */
  onEngine(listener: (state: 'up' | 'down') => void): void {
    this.#listeners.push(listener)
  }

  /** Called once an engine serves whose recovery found the journal damaged: a new snapshot is due at once. */
  onJournalDamage(listener: (report: RecoveryReport) => void): void {
    this.#damageListeners.push(listener)
  }

  configure(limits: Partial<RestartLimits>): void {
    this.#situation.configure(limits)
  }

  /** The engine has answered a probe: it serves. */
  probed(): void {
    if (this.#serving !== null) this.#confirm(this.#serving)
  }

  /**
   * Adopts or starts the engine. Resolves as soon as it serves, or the supervisor has given up, or something stands in the way that
   * only the watchdog or the operator can remove: the agent goes on in each case. Never rejects.
   */
  async start(): Promise<void> {
    if (!this.#running) {
      this.#running = true
      this.#wanted = true
      this.#situation.restarting = false
      this.#situation.settled = Promise.withResolvers()
      this.#situation.options.incidents.closeLeft(this.#situation.outage.id)
      this.#situation.become('starting')
      void this.#bring((signal) => this.#ladder.climb(signal))
    }
    await this.#situation.settled.promise
  }

  /** Ends supervision and leaves the engine alone. Safe without start, and twice. */
  async stop(): Promise<void> {
    if (!this.#running) return
    this.#running = false
    this.#wanted = false
    this.#abort?.abort()
    this.#lost = []
    const serving = this.#serving
    this.#serving = null
    serving?.connection.close()
    await within(this.#tail, 5000, this.#situation.options.clock)
    await this.#situation.spare?.end()
    this.#situation.become('down')
    this.#situation.settled.resolve()
  }

  /**
   * Ends the engine, in order if it listens: checkpoint (when asked for), then exit; else SIGTERM, else SIGKILL, which loses nothing
   * either. It is not started again until start(). Rejects when its process cannot be ended.
   */
  async stopEngine(options: { checkpoint: boolean }): Promise<void> {
    this.#wanted = false
    this.#abort?.abort()
    const { clock, log } = this.#situation.options
    await this.#serial(async () => {
      await this.#situation.spare?.end()
      await this.#endAll((process, connection) => endInOrder(process, connection, { ...options, clock, log }))
      this.#running = false
      this.#situation.become('down', 'stopped by command', 'daemonguard run')
      this.#situation.settled.resolve()
    })
  }

  /** Ends the engine (if it still lives) by SIGKILL and starts a new one. Joins a start that is under way. Rejects when none serves in the end. */
  async restart(reason: string): Promise<void> {
    this.#assertWanted()
    const { state, obstacle } = this.#situation
    if (state === 'gave-up') throw this.#situation.failure()
    if (obstacle !== null) {
      if (!obstacle.ours) throw this.#situation.failure()
      obstacle.kill = reason
    }
    await (this.#bringing ?? this.#bring((signal) => this.#replaceEngine(reason, signal)))
    if (this.#serving === null) throw this.#situation.failure()
  }

  /**
   * See EngineSupervisor. Also a way out of having given up. Joins a restore that is under way: a second one would take the snapshot
   * that is just being put in place for one that has failed. Rejects when no engine serves in the end.
   */
  async restoreDatabase(reason: string, evidence: Record<string, unknown>): Promise<void> {
    this.#assertWanted()
    this.#restoring ??= this.#restore(reason, evidence).finally(() => {
      this.#restoring = null
    })
    await this.#restoring
    if (this.#serving === null) throw this.#situation.failure()
  }

  #restore(reason: string, evidence: Record<string, unknown>): Promise<void> {
    this.#abort?.abort()
    const situation = this.#situation
    return this.#bring(async (signal) => {
      const message = `the database file is damaged: ${reason}`
      situation.outage.open({ severity: 'critical', cause: 'database-corrupt', message, evidence })
      situation.become('recovering', message)
      await this.#endAll((process) => killProcess(process, situation.options.clock))
      situation.count.reset()
      situation.planRestore(reason, evidence)
      await this.#ladder.climb(signal)
    })
  }

  /** One operation at a time. */
  #serial(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const run = this.#tail.then(async () => {
      const abort = new AbortController()
      this.#abort = abort
      try {
        await work(abort.signal)
      } finally {
        if (this.#abort === abort) this.#abort = null
      }
    })
    this.#tail = run.catch(() => {})
    return run
  }

  /** An operation that ends with an engine, unless it gives up or is aborted. Never rejects. */
  #bring(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const run: Promise<void> = this.#serial(async (signal) => {
      if (!this.#wanted) return
      try {
        await work(signal)
      } catch (error) {
        // The steps contain their own failures: this is a fault of ours, or a process that not even SIGKILL ends.
        const { log } = this.#situation.options
        log.error({ err: error }, `the supervisor failed: ${messageOf(error)}`)
        const hint = (error instanceof DaemonGuardError && error.hint) || 'daemonguard stop, then daemonguard run'
        if (this.#serving === null) this.#situation.giveUp('supervisor-failed', `the supervisor cannot go on: ${messageOf(error)}`, hint)
      }
    }).then(() => {
      if (this.#bringing !== run) return
      this.#bringing = null
      // It may have died while the operation was ending.
      if (this.#lost.length > 0) void this.#bring((signal) => this.#recover(signal))
    })
    this.#bringing = run
    return run
  }

  async #replaceEngine(reason: string, signal: AbortSignal): Promise<void> {
    const serving = this.#drop()
    if (serving !== null) {
      const { outage, options } = this.#situation
      outage.open({ severity: 'warning', cause: 'engine-hung', message: `the engine (pid ${serving.process.pid}) is replaced: ${reason}` })
      await killProcess(serving.process, options.clock)
      serving.connection.close()
      if ((await this.#ladder.afterEnding(serving.process.ending ?? gone, this.#serviceOf(serving), signal)) === 'ended') return
    }
    await this.#recover(signal)
  }

  /** Deals with engines that went away, then brings one up. */
  async #recover(signal: AbortSignal): Promise<void> {
    const { log, clock } = this.#situation.options
    for (let lost = this.#lost.shift(); lost !== undefined; lost = this.#lost.shift()) {
      await within(lost.process.ended, dyingMs, clock)
      if (lost.process.ending === null) log.warn({ pid: lost.process.pid }, 'the engine closed its control connection but lives')
      else if ((await this.#ladder.afterEnding(lost.process.ending, this.#serviceOf(lost), signal)) === 'ended') return
    }
    if (this.#serving === null) await this.#ladder.climb(signal)
  }

  #serve(connection: EngineConnection): void {
    const situation = this.#situation
    const { pid, version } = connection.hello
    const closed = new Promise<void>((resolve) => connection.onClose(resolve))
    const process = situation.child?.pid === pid ? situation.child : adoptedProcess(pid, closed)
    const serving: Serving = { connection, process, restart: situation.restarting, probedAt: null }
    this.#serving = serving
    situation.see(pid)
    situation.become('up')
    situation.options.log.info({ pid, version }, process.adopted ? 'adopted the engine' : 'the engine serves')
    void Promise.race([closed, process.ended]).then(() => this.#lose(serving))
    this.#tell('up')
    void this.#firstProbe(serving)
  }

  /** Whether it really serves is known by a probe; one that fails is the watchdog's to judge. */
  async #firstProbe(serving: Serving): Promise<void> {
    try {
      await serving.connection.probe(AbortSignal.timeout(10_000))
      this.#confirm(serving)
    } catch (error) {
      if (this.#serving === serving) this.#situation.options.log.warn(`the engine's first probe failed: ${messageOf(error)}`)
    }
  }

  #confirm(serving: Serving): void {
    if (this.#serving !== serving) return
    const { options, count, memory } = this.#situation
    const now = options.clock.monotonic()
    rotateLog(options.paths.engineLog, options.log)
    if (serving.probedAt === null) {
      serving.probedAt = now
      this.#situation.recovered()
      this.#learn(serving.connection.hello)
      this.#situation.remember()
      if (this.#wanted) this.#situation.spare?.prepare()
    } else if (now - serving.probedAt >= stablePeriodMs && (memory.flapping || count.inWindow(options.clock.now()).deaths > 0)) {
      count.reset()
      memory.flapping = false
      this.#situation.remember()
    }
  }

  /** Closes the outage with what the recovery cost; a damaged journal becomes known even where no outage was open. */
  #learn(hello: EngineHello): void {
    const { memory, outage, options } = this.#situation
    const { recovery } = hello
    const fresh = memory.reported !== hello.nonce
    memory.reported = hello.nonce
    const damaged = fresh && isDamaged(recovery)
    const loss = fresh ? lossOf(recovery) : 0
    const what = describeRecovery(recovery)
    if (damaged) {
      const message = `recovery found damage: ${what}`
      if (outage.id !== null) outage.note(message, { severity: 'critical' })
      else
        options.incidents.close(
          options.incidents.open({ severity: 'critical', cause: 'journal-corrupt', message, loss, evidence: { recovery } }),
        )
      options.alert(message, { loss, recovery })
    }
    outage.end(`the engine serves again (pid ${hello.pid}): ${what}`, { loss, evidence: { recovery } })
    if (damaged) for (const listener of this.#damageListeners) this.#contain(() => listener(recovery))
  }

  #lose(serving: Serving): void {
    if (this.#serving !== serving) return
    this.#drop()
    this.#lost.push(serving)
    if (this.#bringing === null && this.#wanted) void this.#bring((signal) => this.#recover(signal))
  }

  /** The engine counts as gone from now on. */
  #drop(): Serving | null {
    const serving = this.#serving
    if (serving === null) return null
    this.#serving = null
    this.#situation.become(this.#wanted ? 'recovering' : 'down')
    this.#tell('down')
    return serving
  }

  #serviceOf(serving: Serving): Service {
    const servedMs = serving.probedAt === null ? null : this.#situation.options.clock.monotonic() - serving.probedAt
    return { pid: serving.process.pid, restart: serving.restart, servedMs }
  }

  /** Ends every process that may be this data directory's engine. Throws when one is in the way that is not provably it. */
  async #endAll(how: (process: EngineProcess, connection: EngineConnection | null) => Promise<void>): Promise<void> {
    const serving = this.#drop()
    const { child, options } = this.#situation
    const others = [...this.#lost.splice(0).map(({ process }) => process), ...(child === null ? [] : [child])]
    if (serving !== null) {
      await how(serving.process, serving.connection)
      serving.connection.close()
    } else {
      const found = await this.#situation.find()
      if (found.kind === 'engine') {
        const { connection } = found
        const closed = new Promise<void>((resolve) => connection.onClose(resolve))
        const own = others.find((process) => process.pid === connection.hello.pid)
        await how(own ?? adoptedProcess(connection.hello.pid, closed), connection)
        connection.close()
      } else if (found.kind === 'blocked' && isAlive(found.pid)) {
        if (!found.ours) throw new DaemonGuardError(`process ${found.pid} is in the way: ${found.why}`, { hint: `${whoIs(found.pid)}` })
        await killProcess(
          others.find((process) => process.pid === found.pid) ?? adoptedProcess(found.pid, Promise.resolve()),
          options.clock,
        )
      }
    }
    for (const process of others) if (process.ending === null) await how(process, null)
  }

  #tell(state: 'up' | 'down'): void {
    for (const listener of this.#listeners) this.#contain(() => listener(state))
  }

  /** A listener's fault is not the engine's. */
  #contain(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#situation.options.log.error({ err: error }, `a listener failed: ${messageOf(error)}`)
    }
  }

  #assertWanted(): void {
    if (!this.#wanted) throw new DaemonGuardError('the engine is not supervised now', { hint: 'daemonguard status' })
  }
}
