/**
 * Snapshots: verified copies of the database file at a checkpoint, from which a damaged database is restored.
 *
 *   snapshots/20261123T084500Z-5000.duckdb        the copy; UTC time and seq in its name
 *   snapshots/20261123T084500Z-5000.duckdb.json   its manifest, written last: a copy without one was never completed
 *
 * The manifest (JSON): version 1, databaseId, seq, iteration (of the file's header), bytes, sha256, createdAt (ISO), verified true.
 * Nothing is believed of a snapshot but what its manifest says and its bytes confirm, and before a restore both are checked again.
 * Only the agent process takes snapshots: the engine would lose its file lock (agent/duckfile/reader.ts).
 */

import fs from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import type { Clock } from './clock.ts'
import { ensureDirectory, freeBytes, removeDurably, writeAtomic } from './disk.ts'
import { type CopyOptions, type CopyResult, copyFile, digestFile, UnexpectedContentError } from './duckfile/copy.ts'
import { DamagedFileError, MovedFileError, type ReadOptions, UnreadableFileError } from './duckfile/reader.ts'
import { DaemonGuardError, ExitCode, messageOf } from './errors.ts'
import { removeLeftovers } from './leftovers.ts'
import type { EngineControl } from './plugin.ts'
import { freeSpace } from './shell.ts'
import { step } from './step.ts'

