/**
 * `daemonguard adopt`: takes over a database file that exists already, with its WAL beside it as a crash left it. It works on a copy: DuckDB
 * opens it, replays the WAL, checkpoints; the engine's own schema is added; then the original goes to quarantine, whole, and the copy takes
 * its place. It runs in a process of its own, since DuckDB may abort over a WAL. Prints one line of JSON.
 */

import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { systemClock } from '../clock.ts'
import type { Config } from '../config.ts'
import {
  copyDurably,
  ensureDirectory,
  freeName,
  linkOrCopy,
  moveAnywhere,
  removeDurably,
  removeTree,
  syncDirectory,
  writeAtomic,
} from '../disk.ts'
import { unreplayedPart } from '../duckfile/wal.ts'
import { codeOf, DaemonGuardError, ExitCode, messageOf } from '../errors.ts'
import { acquireLock } from '../lock.ts'
import { catalogName, type Paths, pathsOf } from '../paths.ts'
import { snapshotFile } from '../snapshots.ts'
import { step } from '../step.ts'
import { prepareDisk } from '../windows/disk.ts'
import { Database, replayForeignWal } from './duckdb.ts'
import { readIdentity, writeIdentity } from './identity.ts'
import { createOwnSchema, readWatermark, writeWatermark } from './own-schema.ts'
import { headerIteration, stampOf } from './recovery.ts'
import { quoteIdentifier } from './sql/tokens.ts'

/** Of the workshop: where the snapshot waits until its adoption is certain. */
const snapshots = 'snapshots'

/** What is left to do once the copy is whole. Written durably before the first file is touched, so that a crash in between loses nothing. */
interface Plan {
  readonly databaseId: string
  readonly seq: number
  /** Directory in quarantine that gets the original, whole. */
  readonly original: string
  /** Why the WAL held more than DuckDB has replayed, or null. */
  readonly unreplayed: string | null
}

