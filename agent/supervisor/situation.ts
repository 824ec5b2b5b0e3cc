/** What the supervisor's parts share: where things stand, what is remembered, and the ways to say so. */

import fs from 'node:fs'
import path from 'node:path'
import type { Clock } from '../clock.ts'
import { EngineClient } from '../engine-client.ts'
import { DaemonGuardError } from '../errors.ts'
import type { IncidentStore } from '../incidents.ts'
import type { Log } from '../log.ts'
import type { Paths } from '../paths.ts'
import { tailOf } from '../quarantine.ts'
import { selfCommand } from '../runtime.ts'
import { type Connect, type Found, findEngine } from './adopt.ts'
import { RestartCount, type RestartLimits } from './backoff.ts'
import { Outage } from './outage.ts'
import { identify } from './process.ts'
import type { SnapshotSource } from './restore.ts'
import { Spare } from './spare.ts'
import type { EngineProcess } from './spawn.ts'
import type { Obstacle } from './start.ts'
import { loadMemory, type SupervisorMemory, saveMemory } from './state.ts'

export type SupervisorState = 'starting' | 'up' | 'recovering' | 'down' | 'gave-up'

export interface SupervisorStatus {
  state: SupervisorState
  pid: number | null
  /** Another agent had started it. */
  adopted: boolean
  /** Pid of the spare that waits, or null. */
  spare: number | null
  /** When the state began, milliseconds since the Unix epoch. */
  since: number
  /** Deaths inside the restart window, each answered by a restart, and those restarts that failed. */
  restarts: number
  failedRestarts: number
  flapping: boolean
  /** Why there is no engine, or null. */
  problem: string | null
  /** What to type next, when the supervisor cannot go on alone. */
  hint: string | null
  /** How the last engine ended. */
  lastEnding: string | null
}

export interface SupervisorOptions {
  config: { file: string }
  paths: Paths
  log: Log
  clock: Clock
  incidents: IncidentStore
  alert(message: string, details?: Record<string, unknown>): void
  /** Seams for tests. */
  connect?: Connect
  command?: (subcommand: Subcommand) => { command: string; args: string[] }
  /** Whether a spare engine waits for its turn; default: not on Windows, where the job of the agent could end it. */
  spare?: boolean
  snapshots?: (databaseId: string) => SnapshotSource
  /** How long a starting engine may show no sign of work; default 2 minutes. */
  stallMs?: number
}

/** What the supervisor starts. */
export type Subcommand = 'engine' | 'spare' | 'adopt'

export class Situation {
  readonly options: SupervisorOptions
  readonly memory: SupervisorMemory
  readonly count: RestartCount
  readonly outage: Outage
  readonly connect: Connect
  readonly spare: Spare | null
  state: SupervisorState = 'down'
  /** When the state began. */
  since: number
  problem: string | null = null
  hint: string | null = null
  lastEnding: string | null = null
  /** The last process that was started. */
  child: EngineProcess | null = null
  /** What the supervisor waits for to go away. */
  obstacle: Obstacle | null = null
  /** Any start from now on answers a death. */
  restarting = false
  /** The snapshot step in this outage: what it has tried, and whether nothing is left to try. */
  tried = new Set<string>()
  snapshotsEnded = false
  /** The obstacle that the operator has been told of. */
  alertedPid: number | null = null
  /** Resolved when start() need not wait any longer. */
  settled = Promise.withResolvers<void>()

  constructor(options: SupervisorOptions) {
    this.options = options
    this.since = options.clock.now()
    this.memory = loadMemory(options.paths.data, options.log)
    this.count = new RestartCount(this.memory.limits, this.memory.restarts)
    this.outage = new Outage(options.incidents, options.clock, this.memory.outage)
    this.connect = options.connect ?? EngineClient.connect
    const { paths, log, clock } = options
    this.spare =
      (options.spare ?? process.platform !== 'win32')
        ? new Spare({ ...this.command('spare'), cwd: path.resolve(paths.data), logFile: paths.engineLog, log, clock })
        : null
  }

  become(state: SupervisorState, problem: string | null = null, hint: string | null = null): void {
    if (this.state !== state) this.since = this.options.clock.now()
    this.state = state
    this.problem = problem
    this.hint = hint
    if (state === 'up' || state === 'gave-up') this.settled.resolve()
  }

  /** Stops trying. The outage's incident and an alert say what to type next. */
  giveUp(cause: string, message: string, hint: string): void {
    const evidence = { gaveUp: cause, logTail: this.logTail() }
    if (this.outage.id === null) this.outage.open({ severity: 'critical', cause, message, evidence })
    this.outage.note(message, { severity: 'critical', hint, evidence })
    this.become('gave-up', message, hint)
    this.remember()
    this.options.alert(message, { cause, hint, incident: this.outage.id })
  }

  /** The outage is over: every step may be taken again. */
  recovered(): void {
    this.tried.clear()
    this.snapshotsEnded = false
    this.alertedPid = null
  }

  remember(): void {
    this.memory.restarts = this.count.times()
    this.memory.outage = this.outage.id
    saveMemory(this.options.paths.data, this.memory, this.options.log)
  }

  configure(limits: Partial<RestartLimits>): void {
    this.count.limits = { ...this.count.limits, ...limits }
    this.memory.limits = this.count.limits
    this.remember()
  }

  /** Keeps what identifies the process: its pid alone proves nothing later. */
  see(pid: number): void {
    this.memory.engine = identify(pid) ?? null
    this.remember()
  }

  /** From now until it is done, no engine is started before the database file has been replaced: not by a later agent either. */
  planRestore(reason: string, evidence: Record<string, unknown>): void {
    this.restarting = true
    this.memory.restoring = { reason, evidence }
    this.remember()
  }

  find(): Promise<Found> {
    return findEngine({ paths: this.options.paths, connect: this.connect, known: this.memory.engine })
  }

  command(subcommand: Subcommand): { command: string; args: string[] } {
    if (this.options.command !== undefined) return this.options.command(subcommand)
    const { command, args } = selfCommand()
    const words = subcommand === 'spare' ? ['engine', '--spare'] : [subcommand]
    return { command, args: [...args, ...words, '-c', this.options.config.file] }
  }

  /** This data directory's identity, or null before the first start. */
  databaseId(): string | null {
    try {
      const { databaseId } = JSON.parse(fs.readFileSync(this.options.paths.identityFile, 'utf8')) as { databaseId?: unknown }
      return typeof databaseId === 'string' ? databaseId : null
    } catch {
      return null
    }
  }

  logTail(lines?: number): string[] {
    return tailOf(this.options.paths.engineLog, lines)
  }

  logHint(): string {
    return `tail -n 50 ${this.options.paths.engineLog}`
  }

  /** Why no engine serves, as an error. */
  failure(): DaemonGuardError {
    return new DaemonGuardError(this.problem ?? 'no engine serves', { hint: this.hint ?? 'daemonguard status' })
  }
}