const manifestSchema = z.object({
  version: z.literal(1),
  databaseId: z.string().min(1),
  seq: z.int().nonnegative(),
  iteration: z.int().nonnegative(),
  bytes: z.int().positive(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  createdAt: z.iso.datetime(),
  verified: z.literal(true),
})

export type SnapshotManifest = z.output<typeof manifestSchema>

interface SnapshotFile {
  /** Absolute. */
  readonly file: string
  /** What belongs to it besides: its manifest. */
  readonly companions: readonly string[]
  /** From its name. */
  readonly seq: number
  /** From its name, milliseconds since the Unix epoch. */
  readonly createdAt: number
}
export type UsableSnapshot = SnapshotFile & { readonly usable: true; readonly manifest: SnapshotManifest }
/** `foreign`: it may well be good, for another database. */
export type UnusableSnapshot = SnapshotFile & { readonly usable: false; readonly reason: string; readonly foreign: boolean }
export type Snapshot = UsableSnapshot | UnusableSnapshot

export interface SnapshotOptions extends ReadOptions {
  clock: Clock
  /** Bytes that must stay free on the disk besides the copy: the engine lives there too. Default 256 MiB. */
  reserveBytes?: number
}

const defaultReserve = 256 * 1024 * 1024
const namePattern = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-(\d+)\.duckdb$/

/**
 * Copies the engine's database file while checkpoints are held. Throws DamagedFileError when the file is damaged (a finding, not a
 * failure of the snapshot), MovedFileError when the hold did not last, UnexpectedContentError when the file's header is not the one that
 * the engine's last checkpoint wrote.
 */
export async function takeSnapshot(
  options: SnapshotOptions & { engine: EngineControl; paths: { database: string; snapshots: string } },
): Promise<UsableSnapshot> {
  const { engine, paths, signal } = options
  const { databaseId } = await engine.status(signal)
  step('SNAPSHOT:HOLD')
  const hold = await engine.hold(signal)
  try {
    return await store({
      ...options,
      source: paths.database,
      directory: paths.snapshots,
      databaseId,
      seq: hold.watermark,
      iteration: hold.iteration,
      held: hold,
    })
  } catch (error) {
    // The engine has ended meanwhile: what was read may be a file that recovery has long moved away.
    if (error instanceof DamagedFileError && hold.lost)
      throw new MovedFileError('the engine ended during the copy', { where: paths.database, cause: error })
    throw error
  } finally {
    // If the engine is gone, so is the hold; that the headers did not change is what counts.
    step('SNAPSHOT:RELEASE')
    await hold.release().catch(() => {})
  }
}

/** Snapshots a file that no engine has open. Throws as takeSnapshot does. */
export function snapshotFile(
  options: SnapshotOptions & { source: string; directory: string; databaseId: string; seq: number },
): Promise<UsableSnapshot> {
  return store(options)
}

async function store(
  options: SnapshotOptions & { source: string; directory: string; databaseId: string; seq: number; iteration?: number },
): Promise<UsableSnapshot> {
  const { source, directory, databaseId, seq, iteration, clock } = options
  ensureDirectory(directory, 'SNAPSHOT:DIRECTORY')
  const needed = (fs.statSync(source, { throwIfNoEntry: false })?.size ?? 0) + (options.reserveBytes ?? defaultReserve)
  requireSpace(directory, needed, 'a snapshot')
  let createdAt = Math.floor(clock.now() / 1000) * 1000
  let file = path.join(directory, snapshotName(createdAt, seq))
  while (fs.existsSync(file) || fs.existsSync(manifestOf(file))) {
    createdAt += 1000
    file = path.join(directory, snapshotName(createdAt, seq))
  }
  const { maxBytesPerSecond, signal, held } = options
  const copy: CopyOptions = { maxBytesPerSecond, signal, held, clock }
  const copied: CopyResult = await copyFile(source, file, 'SNAPSHOT:COPY', { ...copy, expect: { iteration } })
  const manifest: SnapshotManifest = {
    version: 1,
    databaseId,
    seq,
    ...copied,
    createdAt: new Date(createdAt).toISOString(),
    verified: true,
  }
  writeAtomic(manifestOf(file), `${JSON.stringify(manifest, null, 2)}\n`, 'SNAPSHOT:MANIFEST')
  return { file, companions: [manifestOf(file)], seq, createdAt, usable: true, manifest }
}

/** The snapshots of a directory, newest (highest seq) first; of a `databaseId`, others are listed as unusable. Reads manifests, not copies. */
export function listSnapshots(directory: string, databaseId?: string): Snapshot[] {
  const names = namesIn(directory)
  const snapshots = names
    .map((name) => (name.endsWith('.duckdb.json') ? name.slice(0, -'.json'.length) : name))
    .filter((name, index, all) => namePattern.test(name) && all.indexOf(name) === index)
    .map((name) => inspect(path.join(directory, name), databaseId))
  return snapshots.sort((a, b) => b.seq - a.seq || b.createdAt - a.createdAt)
}

/** The file of a snapshot on its own, wherever it lies, judged as listSnapshots does. */
export function inspectSnapshot(file: string, databaseId?: string): Snapshot {
  return inspect(path.resolve(file), databaseId)
}

function inspect(file: string, databaseId: string | undefined): Snapshot {
  const [, year, month, day, hour, minute, second, seq] = (namePattern.exec(path.basename(file)) ?? []).map(Number)
  const createdAt = Date.UTC(year ?? 1970, (month ?? 1) - 1, day ?? 1, hour ?? 0, minute ?? 0, second ?? 0)
  const companions = fs.existsSync(manifestOf(file)) ? [manifestOf(file)] : []
  const base = { file, companions, seq: seq ?? 0, createdAt }
  const unusable = (reason: string, foreign = false): UnusableSnapshot => ({ ...base, usable: false, reason, foreign })
  let manifest: SnapshotManifest
  try {
    if (companions.length === 0) return unusable('it has no manifest: it was never completed')
    manifest = manifestSchema.parse(JSON.parse(fs.readFileSync(manifestOf(file), 'utf8')))
  } catch (error) {
    return unusable(
      `its manifest cannot be read: ${error instanceof z.ZodError ? z.prettifyError(error).replaceAll('\n', ' ') : messageOf(error)}`,
    )
  }
  if (seq !== undefined && manifest.seq !== seq) return unusable(`its manifest is another's: it says seq ${manifest.seq}`)
  if (databaseId !== undefined && manifest.databaseId !== databaseId)
    return unusable(`it belongs to another database (${manifest.databaseId})`, true)
  const size = fs.statSync(file, { throwIfNoEntry: false })?.size
  if (size === undefined) return unusable('its copy is missing, only the manifest is there')
  if (size !== manifest.bytes) return unusable(`its copy has ${size} bytes, its manifest says ${manifest.bytes}`)
  return { ...base, seq: manifest.seq, usable: true, manifest }
}

/** Reads the whole copy again: every live block's checksum and the SHA-256. Why it may not be used, or null. Throws when stopped by the signal. */
export async function verifySnapshot(snapshot: Snapshot, options: ReadOptions = {}): Promise<string | null> {
  const now = inspect(snapshot.file, snapshot.usable ? snapshot.manifest.databaseId : undefined)
  if (!snapshot.usable || !now.usable) return snapshot.usable ? (now as UnusableSnapshot).reason : snapshot.reason
  try {
    await digestFile(snapshot.file, { ...options, expect: contentOf(now.manifest) })
    return null
  } catch (error) {
    if (options.signal?.aborted || !isFinding(error)) throw error
    return messageOf(error)
  }
}

/** The newest snapshot that verifies right now, with those that did not. */
export async function newestVerified(
  directory: string,
  databaseId: string,
  options: ReadOptions = {},
): Promise<{ snapshot: UsableSnapshot | null; rejected: UnusableSnapshot[] }> {
  const rejected: UnusableSnapshot[] = []
  for (const snapshot of listSnapshots(directory, databaseId)) {
    const reason = await verifySnapshot(snapshot, options)
    if (reason === null && snapshot.usable) return { snapshot, rejected }
    rejected.push(snapshot.usable ? { ...snapshot, usable: false, reason: reason ?? '', foreign: false } : snapshot)
  }
  return { snapshot: null, rejected }
}

/**
 * Copies a snapshot to `databasePath`, verifying every byte on the way; it appears there whole or not at all. Refuses a place where a
 * database or anything that DuckDB leaves beside one already lies: a `.wal` of another file would be replayed into it.
 */
export async function restoreFile(snapshot: UsableSnapshot, databasePath: string, options: ReadOptions = {}): Promise<void> {
  for (const suffix of ['', '.wal', '.wal.checkpoint', '.wal.recovery']) {
    if (!fs.existsSync(databasePath + suffix)) continue
    throw new DaemonGuardError('a snapshot is restored into an empty place only', {
      where: databasePath + suffix,
      hint: `move it away first: mv ${databasePath + suffix} …`,
    })
  }
  ensureDirectory(path.dirname(databasePath), 'RESTORE:DIRECTORY')
  requireSpace(path.dirname(databasePath), snapshot.manifest.bytes, 'the restored database')
  await copyFile(snapshot.file, databasePath, 'RESTORE:COPY', { ...options, expect: contentOf(snapshot.manifest) })
}

/**
 * Removes what `keep` newer usable snapshots of the same database make superfluous: older snapshots of it, and copies that were never
 * completed. Those of other databases stay. Returns the removed files.
 */
export function prune(directory: string, databaseId: string, keep: number): string[] {
  if (!fs.existsSync(directory)) return []
  const leftovers = removeLeftovers(directory)
  const removed: string[] = []
  let kept = 0
  for (const snapshot of listSnapshots(directory, databaseId)) {
    if (snapshot.usable && kept < keep) kept++
    // The manifest first: what a crash leaves behind then is no snapshot any more.
    else if (kept >= keep && (snapshot.usable || !snapshot.foreign)) removed.push(...snapshot.companions, snapshot.file)
  }
  for (const file of removed) removeDurably(file, 'SNAPSHOT:PRUNE')
  return [...leftovers, ...removed]
}

/** Snapshots as the restore step of the recovery ladder takes them (agent/supervisor/restore.ts). */
export function snapshotSource(directory: string, databaseId: string, options: ReadOptions = {}) {
  const find = (snapshot: { readonly file: string }) => inspect(snapshot.file, databaseId)
  return {
    list: () => listSnapshots(directory, databaseId).filter((snapshot) => snapshot.usable),
    verify: (snapshot: { readonly file: string }) => verifySnapshot(find(snapshot), options),
    restore: async (snapshot: { readonly file: string }, target: string) => {
      const found = find(snapshot)
      if (!found.usable) throw new DaemonGuardError(`the snapshot can't be used: ${found.reason}`, { where: snapshot.file })
      await restoreFile(found, target, options)
    },
  }
}

function contentOf(manifest: SnapshotManifest): CopyResult {
  const { bytes, iteration, sha256 } = manifest
  return { bytes, iteration, sha256 }
}

function isFinding(error: unknown): boolean {
  return (
    error instanceof DamagedFileError ||
    error instanceof UnreadableFileError ||
    error instanceof MovedFileError ||
    error instanceof UnexpectedContentError
  )
}

function requireSpace(directory: string, needed: number, what: string): void {
  const free = freeBytes(directory)
  if (free >= needed) return
  throw new DaemonGuardError(`too little disk space for ${what}: ${megabytes(needed)} are needed, ${megabytes(free)} are free`, {
    where: directory,
    hint: process.platform === 'win32' ? `free some: ${freeSpace(directory)}` : `free some: du -sh ${directory}/*`,
    exitCode: ExitCode.full,
  })
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`
}

function snapshotName(time: number, seq: number): string {
  return `${new Date(time).toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '')}-${seq}.duckdb`
}

function manifestOf(file: string): string {
  return `${file}.json`
}

function namesIn(directory: string): string[] {
  return fs.existsSync(directory) ? fs.readdirSync(directory).sort() : []
}
