/**
 * The plugin contract: what a plugin gets (a context already labelled with its name) and what it gives back.
 * Validation does no I/O; network belongs in start(). Plugins say what happened, the agent decides the policy.
 */

import type { z } from 'zod'
import type { Clock } from './clock.ts'
import type { Held } from './duckfile/reader.ts'
import type { Transaction } from './journal/types.ts'
import type { Log } from './log.ts'

/** What the engine tells about itself over the control socket. */
export interface EngineStatus {
  pid: number
  /** When it began its work, milliseconds since the Unix epoch: a spare has been a process for longer. */
  startedAt: number
  databaseId: string
  databasePath: string
  /** Last seq that is durable in the journal. */
  durableSeq: number
  /** Seq that the DuckDB file holds (its last checkpoint). */
  watermark: number
  /** Journal epoch: rises when recovery had to cut or skip. */
  epoch: number
  sessions: number
  /** Transactions since the last checkpoint. */
  sinceCheckpoint: number
  lastCheckpointAt: number | null
  /** Transactions between checkpoints, where SQL has set them (PRAGMA wal_autocheckpoint); else null. */
  checkpointEvery: number | null
  /** Why commits are refused now (a full disk), or null. */
  readOnlyReason: string | null
  memoryBytes: number
  /** Who hands out its memory, `jemalloc 5.3.0`; null: the C library, or another. */
  allocator: string | null
  /** Transactions that were ended because they stood in the way of a checkpoint for too long, since the process started. */
  blockersEnded: number
  /** The last of them; `at`: milliseconds since the Unix epoch. */
  lastBlockerEnded: {
    readonly at: number
    readonly user: string
    readonly application: string
    /** What the client knows as its backend's pid. */
    readonly pid: number
    readonly code: '25P03' | '40001'
    readonly why: string
  } | null
  /** What keeps the engine to its cores and its memory, in words. */
  isolation: { readonly cpu: string; readonly memory: string }
}

/** A lease under which the engine starts no checkpoint. Renewed by the holder every few seconds; ends with its connection. */
export interface Hold extends Held {
  /** The watermark of the file while it is held, and the header iteration its checkpoint wrote. */
  readonly watermark: number
  readonly iteration: number
  /** True once the lease is gone (the engine ended): what was read since then is not one consistent picture. */
  readonly lost: boolean
  release(): Promise<void>
}

/** The engine as plugins see it. Every call rejects when no engine is there. */
export interface EngineControl {
  status(signal?: AbortSignal): Promise<EngineStatus>
  /** Checkpoints now; resolves with the new watermark. Rejects, harmlessly, when open transactions stand in the way. */
  checkpoint(signal?: AbortSignal): Promise<{ watermark: number }>
  /** Keeps checkpoints away until it is released. */
  hold(signal?: AbortSignal): Promise<Hold>
  /** One write and one read the way a client goes, down to an fsync of the journal. Takes no seq. Resolves with milliseconds. */
  probe(signal?: AbortSignal): Promise<number>
}

/** The supervisor as plugins see it. */
export interface EngineSupervisor {
  /** Ends the engine (if it still lives) and starts a new one, which recovers by itself. */
  restart(reason: string): Promise<void>
  /** Quarantines the database file, puts the newest verified snapshot in its place, starts the engine, which replays the journal. */
  restoreDatabase(reason: string, evidence: Record<string, unknown>): Promise<void>
  /** Failed restarts inside the window after which the supervisor stops; beyond as many deaths its pauses grow. */
  configure(limits: { maxRestarts?: number; restartWindowMs?: number }): void
  /** Tells that the engine has answered a probe: a restart has succeeded. */
  probed(): void
}

export interface Incident {
  id: string
  /** Milliseconds since the Unix epoch. */
  openedAt: number
  closedAt: number | null
  severity: 'info' | 'warning' | 'critical'
  /** Short cause in kebab case: `engine-died`, `database-corrupt`, `journal-corrupt`, … */
  cause: string
  message: string
  /** What was done about it, in order. */
  actions: string[]
  /** Measured data loss: 0, or the exact ranges; 'unknown' is never reported as clean. */
  loss: 0 | 'unknown' | { firstSeq: number; lastSeq: number; tables: string[] }
  /** Milliseconds during which clients were not served, when measured. */
  downtimeMs: number | null
  evidence: Record<string, unknown>
  /** The command to type next, when the machine cannot go on alone. */
  hint: string | null
}