/** Resolves with the exit code; 74 when DuckDB cannot open the copy. Nothing has been moved then. Goes on with an interrupted one. */
export async function runAdopt(config: Config): Promise<number> {
  process.umask(0o077)
  const paths = pathsOf(config)
  prepareDisk()
  ensureDirectory(paths.data, 'ADOPTION:DIRECTORY')
  const lock = acquireLock(paths.engineLock, 'engine')
  try {
    const plan = interruptedAdoption(paths) ?? (await prepare(config, paths))
    finish(paths, plan)
    process.stdout.write(`${JSON.stringify({ adopted: true, ...plan })}\n`)
    return ExitCode.ok
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ adopted: false, reason: messageOf(error) })}\n`)
    throw error
  } finally {
    lock.release()
  }
}

/** Makes the copy that will take the original's place, and a snapshot of it; all in the workshop, so that a death leaves nothing elsewhere. */
async function prepare(config: Config, paths: Paths): Promise<Plan> {
  const workshop = path.dirname(planFile(paths))
  removeTree(workshop, 'ADOPTION:CLEAR')
  ensureDirectory(workshop, 'ADOPTION:WORKSHOP')
  const copy = path.join(workshop, path.basename(paths.database))
  for (const file of [paths.database, ...walFiles(paths.database)])
    copyDurably(file, path.join(workshop, path.basename(file)), 'ADOPTION:COPY')
  const unreplayed = walFiles(paths.database).flatMap((file) => {
    const why = unreplayedPart(file)
    return why === null ? [] : [`${path.basename(file)}: ${why}`]
  })
  await openAndCheckpoint(copy)
  const { databaseId } = readIdentity(paths) ?? { databaseId: randomUUID() }
  const seq = await addOwnSchema(config, copy, databaseId)
  await snapshotFile({ source: copy, directory: path.join(workshop, snapshots), databaseId, seq, clock: systemClock })
  const original = freeName(path.join(paths.quarantine, `${stampOf(Date.now())}-adopted-original`))
  const plan: Plan = { databaseId, seq, original, unreplayed: unreplayed.join('; ') || null }
  writeAtomic(planFile(paths), JSON.stringify(plan), 'ADOPTION:PLAN')
  return plan
}

/**
 * The identity, the snapshot, a second name for the original in quarantine; then the WALs away, then the copy over the original by one rename.
 * Each step may have been done before.
 */
function finish(paths: Paths, plan: Plan): void {
  const { databaseId, seq, original, unreplayed } = plan
  const workshop = path.dirname(planFile(paths))
  writeIdentity(paths, { databaseId })
  ensureDirectory(paths.snapshots, 'ADOPTION:SNAPSHOT')
  // The copy before its manifest, as a snapshot is made.
  for (const name of namesIn(path.join(workshop, snapshots)))
    moveAnywhere(path.join(workshop, snapshots, name), path.join(paths.snapshots, name), 'ADOPTION:SNAPSHOT')
  ensureDirectory(original, 'ADOPTION:QUARANTINE')
  for (const file of [paths.database, ...walFiles(paths.database)]) {
    const kept = path.join(original, path.basename(file))
    if (!fs.existsSync(kept)) linkOrCopy(file, kept, 'ADOPTION:KEEP')
  }
  const reason = { cause: 'adopted', from: paths.database, seq, unreplayed, at: new Date().toISOString() }
  writeAtomic(path.join(original, 'reason.json'), `${JSON.stringify(reason, null, 2)}\n`, 'ADOPTION:REASON')
  for (const file of walFiles(paths.database)) removeDurably(file, 'ADOPTION:WAL')
  const copy = path.join(workshop, path.basename(paths.database))
  if (fs.existsSync(copy)) moveAnywhere(copy, paths.database, 'ADOPTION:REPLACE')
  // The plan last: as long as it is there, this is gone through again.
  for (const name of namesIn(workshop)) if (name !== path.basename(planFile(paths))) removeTree(path.join(workshop, name), 'ADOPTION:DONE')
  removeTree(workshop, 'ADOPTION:DONE')
  syncDirectory(paths.data, 'ADOPTION:DONE')
}

function interruptedAdoption(paths: Paths): Plan | undefined {
  try {
    return JSON.parse(fs.readFileSync(planFile(paths), 'utf8')) as Plan
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/** Sorted: a copy before its manifest. */
function namesIn(directory: string): string[] {
  return fs.existsSync(directory) ? fs.readdirSync(directory).sort() : []
}

function planFile(paths: Paths): string {
  return path.join(paths.adoption, 'plan.json')
}

function walFiles(database: string): string[] {
  return [`${database}.wal`, `${database}.wal.checkpoint`, `${database}.wal.recovery`].filter((file) => fs.existsSync(file))
}

async function openAndCheckpoint(file: string): Promise<void> {
  step('ADOPTION:REPLAY')
  try {
    await replayForeignWal(file)
  } catch (error) {
    throw new DaemonGuardError(`DuckDB cannot open the file: ${messageOf(error)}`, {
      where: file,
      exitCode: ExitCode.corrupt,
      cause: error,
    })
  }
}

/** Adds the watermark. A file that has one already (guarded before, then written to by another program) keeps its seq. */
async function addOwnSchema(config: Config, file: string, databaseId: string): Promise<number> {
  const iteration = headerIteration(file) + 1
  const catalog = catalogName(file)
  const database = await Database.open({
    file,
    create: false,
    catalog,
    threads: config.engine.cpu_cores,
    memoryLimit: config.engine.memory,
    temporaryDirectory: path.dirname(file),
    externalAccess: false,
  })
  const connection = await database.connect()
  const before = await readWatermark(connection, catalog)
  const seq = before?.databaseId === databaseId ? before.seq : 0
  step('ADOPTION:SCHEMA')
  await createOwnSchema(connection)
  await writeWatermark(connection, { databaseId, seq, iteration })
  step('ADOPTION:CHECKPOINT')
  await connection.run(`CHECKPOINT ${quoteIdentifier(catalog)}`)
  connection.close()
  database.close()
  return seq
}
