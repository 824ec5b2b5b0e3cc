/**
 * The control socket between agent and engine: newline-delimited JSON over a Unix socket of mode 0600 in the data directory.
 * The engine speaks first: {"hello": EngineHello}. Requests {"id", "method", "params"} are answered by {"id", "result"} or
 * {"id", "error": {"message", "code"}}. After each journal fsync the engine pushes {"durable": seq} (coalesced).
 * The hello's first fields and `shutdown` stay as they are in every version: with them an agent replaces an engine that it cannot talk to.
 */

import type { Config } from './config.ts'
import type { EngineStatus } from './plugin.ts'
import type { OpenFile } from './windows/open-file.ts'

/** What one recovery did and found. Kept in the hello until the engine ends, so that every agent that comes learns of it. */
export interface RecoveryReport {
  /** Seq of the file that was opened. */
  watermark: number
  /** Transactions replayed from the journal. */
  replayed: number
  durationMs: number
  /** Bytes cut from the journal's end: a batch that was never acknowledged. */
  cutBytes: number
  quarantined: { file: string; reason: string }[]
  /** Ranges that could not be read; `tables` is empty where they cannot be known. */
  gaps: { firstSeq: number; lastSeq: number; tables: string[] }[]
  /** Transactions that DuckDB refused to replay. */
  refused: { seq: number; error: string }[]
  /** The one that was on its way when the process before died (agent/journal/doubt.ts), if it does not count; its seq is given anew. `kept`: the file that its bytes are in. */
  withdrawn?: { seq: number; error: string; kept: string | null }
}

/** Goes up whenever an agent of one version cannot look after an engine of another. */
export const controlProtocol = 1

export interface EngineHello {
  /** `controlProtocol` of the engine's version. */
  protocol: number
  pid: number
  /** Process start, milliseconds since the Unix epoch. */
  startedAt: number
  /** Random, new at each start; also in engine.json. */
  nonce: string
  version: string
  databaseId: string
  databasePath: string
  epoch: number
  durableSeq: number
  watermark: number
  listen: { host: string; port: number }
  /** Path of the Postgres Unix socket, or null. */
  socket: string | null
  /** Whether clients over TCP may encrypt. */
  tls: boolean
  /** With this `agentUser` logs in, whatever `engine.auth` says. Told here only: the socket is the engine's user's own. */
  agentPassword: string
  recovery: RecoveryReport
}

/** The user whose name the agent gives over the Postgres wire; nobody else can have it. */
export const agentUser = 'daemonguard-agent'

/** Methods of the control socket: parameters and results. */
export interface ControlMethods {
  status: { params: Record<string, never>; result: EngineStatus }
  checkpoint: { params: Record<string, never>; result: { watermark: number } }
  /** Takes or renews the connection's hold; it ends after `leaseMs` without renewal, or with the connection. */
  hold: { params: Record<string, never>; result: { watermark: number; iteration: number; leaseMs: number; openFile?: OpenFile } }
  /** Takes up other users of `engine.auth`; not applied when its methods differ from the engine's: they count from its next start on. */
  users: { params: { auth: Config['engine']['auth'] }; result: { applied: boolean } }
  release: { params: Record<string, never>; result: Record<string, never> }
  shutdown: { params: { checkpoint: boolean }; result: Record<string, never> }
}

export const holdLeaseMs = 10_000