export interface IncidentLog {
  open(
    incident: Pick<Incident, 'severity' | 'cause' | 'message'> & Partial<Pick<Incident, 'actions' | 'loss' | 'evidence' | 'hint'>>,
  ): Incident
  /** Adds to and closes it. */
  close(incident: Incident, end?: Partial<Pick<Incident, 'actions' | 'loss' | 'downtimeMs' | 'evidence'>>): void
}

/**
 * The journal as one consumer sees it: durable transactions in order, and a durable cursor.
 * The cursor moves only by `confirm`, after the far side has confirmed.
 */
export interface JournalConsumer {
  /** Last confirmed seq; 0 before the first. */
  readonly confirmed: number
  /** Last seq that is durable in the journal and may be read, as far as the agent knows. */
  readonly durable: number
  /** Oldest seq that the journal still has; `durable + 1` when it has none. */
  readonly oldest: number
  readonly databaseId: string
  /**
   * The next transactions after the read position, in order. Waits until there is at least one, then goes on collecting until
   * `maxRows` rows or `maxDelayMs`. Resolves with [] when the signal aborts. Seqs that were lost to corruption are skipped: see `gaps`.
   */
  read(options: { maxRows: number; maxDelayMs: number; signal: AbortSignal }): Promise<Transaction[]>
  /** Transactions `first`…`last` again, without moving the read position (a batch to be retried after a crash). */
  readRange(first: number, last: number): AsyncIterable<Transaction>
  /** Moves the cursor, durably (temporary file, fsync, rename, fsync of the directory). */
  confirm(seq: number): Promise<void>
  /** Sets the read position: the next read() starts at `seq + 1`. Does not touch the cursor. */
  seek(seq: number): void
  /** Any JSON that the consumer keeps beside its cursor (the bounds of a batch under way), written as durably. */
  loadState(): unknown
  saveState(state: unknown): Promise<void>
}

export interface PluginContext {
  /** The plugin's name. */
  readonly name: string
  /** `agent.name`: this host in Redis keys and ClickHouse rows. */
  readonly host: string
  readonly log: Log
  readonly clock: Clock
  /** Layout of the data directory, absolute. */
  readonly paths: { data: string; database: string; snapshots: string; quarantine: string; deadLetter: string; journal: string }
  readonly engine: EngineControl
  readonly supervisor: EngineSupervisor
  readonly incidents: IncidentLog
  /** Tells the operator (log, webhook, exec). */
  alert(message: string, details?: Record<string, unknown>): void
  /** A journal cursor under this plugin's name. Only consumers call it; calling it makes retention wait for the cursor. */
  consumer(): JournalConsumer
  /** Runs `tick` on a cron schedule: no overlap; each run ends at `deadlineMs` by its signal. */
  schedule(cron: string, deadlineMs: number, tick: (signal: AbortSignal) => Promise<void>): void
  /** Called when the engine is found dead or has come back. */
  onEngine(listener: (state: 'up' | 'down') => void): void
  /** Called after each fsync of the journal with the last durable seq (coalesced), whichever engine serves. */
  onDurable(listener: (seq: number) => void): void
}

export interface PluginHealth {
  healthy: boolean
  /** One line for an operator. */
  summary: string
  /** Facts for /api/status and /metrics (numbers become gauges). */
  facts: Record<string, string | number | boolean | null>
}

export interface RunningPlugin {
  health(): PluginHealth
  /** Ends all work within a few seconds. Safe twice. */
  stop(): Promise<void>
}

export interface Plugin<Schema extends z.ZodType = z.ZodType> {
  readonly name: string
  /** Options as in `plugins.<name>` of the config; parsing fills the defaults. */
  readonly options: Schema
  start(context: PluginContext, options: z.output<Schema>): Promise<RunningPlugin>
}

/** Types a plugin's options; does nothing else. */
export function definePlugin<Schema extends z.ZodType>(plugin: Plugin<Schema>): Plugin<Schema> {
  return plugin
}

export * from './duckfile/scan.ts'
export * from './journal/retention.ts'
export * from './snapshots.ts'
