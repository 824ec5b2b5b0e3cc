/**
 * Finds the engine of this data directory and proves that it is the one: engine.json, the hello over the control socket, the
 * process and its start time must agree, and it must serve the configured database. Never by pid alone. An engine that a full disk has
 * kept from writing its engine.json is known by the lock of this data directory, which it holds.
 */

import fs from 'node:fs'
import path from 'node:path'
import type { Config } from '../config.ts'
import type { EngineHello } from '../control-protocol.ts'
import type { EngineControl } from '../plugin.ts'
import { isAlive, isSame, lockHolder, type ProcessIdentity, startedAt } from './process.ts'

/** A connection to an engine: what the supervisor needs of EngineClient (agent/engine-client.ts). */
export interface EngineConnection extends EngineControl {
  readonly hello: EngineHello
  readonly closed: boolean
  onDurable(listener: (seq: number) => void): void
  onClose(listener: () => void): void
  users(auth: Config['engine']['auth']): Promise<boolean>
  shutdown(options: { checkpoint: boolean }): Promise<void>
  close(): void
}

export type Connect = (controlSocket: string, options?: { timeoutMs?: number }) => Promise<EngineConnection>

/** engine.json, as far as adoption needs it. */
export interface EngineFile {
  pid: number
  startedAt: number
  nonce: string
}

export type Found =
  /** Nobody serves and nobody is in the way. */
  | { readonly kind: 'none'; readonly file: EngineFile | undefined }
  | { readonly kind: 'engine'; readonly connection: EngineConnection }
  /** A process is in the way. `ours`: it is certainly the engine of this data directory, and may be killed if it hangs. */
  | { readonly kind: 'blocked'; readonly pid: number; readonly ours: boolean; readonly why: string }

/** Undefined when there is none or it cannot be read (the engine writes it atomically; whatever else it is, it is no proof). */
export function readEngineFile(file: string): EngineFile | undefined {
  try {
    const { pid, startedAt: started, nonce } = JSON.parse(fs.readFileSync(file, 'utf8')) as EngineFile
    return Number.isSafeInteger(pid) && pid > 0 && typeof started === 'number' && typeof nonce === 'string'
      ? { pid, startedAt: started, nonce }
      : undefined
  } catch {
    return undefined
  }
}

/** Looks for the running engine. `known`: the identity under which this supervisor last saw its engine, from its state file. */
export async function findEngine(options: {
  paths: { engineFile: string; engineLock: string; controlSocket: string; database: string }
  connect: Connect
  known: ProcessIdentity | null
}): Promise<Found> {
  const { paths, connect, known } = options
  const file = readEngineFile(paths.engineFile)
  if (file === undefined || !isAlive(file.pid)) {
    const connection = await withoutFile(options)
    return connection === undefined ? { kind: 'none', file } : { kind: 'engine', connection }
  }
  let connection: EngineConnection
  try {
    connection = await connect(paths.controlSocket, { timeoutMs: 1000 })
  } catch {
    if (!isAlive(file.pid)) return { kind: 'none', file }
    if (isItsProcess(file, known)) return { kind: 'blocked', pid: file.pid, ours: true, why: 'it does not answer on its control socket' }
    // Another program has the pid by now; the engine is gone.
    return { kind: 'none', file }
  }
  const disagreement = disagreementOf(connection.hello, file, paths.database)
  if (disagreement === undefined) return { kind: 'engine', connection }
  connection.close()
  const now = readEngineFile(paths.engineFile)
  // It was replaced between the two looks: the caller looks again.
  if (now?.nonce !== file.nonce) return { kind: 'none', file: now }
  return { kind: 'blocked', pid: connection.hello.pid, ours: false, why: disagreement }
}

/** The engine that answers and holds the lock, but is not named by engine.json. */
async function withoutFile({ paths, connect }: Parameters<typeof findEngine>[0]): Promise<EngineConnection | undefined> {
  const holder = lockHolder(paths.engineLock)
  if (holder === undefined) return undefined
  const connection = await connect(paths.controlSocket, { timeoutMs: 1000 }).catch(() => undefined)
  if (connection?.hello.pid === holder && path.resolve(connection.hello.databasePath) === path.resolve(paths.database)) return connection
  connection?.close()
  return undefined
}

/** Why a hello does not prove the engine that engine.json names, or undefined when it does. */
export function disagreementOf(hello: EngineHello, file: EngineFile, database: string): string | undefined {
  if (hello.nonce !== file.nonce || hello.pid !== file.pid || hello.startedAt !== file.startedAt)
    return 'engine.json names another process than the one that answers'
  if (path.resolve(hello.databasePath) !== path.resolve(database)) return `it serves another database: ${hello.databasePath}`
  return undefined
}

/** Seconds-precise on both sides, and the wall clock may have been nudged. */
const startTolerance = 5000

/** Whether the living process with engine.json's pid is the one that wrote it. */
function isItsProcess(file: EngineFile, known: ProcessIdentity | null): boolean {
  if (known?.pid === file.pid && known.startTicks !== null) return isSame(known)
  const started = startedAt(file.pid)
  return started !== undefined && Math.abs(started - file.startedAt) <= startTolerance
}
