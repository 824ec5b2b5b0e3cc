/**
 * How a transaction becomes durable (R1, R2): under one short lock, room is reserved in the journal, DuckDB commits, and the transaction is
 * appended under the next seq; then the flusher's fsync is waited for, outside the lock, by whoever answers a client.
 */

import { systemClock, within } from '../clock.ts'
import { freeBytes } from '../disk.ts'
import { DaemonGuardError, messageOf } from '../errors.ts'
import type { EncodedTransaction } from '../journal/record.ts'
import type { Ahead, JournalWriter } from '../journal/writer.ts'
import { step } from '../step.ts'
import type { Connection } from './duckdb.ts'
import { isOrdinaryAlone, isOrdinaryAtCommit, toSqlError } from './duckdb-errors.ts'
import { SqlError } from './sql-error.ts'

/** Free space that DuckDB wants at least before it writes its file: whole blocks of up to 256 KiB, before it frees old ones. */
export const leastFreeBytes = 4 << 20
/** Rows up to which a COMMIT is small. */
const fewRows = 256
/** So many rows of a table are a row group of DuckDB's: whole ones go into its file at COMMIT, and what finds no room there ends the instance. */
const rowGroupRows = 122_880

/** Commits that do not go ahead after DuckDB has refused one: whoever inserts keys that may be there already would pay for it with two fsyncs each time. */
const wary = 100

/** ms for which a suspect instance waits for the disk. */
const longestWithdrawal = 1_000

export interface CommitOptions {
  writer: JournalWriter
  /** Whether one client has the engine to itself: then the disk had nothing else to do while DuckDB commits. */
  isOne: () => boolean
  /** Where the database file is. */
  directory: string
  /** Called when the instance can no longer be trusted; it does not return to serving. */
  suspect: (reason: string) => never
  now: () => number
}

/** Has its say while nobody else commits. */
export interface CommitGuard {
  /** Throws SqlError: the transaction is rolled back. */
  check(): void
  /** Of several, the last one's. */
  committed(seq: number): void
}

/** How a transaction of DuckDB's ends. */
interface Settlement {
  commit(): Promise<void>
  rollback(): Promise<void>
  /** Whether `commit` threw what leaves the instance sound. */
  isOrdinary(error: unknown): boolean
}

export class CommitPipeline {
  #options: CommitOptions
  #tail: Promise<void> = Promise.resolve()
  #committedAt = Number.NEGATIVE_INFINITY
  /** Ends with the commit that DuckDB is running now. */
  #current: Promise<void> | undefined
  /** Commits that are still to go by before one may go ahead. */
  #wary = 0

  constructor(options: CommitOptions) {
    this.#options = options
  }

  /** When the last transaction was, `performance.now()`. */
  get committedAt(): number {
    return this.#committedAt
  }

  /** A commit is under way, or not durable yet. */
  get isCommitting(): boolean {
    const { writer } = this.#options
    return this.#current !== undefined || writer.durableSeq < writer.nextSeq - 1
  }

  get writer(): JournalWriter {
    return this.#options.writer
  }

  /** Runs `work` while no transaction commits. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    const previous = this.#tail
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#tail = promise
    await previous
    this.#current = promise
    try {
      return await work()
    } finally {
      this.#current = undefined
      resolve()
    }
  }

  /**
   * Commits the open transaction of `connection` and queues its journal transactions, one or, where clients share it, several. Resolves with the last seq once DuckDB has committed; it is
   * durable when `barrier()` resolves. `plain`: DuckDB has little to do but for its rows. Throws SqlError after an ordinary failure (rolled back): 53100, 23505, 40001 ….
   */
  commit(connection: Connection, group: readonly EncodedTransaction[], plain: boolean, guard?: CommitGuard): Promise<number> {
    const rollback = () => this.#rollback(connection)
    const small = plain && rowsOf(group) <= fewRows && !group.some(({ spilled }) => spilled)
    const commit = () => (small ? connection.runBriefly('COMMIT') : connection.runAlone('COMMIT'))
    return this.#settle(group, { commit, rollback, isOrdinary: isOrdinaryAtCommit }, guard)
  }

  /** The same for several journal transactions of what one statement writes, and DuckDB commits by itself; resolves with the last seq. */
  commitStatement(group: readonly EncodedTransaction[], statement: () => Promise<void>): Promise<number> {
    return this.#settle(group, { commit: statement, rollback: async () => {}, isOrdinary: isOrdinaryAlone })
  }

