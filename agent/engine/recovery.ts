/**
 * What every start does: recovered state = the file at its watermark + the journal after it, exactly (R3). A file that cannot be trusted is
 * told to the agent by exit code 74: the agent puts a verified snapshot in its place, and the next start replays from there.
 */

import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import type { RecoveryReport } from '../control-protocol.ts'
import { ensureDirectory, makePrivate, removeDurably, syncDirectory, syncFile } from '../disk.ts'
import { headerBytes, parseDatabaseHeader, parseMainHeader } from '../duckfile/header.ts'
import { holdsNoCommit } from '../duckfile/wal.ts'
import { DaemonGuardError, ExitCode, messageOf } from '../errors.ts'
import { beginTrial, type Doubt, endTrial, isHopeless, keep, withdraw } from '../journal/doubt.ts'
import { type Evidence, keepBatch } from '../journal/evidence.ts'
import { type JournalRepair, repairJournal } from '../journal/repair.ts'
import { listSegments } from '../journal/segment.ts'
import { type JournalDamage, readTransactions } from '../journal/transactions.ts'
import { isSpilled, type Table, type Transaction, tableName } from '../journal/types.ts'
import { catalogName, type Paths } from '../paths.ts'
import { step } from '../step.ts'
import { becomesFree, isInUse } from '../windows/open-file.ts'
import { createNames } from './constraint-names.ts'
import { type Connection, Database, type Instance } from './duckdb.ts'
import { isCorruption, isShortage, toSqlError } from './duckdb-errors.ts'
import { readIdentity, writeIdentity } from './identity.ts'
import { createOwnSchema, readWatermark, writeWatermark } from './own-schema.ts'
import { Replay } from './replay.ts'
import { quoteIdentifier } from './sql/tokens.ts'

export interface RecoveryOptions {
  paths: Paths
  threads: number
  /** Bytes. */
  memory: number
  externalAccess: boolean
  now: () => number
  /** What gets the file. */
  instance: Promise<Instance>
}

export interface Recovered {
  database: Database
  connection: Connection
  databaseId: string
  /** True when there was nothing before: the optional schema file applies. */
  created: boolean
  /** Watermark and header iteration of the file. */
  watermark: number
  iteration: number
  nextSeq: number
  epoch: number
  report: RecoveryReport
}

interface Trial {
  /** DuckDB ends the process over it. */
  readonly isEnd: boolean
  readonly paths: Paths
  readonly databaseId: string
  readonly journal: JournalRepair
  readonly report: RecoveryReport
  readonly stamp: string
}

