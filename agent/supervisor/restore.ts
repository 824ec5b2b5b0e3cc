/**
 * The snapshot step of the recovery ladder: the database file (and whatever DuckDB left beside it) goes to quarantine, the
 * newest snapshot that still verifies takes its place. The engine then replays the journal from the snapshot's seq. Needs the engine to be ended.
 */

import path from 'node:path'
import { ensureDirectory } from '../disk.ts'
import { messageOf } from '../errors.ts'
import { listSegments } from '../journal/segment.ts'
import type { Incident } from '../plugin.ts'
import { type Quarantined, quarantine, tailOf } from '../quarantine.ts'

/** A snapshot as the restore step needs it. */
export interface SnapshotCandidate {
  readonly file: string
  /** Its manifest and whatever else belongs to it. */
  readonly companions: readonly string[]
  readonly seq: number
}

/** Where snapshots come from (agent/snapshots.ts). */
export interface SnapshotSource {
  /** Newest (highest seq) first; [] when there is none. */
  list(): Promise<SnapshotCandidate[]> | SnapshotCandidate[]
  /** Why it may not be used, or null when every checksum holds. */
  verify(snapshot: SnapshotCandidate): Promise<string | null>
  /** Copies it to `target`, durably; `target` does not exist. */
  restore(snapshot: SnapshotCandidate, target: string): Promise<void>
}

export interface Replacement {
  readonly actions: string[]
  /** What is lost already, before the journal is replayed. */
  readonly loss: Incident['loss']
  /** The snapshot now in place, or null: the engine starts on no file. */
  readonly snapshot: SnapshotCandidate | null
  readonly quarantined: readonly Quarantined[]
}

/** Everything that belongs to one DuckDB file (duckdb.md 2: checkpoint and recovery leave names of their own). */
export function databaseFiles(database: string): string[] {
  return ['', '.wal', '.wal.checkpoint', '.wal.recovery'].map((suffix) => `${database}${suffix}`)
}

/**
 * Replaces the database file. `tried` holds the snapshot files that already failed in this outage; the one now used is added.
 * `adopted`: the database began as an existing file, so the journal alone does not make it whole.
 * Throws when a snapshot cannot be copied into place (a full disk): the database file is then missing, and this must be called again.
 */
export async function replaceDatabase(options: {
  paths: { database: string; journal: string; quarantine: string; engineLog: string }
  snapshots: SnapshotSource
  reason: string
  evidence: Record<string, unknown>
  tried: Set<string>
  adopted: boolean
  time: number
}): Promise<Replacement> {
  const { paths, snapshots, reason, evidence, tried, time } = options
  const actions: string[] = []
  const moved: Quarantined[] = []
  const toQuarantine = (cause: string, files: readonly string[], why: string) => {
    const result = quarantine({ paths, cause, files, reason: why, evidence, logTail: tailOf(paths.engineLog), time })
    moved.push(result)
    return result
  }
  const database = toQuarantine('database-corrupt', databaseFiles(paths.database), reason)
  actions.push(`moved ${database.files.length === 0 ? 'nothing (there was no database file)' : paths.database} to ${database.directory}`)
  for (const snapshot of await snapshots.list()) {
    if (tried.has(snapshot.file)) continue
    tried.add(snapshot.file)
    const problem = await usable(snapshots, snapshot, paths.database).catch((error) => {
      tried.delete(snapshot.file)
      throw error
    })
    if (problem === null) {
      actions.push(`restored ${path.basename(snapshot.file)} (seq ${snapshot.seq})`)
      return { actions, loss: missingBefore(firstSeqOf(paths.journal), snapshot.seq + 1), snapshot, quarantined: moved }
    }
    const bad = toQuarantine('snapshot-corrupt', [snapshot.file, ...snapshot.companions], problem)
    actions.push(`snapshot ${path.basename(snapshot.file)} is damaged (${problem}): moved to ${bad.directory}`)
  }
  const first = firstSeqOf(paths.journal)
  const unknown = first === undefined || options.adopted
  actions.push(
    `no usable snapshot: starting on an empty database, replaying the journal ${first === undefined ? '(which is empty)' : `from seq ${first}`}`,
  )
  return { actions, loss: unknown ? 'unknown' : missingBefore(first, 1), snapshot: null, quarantined: moved }
}

/** Verifies and restores. Why it is damaged, or null once it is in place. Throws when the copy fails: that is the disk, not the snapshot. */
async function usable(snapshots: SnapshotSource, snapshot: SnapshotCandidate, target: string): Promise<string | null> {
  let problem: string | null
  try {
    problem = await snapshots.verify(snapshot)
  } catch (error) {
    problem = `it cannot be read: ${messageOf(error)}`
  }
  if (problem !== null) return problem
  ensureDirectory(path.dirname(target), 'RESTORE:DIRECTORY')
  await snapshots.restore(snapshot, target)
  return null
}

/** First seq that the journal still has, or undefined for an empty one. */
function firstSeqOf(journal: string): number | undefined {
  return listSegments(journal)[0]?.firstSeq
}

/** Seqs from `needed` on that the journal no longer has. Of an empty journal nothing is known to be missing. */
function missingBefore(first: number | undefined, needed: number): Incident['loss'] {
  if (first === undefined || first <= needed) return 0
  return { firstSeq: needed, lastSeq: first - 1, tables: [] }
}
