/** What the shipper keeps beside its cursor, as durably: the batch under way, rows refused in it, and syncs that failed. */

import type { Defaults } from './defaults.ts'

/** A part of the batch's one transaction, which has too many rows for one batch. */
export interface Slice {
  /** Its first row, and the one after its last: of all rows of the transaction, from 0. */
  readonly from: number
  readonly to: number
  /** Rows that its earlier slices have sent, by target. */
  readonly sent: Readonly<Record<string, number>>
}

export interface BatchBounds {
  readonly first: number
  readonly last: number
  /** Rows per INSERT; kept, since another number would cut the batch elsewhere. */
  readonly rowsPerInsert: number
  readonly history: boolean
  /** Rows that went to the dead letters, by target: their indexes in the part. */
  readonly refused: Readonly<Record<string, readonly number[]>>
  readonly slice?: Slice
}

export interface FailedSync {
  readonly first: number
  readonly last: number
  readonly tables: readonly string[]
  readonly rows: number
  /** Milliseconds since the Unix epoch. */
  readonly failedAt: number
  readonly attempts: number
  readonly error: string
  /** When it got through after all, or null. */
  readonly resolvedAt: number | null
}

export interface ShipperState {
  readonly version: 1
  readonly batch: BatchBounds | null
  readonly defaults: Defaults
  /** The newest last. */
  readonly failedSyncs: readonly FailedSync[]
  /** Up to this seq the server had rows of this host before the cursor began (a lost cursor); null: not asked yet. */
  readonly resumeBelow: number | null
}

/** How many failed syncs are remembered. */
const remembered = 100

/** The state as `loadState` gives it, or a new one. Throws on a version that is not known. */
export function parseState(json: unknown): ShipperState {
  if (json === null || json === undefined) return { version: 1, batch: null, defaults: {}, failedSyncs: [], resumeBelow: null }
  const state = json as ShipperState
  if (state.version !== 1) throw new Error(`the shipper's state has version ${String(state.version)}; this program knows version 1`)
  return state
}

/** Adds a failed sync, or renews that of the same batch. */
export function withFailedSync(state: ShipperState, sync: FailedSync): ShipperState {
  const others = state.failedSyncs.filter(({ first, last }) => first !== sync.first || last !== sync.last)
  return { ...state, failedSyncs: [...others, sync].slice(-remembered) }
}