export async function recover(options: RecoveryOptions): Promise<Recovered> {
  const { paths, now } = options
  const started = performance.now()
  const known = readIdentity(paths)
  const databaseId = known?.databaseId ?? randomUUID()
  ensureDirectory(paths.data, 'RECOVERY:DIRECTORY')
  ensureDirectory(paths.journal, 'RECOVERY:DIRECTORY')
  if (known === undefined && listSegments(paths.journal).length > 0) {
    throw new DaemonGuardError('there is a journal, but no identity.json that says which database it belongs to', {
      where: paths.journal,
      hint: 'restore identity.json, or move the journal away to begin anew',
    })
  }
  const journal = repairJournal(paths.journal, databaseId, path.join(paths.quarantine, `${stampOf(now())}-journal-corrupt`))
  const exists = fs.existsSync(paths.database)
  if (known === undefined && exists) {
    throw new DaemonGuardError('this database file has not been taken over yet', {
      where: paths.database,
      hint: 'daemonguard run takes it over',
    })
  }
  if (known === undefined) writeIdentity(paths, { databaseId })

  step('RECOVERY:OPEN')
  if (exists && process.platform === 'win32' && !(await becomesFree(paths.database))) throw inUse(paths.database)
  const iterationInHeader = exists ? headerIteration(paths.database) : 0
  if (exists) settleCheckpoint(paths.database)
  const { database, connection } = await openDatabase(await options.instance, options, !exists)
  const mark = await watermarkOf(connection, database.catalog, paths, databaseId, {
    journalIsEmpty: journal.lastSeq === 0,
    iterationInHeader,
  })
  await connection.run(createNames)

  const report: RecoveryReport = {
    watermark: mark.seq,
    replayed: 0,
    durationMs: 0,
    cutBytes: journal.cutBytes,
    quarantined: journal.quarantined,
    gaps: [],
    refused: [],
  }
  const oldest = listSegments(paths.journal)[0]?.firstSeq ?? mark.seq + 1
  const missing: JournalRepair['gaps'] = journal.gaps
    .filter((gap) => gap.lastSeq > mark.seq)
    .map((gap) => ({ ...gap, firstSeq: Math.max(gap.firstSeq, mark.seq + 1) }))
  if (oldest > mark.seq + 1) missing.unshift({ firstSeq: mark.seq + 1, lastSeq: oldest - 1 })
  const tables = new Set<string>()
  const lost: (Evidence & { readonly tables: readonly string[] })[] = []
  step('RECOVERY:REPLAY')
  const { doubt } = journal
  // What the file holds already is none.
  const isEnd = doubt !== undefined && doubt.seq > mark.seq && isHopeless(paths.journal, doubt)
  if (doubt === undefined) endTrial(paths.journal)
  const replay = new Replay(connection, database.catalog)
  try {
    const onDamage = (damage: JournalDamage) => {
      const { seq = 0, reason, file, offset, undecoded } = damage
      if (undecoded !== undefined) return void lost.push({ file, offset, reason, seq, ...undecoded })
      // The repair has reported it already.
      if (!journal.gaps.some(({ firstSeq, lastSeq }) => firstSeq <= seq && seq <= lastSeq)) throw new Error(`${reason} (${file})`)
    }
    const last = isEnd ? doubt.seq - 1 : undefined
    const trial = doubt && { seq: doubt.seq, begin: () => beginTrial(paths.journal, doubt), end: () => endTrial(paths.journal) }
    const result = await replay.run(noting(readTransactions(paths.journal, mark.seq + 1, last, onDamage), tables), trial)
    Object.assign(report, result)
  } catch (error) {
    // The file is as good as it was: with more memory, or space, the same replay goes through.
    const short = isShortage(error)
    const isSound = short || (replay.isTrying && !isCorruption(error))
    throw new DaemonGuardError(`the journal could not be replayed onto the database file: ${messageOf(error)}`, {
      where: paths.database,
      hint: short ? 'free space on this disk, or raise engine.memory' : 'daemonguard status',
      exitCode: isSound ? ExitCode.suspect : ExitCode.corrupt,
      cause: error,
    })
  }
  step('RECOVERY:REPLAYED')
  for (const evidence of lost) {
    const { seq, reason, tables: own } = evidence
    const kept = keepBatch(path.join(paths.quarantine, 'journal-undecoded'), evidence)
    if (kept !== null && !journal.quarantined.some(({ file }) => file === kept)) journal.quarantined.push({ file: kept, reason })
    missing.push({ firstSeq: seq, lastSeq: seq, tables: own })
  }
  // What lies in a gap is unknown; the tables that the journal speaks of are those it can have touched.
  report.gaps = missing.map(({ firstSeq, lastSeq, tables: known }) => ({ firstSeq, lastSeq, tables: [...(known ?? tables)] }))
  if (doubt !== undefined) settle(doubt, { isEnd, paths, databaseId, journal, report, stamp: stampOf(now()) })
  report.durationMs = performance.now() - started
  const broken = journal.quarantined.length > 0 || journal.cutBytes > 0 || missing.length > 0 || report.withdrawn !== undefined
  return {
    database,
    connection,
    databaseId,
    created: !exists && journal.lastSeq === 0,
    watermark: mark.seq,
    iteration: mark.iteration,
    nextSeq: Math.max(journal.lastSeq, mark.seq) + 1,
    epoch: Math.max(1, journal.epoch + (broken ? 1 : 0)),
    report,
  }
}

/**
 * The last transaction, of which nothing said what DuckDB made of it: what it refuses now as it refuses a commit, on the same state, it had refused before, and its client was
 * told nothing else. On another state, or for another reason, that proves nothing: it stays, and is told of as refused.
 */
function settle(doubt: Doubt, { isEnd, paths, databaseId, journal, report, stamp }: Trial): void {
  const own = report.refused.filter(({ seq }) => seq === doubt.seq)
  const isSameState = report.refused.length === own.length && report.gaps.length === 0 && journal.quarantined.length === 0
  const isNoCommit = own.some(({ error }) => /^(23|40)/.test(toSqlError(new Error(error)).code))
  if (!isEnd && !(isSameState && isNoCommit)) {
    keep(paths.journal, databaseId, doubt)
    return
  }
  const error = own[0]?.error ?? 'the engine ends when it is replayed'
  const quarantine = path.join(paths.quarantine, `${stamp}-journal-doubt`)
  const kept = withdraw(paths.journal, databaseId, doubt, { quarantine, reason: error })
  journal.lastSeq = doubt.seq - 1
  report.withdrawn = { seq: doubt.seq, error, kept }
  // What ends an engine may have been acknowledged.
  report.refused = isEnd ? [...report.refused, { seq: doubt.seq, error }] : []
}

/**
 * What a checkpoint leaves that was cut off: a header that DuckDB has written and not fsynced, after which it takes blocks for free that the
 * header on the disk still needs; and DuckDB's note of it, which says nothing that the file and the journal do not.
 */
function settleCheckpoint(file: string): void {
  syncFile(file, 'RECOVERY:OPEN')
  for (const suffix of ['.wal', '.wal.checkpoint', '.wal.recovery']) {
    const note = file + suffix
    if (fs.existsSync(note) && holdsNoCommit(note)) removeDurably(note, 'RECOVERY:WAL')
  }
}

