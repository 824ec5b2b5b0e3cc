/** Restores that an operator asks for: which snapshot, and the step itself when no agent runs. */

import path from 'node:path'
import { type Clock, systemClock, waitUntil } from './clock.ts'
import { EngineClient } from './engine-client.ts'
import { DaemonGuardError, messageOf } from './errors.ts'
import { IncidentStore } from './incidents.ts'
import { listSegments } from './journal/segment.ts'
import { acquireLock } from './lock.ts'
import type { Log } from './log.ts'
import type { Paths } from './paths.ts'
import type { Incident } from './plugin.ts'
import { listSnapshots, snapshotSource, type UsableSnapshot, verifySnapshot } from './snapshots.ts'
import { isAlive } from './supervisor/process.ts'
import { replaceDatabase, type SnapshotSource } from './supervisor/restore.ts'
import { prepareDisk } from './windows/disk.ts'

export interface RestoreResult {
  /** The snapshot now in place. */
  snapshot: { file: string; seq: number } | null
  /** What was done, in order. */
  actions: string[]
  loss: Incident['loss']
  /** The engine serves again; false after a restore offline. */
  serving: boolean
}

/** The snapshots as the supervisor's ladder sees them, with the operator's choice in front. */
export class ChosenSnapshots {
  #directory: string
  #file: string | null = null

  constructor(directory: string) {
    this.#directory = directory
  }

  /** The next restore tries this one first; null: the newest, as always. */
  choose(file: string | null): void {
    this.#file = file
  }

  source(databaseId: string): SnapshotSource {
    const source = snapshotSource(this.#directory, databaseId)
    const list = () => {
      const all = source.list()
      return [...all.filter(({ file }) => file === this.#file), ...all.filter(({ file }) => file !== this.#file)]
    }
    return { ...source, list }
  }
}

/**
 * The snapshot that `name` means (its file's name, with or without `.duckdb`, or its seq), or the newest usable one. It is read in whole
 * and verified. Throws when it cannot be used, or when the journal no longer reaches back to it: restoring it would lose data.
 */
export async function pickSnapshot(
  paths: Pick<Paths, 'snapshots' | 'journal'>,
  name: string | undefined,
  signal?: AbortSignal,
): Promise<UsableSnapshot> {
  const all = listSnapshots(paths.snapshots)
  const snapshot =
    name === undefined
      ? all.find(({ usable }) => usable)
      : all.find(({ file, seq }) => [file, path.basename(file), path.basename(file, '.duckdb'), String(seq)].includes(name))
  const hint = 'daemonguard snapshot list'
  if (snapshot === undefined)
    throw new DaemonGuardError(name === undefined ? 'there is no usable snapshot' : `there is no snapshot ${name}`, {
      where: paths.snapshots,
      hint,
    })
  const first = listSegments(paths.journal)[0]?.firstSeq
  if (first !== undefined && first > snapshot.seq + 1) {
    throw new DaemonGuardError(
      `the journal begins at seq ${first}: restoring this snapshot would lose seq ${snapshot.seq + 1} to ${first - 1}`,
      { where: snapshot.file, hint },
    )
  }
  const problem = snapshot.usable ? await verifySnapshot(snapshot, { signal }) : snapshot.reason
  if (!snapshot.usable || problem !== null)
    throw new DaemonGuardError(`the snapshot cannot be used: ${problem}`, { where: snapshot.file, hint })
  return snapshot
}

/** Restores while no agent runs: ends an engine that still serves, replaces the file, and leaves the replay to the next start. */
export async function restoreOffline(paths: Paths, name: string | undefined, log: Log, clock: Clock = systemClock): Promise<RestoreResult> {
  prepareDisk()
  const agentLock = acquireLock(paths.agentLock, 'agent')
  try {
    const snapshot = await pickSnapshot(paths, name)
    await endEngine(paths)
    const engineLock = acquireLock(paths.engineLock, 'engine')
    try {
      const chosen = new ChosenSnapshots(paths.snapshots)
      chosen.choose(snapshot.file)
      const reason = 'an operator asked for it: daemonguard restore'
      const source = chosen.source(snapshot.manifest.databaseId)
      const replaced = await replaceDatabase({
        paths,
        snapshots: source,
        reason,
        evidence: {},
        tried: new Set(),
        adopted: false,
        time: clock.now(),
      })
      await Promise.all(replaced.quarantined.map(({ settled }) => settled))
      const { actions, loss } = replaced
      const incidents = new IncidentStore({ directory: paths.incidents, clock, log })
      incidents.close(
        incidents.open({
          severity: 'warning',
          cause: 'restored-by-command',
          message: `the database file was replaced: ${reason}`,
          actions,
          loss,
        }),
      )
      return {
        snapshot: replaced.snapshot === null ? null : { file: replaced.snapshot.file, seq: replaced.snapshot.seq },
        actions,
        loss,
        serving: false,
      }
    } finally {
      engineLock.release()
    }
  } finally {
    agentLock.release()
  }
}

/** Without a checkpoint: it would write the file that is about to be replaced, and the journal has everything. */
async function endEngine(paths: Paths): Promise<void> {
  const client = await EngineClient.connect(paths.controlSocket).catch(() => undefined)
  if (client === undefined) return
  const { pid } = client.hello
  try {
    await client.shutdown({ checkpoint: false })
  } catch (error) {
    throw new DaemonGuardError(`the engine (pid ${pid}) does not stop: ${messageOf(error)}`, {
      where: paths.engineLog,
      hint: 'daemonguard stop --engine',
    })
  } finally {
    client.close()
  }
  if (await waitUntil(() => !isAlive(pid), { deadline: 60_000, clock: systemClock })) return
  throw new DaemonGuardError(`the engine (pid ${pid}) has not ended`, { where: paths.engineLog, hint: 'daemonguard stop --engine' })
}
