/** What all sessions share. */

import type { Analysts } from './analysts.ts'
import type { BlockContext } from './block.ts'
import type { Callers } from './callers.ts'
import type { Database } from './duckdb.ts'
import type { KeptSettings } from './kept-settings.ts'
import type { PreparedInserts } from './prepared-inserts.ts'
import type { Presence } from './presence.ts'
import type { StatementSlots } from './slots.ts'
import type { WriteBuffer } from './write-buffer.ts'

export interface SessionContext extends BlockContext {
  readonly database: Database
  readonly writeBuffer: WriteBuffer
  readonly inserts: PreparedInserts
  readonly kept: KeptSettings
  /** Clients may read files. */
  readonly externalAccess: boolean
  readonly slots: StatementSlots
  readonly analysts: Analysts
  readonly callers: Callers
  /** Every session's. */
  readonly presences: Set<Presence>
  /** Milliseconds; 0: none. */
  readonly idleInTransactionTimeout: number
  /** One write and one read in the engine's own schema, down to an fsync. */
  probe(): Promise<void>
  /** The instance can no longer be trusted: the process ends. */
  suspect(reason: string): never
  /** The database file is damaged: the process ends, the agent restores. */
  corrupt(reason: string): never
}