async function openDatabase(
  instance: Instance,
  options: RecoveryOptions,
  create: boolean,
): Promise<{ database: Database; connection: Connection }> {
  const { paths } = options
  const temporaryDirectory = path.join(paths.data, 'spill')
  ensureDirectory(temporaryDirectory, 'RECOVERY:DIRECTORY')
  try {
    const database = await Database.attach(instance, {
      file: paths.database,
      create,
      catalog: catalogName(paths.database),
      threads: options.threads,
      memoryLimit: options.memory,
      temporaryDirectory,
      externalAccess: options.externalAccess,
    })
    makePrivate(paths.database)
    return { database, connection: await database.connect() }
  } catch (error) {
    throw cannotOpen(error, paths.database, create)
  }
}

/** Only damage may lead to a restore: a file that another program has open, or that may not be read, is left alone. */
function cannotOpen(cause: unknown, file: string, create: boolean): DaemonGuardError {
  const message = messageOf(cause)
  const holder = /(?:Conflicting lock is held in|PID)\D*(\d+)/i.exec(message)?.[1]
  // Windows says it in the words of its own language.
  if (process.platform === 'win32' ? isInUse(file) : /could not set lock|conflicting lock/i.test(message)) return inUse(file, holder, cause)
  const environment =
    create || /cannot open file|permission denied|no space left|too many open files|out of memory|disk quota/i.test(message)
  return new DaemonGuardError(`DuckDB cannot open the database file: ${message}`, {
    where: file,
    hint: environment ? 'daemonguard check' : 'the agent restores the newest snapshot by itself; or daemonguard restore',
    exitCode: environment ? ExitCode.failed : ExitCode.corrupt,
    cause,
  })
}

function inUse(file: string, pid?: string, cause?: unknown): DaemonGuardError {
  return new DaemonGuardError(`another program has the database file open: pid ${pid ?? 'unknown'}`, {
    where: file,
    hint: 'end that program, or let it connect to the engine instead',
    exitCode: ExitCode.locked,
    cause,
  })
}

/** The watermark, proved to belong to this file; a file that is still empty gets its first one. */
async function watermarkOf(
  connection: Connection,
  catalog: string,
  paths: Paths,
  databaseId: string,
  found: { journalIsEmpty: boolean; iterationInHeader: number },
): Promise<{ seq: number; iteration: number }> {
  const untrusted = (why: string) =>
    new DaemonGuardError(`the database file cannot be trusted: ${why}`, {
      where: paths.database,
      hint: 'the agent restores the newest snapshot by itself; or daemonguard restore',
      exitCode: ExitCode.corrupt,
    })
  let mark: Awaited<ReturnType<typeof readWatermark>>
  try {
    mark = await readWatermark(connection, catalog)
  } catch (error) {
    throw untrusted(messageOf(error))
  }
  if (mark === undefined) {
    const [row] = await connection.all(`SELECT count(*) FROM duckdb_tables() WHERE database_name = '${catalog.replaceAll("'", "''")}'`)
    if (Number(row?.[0]) > 0) throw untrusted('it has tables, but no watermark of DaemonGuard')
    const iteration = found.iterationInHeader + 1
    step('RECOVERY:CREATE')
    await createOwnSchema(connection)
    await writeWatermark(connection, { databaseId, seq: 0, iteration })
    step('RECOVERY:CHECKPOINT')
    await connection.run(`CHECKPOINT ${quoteIdentifier(catalog)}`)
    // DuckDB makes its file durable, not the file's name.
    syncDirectory(path.dirname(paths.database), 'RECOVERY:CHECKPOINT')
    return { seq: 0, iteration }
  }
  if (mark.databaseId !== databaseId) throw untrusted(`it holds database ${mark.databaseId}; this data directory guards ${databaseId}`)
  if (mark.iteration !== found.iterationInHeader) {
    throw untrusted(
      `its header says checkpoint ${found.iterationInHeader}, its watermark ${mark.iteration}: it was written without DaemonGuard, or a write was lost`,
    )
  }
  return { seq: mark.seq, iteration: mark.iteration }
}

/** Iteration of the file's active header. Read before DuckDB opens the file: closing any descriptor of it later would drop DuckDB's lock. */
export function headerIteration(file: string): number {
  const fd = fs.openSync(file, 'r')
  try {
    const pages = Buffer.alloc(headerBytes)
    fs.readSync(fd, pages, 0, headerBytes, 0)
    const main = parseMainHeader(pages)
    if (main === null) return -1
    const header = parseDatabaseHeader(main.version, pages)
    return typeof header === 'string' ? -1 : header.iteration
  } finally {
    fs.closeSync(fd)
  }
}

export function stampOf(time: number): string {
  return new Date(time).toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '')
}

function* noting(transactions: Iterable<Transaction>, names: Set<string>): Generator<Transaction> {
  for (const transaction of transactions) {
    const { changes } = transaction
    const tables: readonly Table[] = isSpilled(changes)
      ? changes.tables
      : changes.flatMap((change) => ('table' in change ? [change.table] : []))
    for (const table of tables) names.add(tableName(table))
    yield transaction
  }
}