  #settle(group: readonly EncodedTransaction[], { commit, rollback, isOrdinary }: Settlement, guard?: CommitGuard): Promise<number> {
    return this.alone(async () => {
      const { writer, suspect, now } = this.#options
      try {
        guard?.check()
      } catch (error) {
        await rollback()
        throw error
      }
      step('COMMIT:RESERVE')
      try {
        this.#requireSpace(group)
        writer.reserve(group)
      } catch (error) {
        await rollback()
        throw new SqlError('53100', messageOf(error), { hint: error instanceof DaemonGuardError ? error.hint : undefined, cause: error })
      }
      const ahead = this.#goAhead(group)
      step('COMMIT:DUCKDB')
      try {
        await commit()
      } catch (error) {
        if (!isOrdinary(error)) {
          // Else the next engine would replay what this one dies of.
          if (ahead !== undefined)
            await within(
              ahead.withdraw().catch(() => {}),
              longestWithdrawal,
              systemClock,
            )
          suspect(`COMMIT failed: ${messageOf(error)}`)
        }
        this.#wary = wary
        await ahead?.withdraw()
        await rollback()
        throw toSqlError(error)
      }
      step('COMMIT:APPEND')
      try {
        const time = now()
        let seq = ahead?.confirm() ?? 0
        if (ahead === undefined) for (const encoded of group) seq = writer.append(encoded, time)
        guard?.committed(seq)
        this.#committedAt = performance.now()
        step('COMMIT:APPENDED')
        return seq
      } catch (error) {
        // Whoever is told that it failed may do it again.
        return suspect(`a transaction that DuckDB has committed was not journaled: ${messageOf(error)}`)
      }
    })
  }

  /**
   * The journal is given the transaction while DuckDB commits it, where that costs nobody anything: a client that has the engine to itself waits for the longer of the
   * two, not for both. Beside others, who gather meanwhile, it would cost more than it gains.
   */
  #goAhead(group: readonly EncodedTransaction[]): Ahead | undefined {
    const { writer, isOne, now } = this.#options
    const [only] = group
    if (this.#wary > 0) {
      this.#wary--
      return undefined
    }
    if (only === undefined || group.length > 1 || only.spilled || only.rows > fewRows || !writer.isIdle || !isOne()) return undefined
    return writer.writeAhead(only, now())
  }

  #requireSpace(group: readonly EncodedTransaction[]): void {
    const { directory } = this.#options
    if (rowsOf(group) < rowGroupRows || freeBytes(directory) >= leastFreeBytes) return
    throw new DaemonGuardError(`the disk of the database is full (${directory}): it has no room for so many rows`, {
      hint: `free space on it, or commit fewer than ${rowGroupRows} rows at a time`,
    })
  }

  /** Commits a transaction that takes no seq: the engine's own schema, or one without changes. */
  commitOwn(connection: Connection): Promise<void> {
    return this.alone(async () => {
      step('COMMIT:OWN')
      try {
        await connection.runAlone('COMMIT')
      } catch (error) {
        if (!isOrdinaryAtCommit(error)) this.#options.suspect(`COMMIT failed: ${messageOf(error)}`)
        await this.#rollback(connection)
        throw toSqlError(error)
      }
    })
  }

  /**
   * R4's read barrier: undefined when all that anybody could have seen is durable; else resolves when it is. A COMMIT that is under way
   * counts: others see it before its promise resolves. `seq`: nobody could have seen what is later.
   */
  barrier(seq?: number): Promise<void> | undefined {
    const { writer } = this.#options
    if (seq !== undefined) return seq <= writer.durableSeq ? undefined : writer.durable(seq)
    if (!this.isCommitting) return undefined
    const durable = () => writer.durable(writer.nextSeq - 1)
    return this.#current === undefined ? durable() : this.#current.then(durable)
  }

  async #rollback(connection: Connection): Promise<void> {
    // DuckDB may have ended the transaction itself.
    await connection.runAlone('ROLLBACK').catch(() => {})
  }
}

function rowsOf(group: readonly EncodedTransaction[]): number {
  return group.reduce((sum, { rows }) => sum + rows, 0)
}
