/**
 * Small transactions of many clients that DuckDB has not been told of yet, since what comes of their statements is known (held-statements.ts): those that commit
 * together (group-queue.ts) share one of DuckDB's, with one statement for each table, and an fsync; each keeps a seq of its own. Where DuckDB refuses
 * one of a group, nothing of it is there, and each is done by itself, as if it had not been held back: only the culprit fails.
 */

import { encodeChanges } from '../journal/record.ts'
import { asRows } from '../journal/types.ts'
import { step } from '../step.ts'
import type { CommitPipeline } from './commit.ts'
import type { Connection } from './duckdb.ts'
import { judge, toSqlError } from './duckdb-errors.ts'
import type { Foresight } from './foresight.ts'
import { type GroupEntry, GroupQueue } from './group-queue.ts'
import { KeptWriters } from './kept-writers.ts'
import { conflictClause } from './plain-upsert.ts'
import { keyedName, keyOf, type RowConflicts, rowKey } from './row-conflicts.ts'
import type { RowImages } from './row-images.ts'
import { RowUpdater } from './row-updater.ts'
import { SqlError } from './sql-error.ts'
import { TableWriter } from './table-writer.ts'
import type { HeldStatement, Transaction } from './transaction.ts'

/** Statements up to which a transaction by itself is written on the event loop. */
const fewStatements = 8
/** Prepared statements of each kind that are kept. */
const mostKept = 16
/** Statements of a group, if it is of more than one transaction: nobody waits for very large ones of others. */
const mostStatements = 256

export interface TransactionBufferOptions {
  connect: () => Promise<Connection>
  pipeline: CommitPipeline
  conflicts: RowConflicts
  images: RowImages
  foresight: Foresight
  /** Version of the catalog. */
  version: () => number
  /** Most transactions of a group. */
  rows: number
  /** Longest wait for a group to close, ms. */
  maxDelay: number
  suspect: (reason: string) => never
  corrupt: (reason: string) => never
}

interface Entry extends GroupEntry {
  readonly transaction: Transaction
  /** The seq; undefined: not in a group. */
  resolve(seq: number | undefined): void
  reject(error: Error): void
}

export class TransactionBuffer {
  #options: TransactionBufferOptions
  #queue: GroupQueue<Entry>
  #connection: Connection | undefined
  #inserts = new KeptWriters<TableWriter>(mostKept)
  #upserts = new KeptWriters<TableWriter>(mostKept)
  #updates = new KeptWriters<RowUpdater>(mostKept)

  constructor(options: TransactionBufferOptions) {
    this.#options = options
    const { rows, maxDelay, pipeline } = options
    this.#queue = new GroupQueue({ rows, maxDelay, flush: () => pipeline.barrier(), commit: (group) => this.#commitGroup(group) })
  }

  /**
   * Commits what a transaction holds back, which must be through the gate. Resolves with its seq when DuckDB has committed it and the journal has it queued;
   * with undefined where nothing was written, and its statements are to be done in a transaction of their own. `caller`: the session's. Throws SqlError 40001.
   */
  submit(caller: object, transaction: Transaction): Promise<number | undefined> {
    return new Promise((resolve, reject) => this.#queue.add({ caller, transaction, resolve, reject }))
  }

  async #commitGroup(all: readonly Entry[]): Promise<void> {
    for (const part of partsOf(all)) await this.#commitPart(part)
  }

