/**
 * The write buffer: autocommit inserts of many clients that arrive together go through DuckDB's appender in one transaction and share an
 * fsync; each keeps a seq of its own. A group closes as soon as the previous flush has ended, at the latest after `rows` rows or `maxDelay`
 * ms, so that a lone client never waits. If one of a group fails, the group is rolled back and retried one by one: only the culprit fails.
 */

import { messageOf } from '../errors.ts'
import { TransactionEncoder } from '../journal/record.ts'
import type { Cell } from '../journal/types.ts'
import { step } from '../step.ts'
import type { Catalog, TableInfo } from './catalog.ts'
import type { CommitPipeline } from './commit.ts'
import type { Appender, Connection } from './duckdb.ts'
import { isCorruption, isFatal, toSqlError } from './duckdb-errors.ts'
import type { WriterGate } from './gate.ts'
import type { ParentLocks } from './parent-locks.ts'
import { Transaction } from './transaction.ts'

export interface WriteBufferOptions {
  connect: () => Promise<Connection>
  catalog: Catalog
  gate: WriterGate
  locks: ParentLocks
  pipeline: CommitPipeline
  /** Most rows of a group. */
  rows: number
  /** Longest wait for a group to close, ms. */
  maxDelay: number
  gateTimeout: number
  suspect: (reason: string) => never
  corrupt: (reason: string) => never
}

/** One row, all columns of its table in order. */
interface Entry {
  readonly info: TableInfo
  /** Version of the catalog that `info` was read from. */
  readonly version: number
  readonly cells: readonly Cell[]
  resolve(written: boolean): void
  reject(error: Error): void
}

export class WriteBuffer {
  #options: WriteBufferOptions
  #entries: Entry[] = []
  #working = false
  #connection: Connection | undefined
  #appenders = new Map<string, Appender>()
  #version = -1
  #close: (() => void) | undefined

  constructor(options: WriteBufferOptions) {
    this.#options = options
  }

  /**
   * Resolves with true when DuckDB has committed the row and the journal has it queued; the read barrier says when it is durable. False:
   * the schema has changed since `version`, nothing was written. Throws SqlError.
   */
  submit(info: TableInfo, version: number, cells: readonly Cell[]): Promise<boolean> {
    return new Promise((resolve, reject) => {
      this.#entries.push({ info, version, cells, resolve, reject })
      if (this.#entries.length >= this.#options.rows) this.#close?.()
      if (!this.#working) void this.#work()
    })
  }

  async #work(): Promise<void> {
    this.#working = true
    try {
      while (this.#entries.length > 0) {
        await this.#closing()
        const group = this.#entries.splice(0, this.#options.rows)
        await this.#commitGroup(group)
      }
    } finally {
      this.#working = false
    }
  }

  /** Waits for the group to close: at once when nothing is being flushed. */
  async #closing(): Promise<void> {
    const flush = this.#options.pipeline.barrier()
    if (flush === undefined || this.#entries.length >= this.#options.rows || this.#options.maxDelay === 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, this.#options.maxDelay)
      this.#close = () => {
        clearTimeout(timer)
        resolve()
      }
      flush.then(this.#close, this.#close)
    })
    this.#close = undefined
  }

  async #commitGroup(group: readonly Entry[]): Promise<void> {
    try {
      const written = new Set(await this.#commit(group))
      for (const entry of group) entry.resolve(written.has(entry))
    } catch (error) {
      if (isCorruption(error)) this.#options.corrupt(messageOf(error))
      if (isFatal(error)) this.#options.suspect(messageOf(error))
      const failure = toSqlError(error)
      // Nobody is the culprit when the gate stayed closed: all have waited.
      if (group.length === 1 || failure.code === '55P03') for (const entry of group) entry.reject(failure)
      else for (const entry of group) await this.#commitGroup([entry])
    }
  }

  /** Commits those whose table is still as they knew it; resolves with them. */
  async #commit(all: readonly Entry[]): Promise<readonly Entry[]> {
    const { gate, locks, pipeline, gateTimeout } = this.#options
    this.#connection ??= await this.#options.connect()
    const connection = this.#connection
    const transaction = new Transaction(false, pipeline.writer)
    let last: number | undefined
    await gate.enter(transaction.pass, 'shared', gateTimeout)
    try {
      transaction.see(pipeline.writer.nextSeq - 1, this.#options.catalog.version)
      // A schema change may have committed while this group waited. From here on none can.
      this.#forgetAppenders()
      const byTable = Map.groupBy(
        all.filter((entry) => entry.version === this.#version),
        (entry) => entry.info.path,
      )
      // In the order in which they are appended: a child may go in only because its parent, which came later, is in this group too.
      const group = [...byTable.values()].flat()
      if (group.length === 0) return group
      for (const { info } of group) if (info.parents.length > 0) locks.referring(info.parents, transaction)
      await connection.run('BEGIN TRANSACTION')
      try {
        step('GROUP:APPEND')
        await this.#append(connection, byTable)
        step('GROUP:COMMIT')
        last = await pipeline.commitGroup(connection, group.map(encode))
      } catch (error) {
        this.#dropAppenders()
        // A COMMIT that failed has rolled back already.
        await connection.run('ROLLBACK').catch(() => {})
        throw error
      }
      return group
    } finally {
      locks.release(transaction, last)
      gate.leave(transaction.pass)
    }
  }

  async #append(connection: Connection, byTable: ReadonlyMap<string, readonly Entry[]>): Promise<void> {
    for (const [path, entries] of byTable) {
      const { table } = (entries[0] as Entry).info
      let appender = this.#appenders.get(path)
      if (appender === undefined) {
        appender = await connection.appender(table.schema, table.name, this.#options.catalog.name)
        this.#appenders.set(path, appender)
      }
      const columns = table.columns.map((_, column) => entries.map((entry) => entry.cells[column] as Cell))
      appender.append({ count: entries.length, columns })
      appender.flush()
    }
  }

  #forgetAppenders(): void {
    if (this.#version === this.#options.catalog.version) return
    this.#version = this.#options.catalog.version
    this.#dropAppenders()
  }

  #dropAppenders(): void {
    for (const appender of this.#appenders.values()) appender.close()
    this.#appenders.clear()
  }
}

function encode({ info, cells }: Entry) {
  const encoder = new TransactionEncoder()
  encoder.add({ kind: 'insert', table: info.table, rows: { count: 1, columns: cells.map((cell) => [cell]) } })
  return encoder.finish()
}
