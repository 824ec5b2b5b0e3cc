/**
 * The write buffer: autocommit inserts of many clients that arrive together (group-queue.ts) share an fsync, and those into one table a transaction of DuckDB's
 * (table-writer.ts); each keeps a seq of its own. If one of a group fails, the group is rolled back and retried one by one: only the culprit fails.
 */

import { messageOf } from '../errors.ts'
import { encodeChanges } from '../journal/record.ts'
import { asRows, type Cell } from '../journal/types.ts'
import { step } from '../step.ts'
import type { Catalog, TableInfo } from './catalog.ts'
import type { CommitPipeline } from './commit.ts'
import type { Connection } from './duckdb.ts'
import { isCorruption, judge, toSqlError } from './duckdb-errors.ts'
import type { Foresight } from './foresight.ts'
import type { WriterGate } from './gate.ts'
import { type GroupEntry, GroupQueue } from './group-queue.ts'
import { KeptWriters } from './kept-writers.ts'
import type { ParentLocks } from './parent-locks.ts'
import type { SqlError } from './sql-error.ts'
import { TableWriter } from './table-writer.ts'
import { Transaction } from './transaction.ts'

/** Tables whose prepared statements are kept. */
const mostWriters = 16

export interface WriteBufferOptions {
  connect: () => Promise<Connection>
  catalog: Catalog
  gate: WriterGate
  locks: ParentLocks
  pipeline: CommitPipeline
  foresight: Foresight
  /** Most rows of a group. */
  rows: number
  /** Longest wait for a group to close, ms. */
  maxDelay: number
  gateTimeout: number
  suspect: (reason: string) => never
  corrupt: (reason: string) => never
}

/** One row, all columns of its table in order. */
interface Entry extends GroupEntry {
  readonly info: TableInfo
  /** Version of the catalog that `info` was read from. */
  readonly version: number
  readonly cells: readonly Cell[]
  /** When it came, `performance.now()`. */
  readonly since: number
  resolve(written: boolean): void
  reject(error: Error): void
}

export class WriteBuffer {
  #options: WriteBufferOptions
  #queue: GroupQueue<Entry>
  #connection: Connection | undefined
  /** By the path of their table. */
  #writers = new KeptWriters<TableWriter>(mostWriters)

  constructor(options: WriteBufferOptions) {
    this.#options = options
    const { rows, maxDelay, pipeline } = options
    this.#queue = new GroupQueue({ rows, maxDelay, flush: () => pipeline.barrier(), commit: (group) => this.#commitGroup(group) })
  }

  /**
   * Resolves with true when DuckDB has committed the row and the journal has it queued; the read barrier says when it is durable. False:
   * the schema has changed since `version`, nothing was written. `caller`: the session's. Throws SqlError.
   */
  submit(caller: object, info: TableInfo, version: number, cells: readonly Cell[]): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.#queue.add({ caller, info, version, cells, since: performance.now(), resolve, reject })
    })
  }

  async #commitGroup(group: readonly Entry[]): Promise<void> {
    for (const entries of Map.groupBy(group, (entry) => entry.info.path).values()) await this.#commitTable(entries)
  }

  async #commitTable(entries: readonly Entry[]): Promise<void> {
    try {
      const written = new Set(await this.#commit(entries))
      for (const entry of entries) entry.resolve(written.has(entry))
    } catch (error) {
      judge(error, this.#options)
      const failure = toSqlError(error)
      if (failure.code === '55P03') return this.#stillClosed(entries, failure)
      if (entries.length === 1) for (const entry of entries) entry.reject(failure)
      else for (const entry of entries) await this.#commitTable([entry])
    }
  }

  /** The gate stayed closed for as long as the first of them may wait; whoever came later goes on waiting for the rest of its time. */
  async #stillClosed([first, ...others]: readonly Entry[], failure: SqlError): Promise<void> {
    first?.reject(failure)
    const [late, patient] = [others.filter((entry) => this.#patience(entry) <= 0), others.filter((entry) => this.#patience(entry) > 0)]
    for (const entry of late) entry.reject(failure)
    if (patient.length > 0) await this.#commitTable(patient)
  }

  /** How much longer it may wait at the gate, the wait in this buffer being a part of that. ms. */
  #patience({ since }: Entry): number {
    return Math.ceil(this.#options.gateTimeout - (performance.now() - since))
  }

  /** Commits those whose table is still as they knew it; resolves with them. All are of one table. */
  async #commit(all: readonly Entry[]): Promise<readonly Entry[]> {
    const { connect, gate, locks, pipeline, catalog, foresight } = this.#options
    const transaction = new Transaction(false, pipeline.writer)
    let last: number | undefined
    await gate.enter(transaction.pass, 'shared', Math.max(1, this.#patience(all[0] as Entry)))
    try {
      transaction.see(pipeline.writer.nextSeq - 1, catalog.version)
      // A schema change may have committed while this group waited. From here on none can.
      this.#writers.forSchema(catalog.version)
      const group = all.filter((entry) => entry.version === catalog.version)
      const [first] = group
      if (first === undefined) return group
      if (first.info.parents.length > 0) locks.referring(first.info.parents, transaction)
      step('GROUP:APPEND')
      this.#connection ??= await connect()
      const connection = this.#connection
      const writer = this.#writers.get(first.info.path, () => new TableWriter(connection, first.info))
      const rows = group.map(({ cells }) => cells)
      const statement = await writer.statementFor(asRows(...rows))
      const encoded = group.map(encode)
      step('GROUP:COMMIT')
      last = await pipeline.commitStatement(encoded, () => this.#write(statement))
      foresight.inserted(first.info, rows, last)
      this.#queue.committed(group, pipeline.writer.durable(last))
      return group
    } finally {
      locks.release(transaction, last)
      gate.leave(transaction.pass)
    }
  }

  async #write(statement: () => Promise<void>): Promise<void> {
    try {
      await statement()
    } catch (error) {
      this.#writers.drop()
      if (isCorruption(error)) this.#options.corrupt(messageOf(error))
      throw error
    }
  }
}

function encode({ info, cells }: Entry) {
  return encodeChanges([{ kind: 'insert', table: info.table, rows: asRows(cells) }])
}