  async #commitPart(all: readonly Entry[]): Promise<void> {
    const { together, apart } = parted(all)
    try {
      await this.#commitTogether(together)
    } finally {
      for (const entry of apart) entry.resolve(undefined)
    }
  }

  async #commitTogether(all: readonly Entry[]): Promise<void> {
    let group = this.#withoutConflicts(all)
    try {
      this.#connection ??= await this.#options.connect()
      for (const kept of [this.#inserts, this.#upserts, this.#updates]) kept.forSchema(this.#options.version())
      // Somebody else may commit the same row while DuckDB works on these; then the others begin anew.
      while (group.length > 0) {
        const last = await this.#commit(this.#connection, group)
        if (last !== undefined) {
          for (const [i, entry] of group.entries()) entry.resolve(last - group.length + 1 + i)
          return
        }
        group = this.#withoutConflicts(group)
      }
    } catch (error) {
      judge(error, this.#options)
      await this.#clear()
      for (const entry of group) entry.resolve(undefined)
    }
  }

  /** After an error: nothing of the group is there, and nothing is left open. */
  async #clear(): Promise<void> {
    for (const kept of [this.#inserts, this.#upserts, this.#updates]) kept.drop()
    const connection = this.#connection
    try {
      await connection?.runAlone('ROLLBACK')
    } catch (error) {
      // Nothing was open, most likely. What may be is rolled back by that.
      judge(error, this.#options)
      connection?.close()
      this.#connection = undefined
    }
  }

  /** Whose row another has changed since is told; the others are left. */
  #withoutConflicts(group: readonly Entry[]): readonly Entry[] {
    return group.filter(({ transaction, reject }) => {
      try {
        this.#options.conflicts.check(transaction)
        return true
      } catch (error) {
        reject(toSqlError(error))
        return false
      }
    })
  }

  /** Resolves with the last seq; undefined: rolled back, since one is in conflict with what was committed meanwhile. */
  async #commit(connection: Connection, group: readonly Entry[]): Promise<number | undefined> {
    const { pipeline, conflicts, images, foresight } = this.#options
    const transactions = group.map(({ transaction }) => transaction)
    const encoded = transactions.map(({ held }) => encodeChanges(held.map(({ change }) => change)))
    const statements = transactions.flatMap(({ held }) => held)
    step('TOGETHER:BEGIN')
    await connection.runBriefly('BEGIN TRANSACTION')
    await this.#write(connection, statements, transactions.length === 1 && statements.length <= fewStatements)
    let isInConflict = false
    const check = () => {
      isInConflict = true
      for (const transaction of transactions) conflicts.check(transaction)
      isInConflict = false
    }
    const committed = (last: number) => {
      for (const [i, transaction] of transactions.entries()) {
        const seq = last - transactions.length + 1 + i
        conflicts.committed(transaction, seq)
        images.committed(transaction, seq)
        for (const { change, info, cells } of transaction.held) if (change.kind !== 'update') foresight.inserted(info, [cells], seq)
      }
    }
    step('TOGETHER:COMMIT')
    try {
      const last = await pipeline.commit(connection, encoded, true, { check, committed })
      this.#queue.committed(group, pipeline.writer.durable(last))
      return last
    } catch (error) {
      if (isInConflict) return undefined
      throw error
    }
  }

  /**
   * All statements, those of a kind into one table as one: none depends on another, but that an UPDATE of a row follows what has put it there, and that the last of
   * several UPDATEs of a row counts.
   */
  async #write(connection: Connection, statements: readonly HeldStatement[], alone: boolean): Promise<void> {
    for (const kind of ['insert', 'upsert'] as const) {
      const writers = kind === 'insert' ? this.#inserts : this.#upserts
      const rowsOfKind = statements.filter(({ change }) => change.kind === kind)
      for (const [path, rows] of Map.groupBy(rowsOfKind, ({ info }) => info.path)) {
        const [{ info }] = rows as [HeldStatement]
        const writer = writers.get(path, () => new TableWriter(connection, info, kind === 'insert' ? '' : conflictClause(info)))
        const write = await writer.statementFor(asRows(...rows.map(({ cells }) => cells)), alone)
        await write()
      }
    }
    for (const [what, rows] of Map.groupBy(lastUpdates(statements), ({ info, changed }) => `${changed.join()} ${info.path}`)) {
      const [{ info, changed }] = rows as [RowUpdate]
      const updater = this.#updates.get(what, () => new RowUpdater(connection, info, changed))
      const found = await updater.update(
        rows.map(({ cells }) => cells),
        alone,
      )
      // Nobody can have deleted one of them without a conflict.
      if (found !== rows.length) throw new SqlError('40001', `${rows.length - found} rows of ${info.path} are not there`)
    }
  }
}

function partsOf(group: readonly Entry[]): Entry[][] {
  const parts: Entry[][] = []
  let statements = Number.POSITIVE_INFINITY
  for (const entry of group) {
    const { length } = entry.transaction.held
    statements += length
    if (statements <= mostStatements) parts.at(-1)?.push(entry)
    else {
      parts.push([entry])
      statements = length
    }
  }
  return parts
}

/**
 * Who can be in one group: DuckDB has all inserts first, then all upserts and UPDATEs, whoever's they are, and the journal has one transaction after the other. So a row that is
 * put by an upsert is nobody else's, and its own transaction's only for UPDATEs after it. (What is foreseen lets it happen seldom; but a journal that says otherwise than DuckDB is none.)
 */
function parted(entries: readonly Entry[]): { together: readonly Entry[]; apart: readonly Entry[] } {
  const hasUpsert = entries.some(({ transaction }) => transaction.held.some(({ change }) => change.kind === 'upsert'))
  if (!hasUpsert) return { together: entries, apart: [] }
  const rows = new Map<string, { readonly entry: Entry; readonly isUpsert: boolean }>()
  const clashes = (entry: Entry, { change }: HeldStatement): boolean => {
    const { kind, table } = change
    if (table.primaryKey.length === 0) return false
    const row = `${keyedName(table)}\0${rowKey(table, change.rows, 0)}`
    const before = rows.get(row)
    const isUpsert = kind === 'upsert' || before?.isUpsert === true
    rows.set(row, { entry, isUpsert })
    return before !== undefined && isUpsert && !(kind === 'update' && before.entry === entry)
  }
  // All of an entry are looked at: what is apart counts for those behind it as well.
  const apart = entries.filter((entry) => entry.transaction.held.filter((statement) => clashes(entry, statement)).length > 0)
  return { together: entries.filter((entry) => !apart.includes(entry)), apart }
}

type RowUpdate = Pick<HeldStatement, 'info' | 'cells'> & { readonly changed: readonly number[] }

/** One UPDATE of each row, with all that is changed of it. */
function lastUpdates(statements: readonly HeldStatement[]): RowUpdate[] {
  const rows = new Map<string, RowUpdate>()
  for (const { info, cells, change } of statements) {
    if (change.kind !== 'update') continue
    const row = `${keyedName(info.table)}\0${keyOf(change, 0)}`
    const before = rows.get(row)?.changed ?? []
    rows.set(row, { info, cells, changed: [...new Set([...before, ...change.changed])].sort((a, b) => a - b) })
  }
  return [...rows.values()]
}
