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
import { copyDurably, ensureDirectory, moveAnywhere, syncDirectory, writeAtomic } from '../disk.ts'
import { DaemonGuardError, ExitCode, messageOf } from '../errors.ts'
import { acquireLock } from '../lock.ts'
import { pathsOf } from '../paths.ts'
import { snapshotFile } from '../snapshots.ts'
import { Database, replayForeignWal } from './duckdb.ts'
import { readIdentity, writeIdentity } from './identity.ts'
import { createOwnSchema, readWatermark, writeWatermark } from './own-schema.ts'
import { catalogName, corruptExit, headerIteration, stampOf } from './recovery.ts'
import { quoteIdentifier } from './sql/tokens.ts'

/** Resolves with the exit code; 74 when DuckDB cannot open the copy. Nothing has been moved then. */
export async function runAdopt(config: Config): Promise<number> {
  const paths = pathsOf(config)
  ensureDirectory(paths.data)
  const lock = acquireLock(paths.engineLock, 'engine')
  const stamp = stampOf(Date.now())
  const workshop = path.join(paths.data, 'adoption')
  fs.rmSync(workshop, { recursive: true, force: true })
  ensureDirectory(workshop)
  const copy = path.join(workshop, path.basename(paths.database))
  const walFiles = [`${paths.database}.wal`, `${paths.database}.wal.checkpoint`, `${paths.database}.wal.recovery`].filter((file) => fs.existsSync(file))
  try {
    copyDurably(paths.database, copy)
    for (const file of walFiles) copyDurably(file, path.join(workshop, path.basename(file)))
    await openAndCheckpoint(copy)
    const identity = readIdentity(paths) ?? { databaseId: randomUUID() }
    const seq = await addOwnSchema(config, copy, identity.databaseId)
    for (const file of fs.readdirSync(workshop)) if (file !== path.basename(copy)) fs.rmSync(path.join(workshop, file), { force: true })

    const snapshot = await snapshotFile({ source: copy, directory: paths.snapshots, databaseId: identity.databaseId, seq, clock: systemClock })
    const original = path.join(paths.quarantine, `${stamp}-adopted-original`)
    ensureDirectory(original)
    for (const file of [...walFiles, paths.database]) moveAnywhere(file, path.join(original, path.basename(file)))
    writeAtomic(path.join(original, 'reason.json'), `${JSON.stringify({ cause: 'adopted', from: paths.database, seq, at: new Date().toISOString() }, null, 2)}\n`)
    moveAnywhere(copy, paths.database)
    writeIdentity(paths, identity)
    fs.rmSync(workshop, { recursive: true, force: true })
    process.stdout.write(`${JSON.stringify({ adopted: true, original, snapshotFile: snapshot.file, seq, databaseId: identity.databaseId })}\n`)
    return ExitCode.ok
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ adopted: false, reason: messageOf(error) })}\n`)
    throw error
  } finally {
    syncDirectory(paths.data)
    lock.release()
  }
}

async function openAndCheckpoint(file: string): Promise<void> {
  try {
    await replayForeignWal(file)
  } catch (error) {
    throw new DaemonGuardError(`DuckDB cannot open the file: ${messageOf(error)}`, { where: file, exitCode: corruptExit as ExitCode, cause: error })
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
  await createOwnSchema(connection)
  await writeWatermark(connection, { databaseId, seq, iteration })
  await connection.run(`CHECKPOINT ${quoteIdentifier(catalog)}`)
  connection.close()
  database.close()
  return seq
}
