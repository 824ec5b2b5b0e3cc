/**
 * The transaction block of one session: it begins, commits and rolls back, and keeps the state that Postgres' clients expect. DuckDB answers
 * OK to COMMIT of a transaction that already failed, and rolls back: here the first error ends the transaction at once.
 */

import type { Catalog } from './catalog.ts'
import type { CommitPipeline } from './commit.ts'
import type { Connection } from './duckdb.ts'
import type { Foresight } from './foresight.ts'
import type { WriterGate } from './gate.ts'
import type { ParentLocks } from './parent-locks.ts'
import type { RowConflicts } from './row-conflicts.ts'
import type { RowImages } from './row-images.ts'
import type { SequenceTracker } from './sequences.ts'
import { selectsNumbers, type Token } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import { type HeldStatement, Transaction } from './transaction.ts'
import type { TransactionBuffer } from './transaction-buffer.ts'

/** How long a writer waits for a schema change or a checkpoint, and a schema change for writers. Milliseconds. */
export const gateTimeout = 5_000

export interface BlockContext {
  readonly catalog: Catalog
  readonly gate: WriterGate
  readonly pipeline: CommitPipeline
  readonly locks: ParentLocks
  readonly rows: RowConflicts
  readonly images: RowImages
  readonly foresight: Foresight
  readonly transactions: TransactionBuffer
  readonly sequences: SequenceTracker
}

/** 25006: the user may only read. */
export function readOnlyError(): SqlError {
  return new SqlError('25006', 'this user may read, and change nothing', { hint: 'engine.auth.users in config.yaml: readonly' })
}

type Notice = (severity: string, code: string, message: string) => void

interface BlockOptions {
  readonly readOnly: boolean
  judge(error: unknown): void
  /** How long to wait at the gate, at most, ms; 0: as long as everybody. */
  lockTimeout(): number
  /** Aborts when the statement is to stop. */
  signal(): AbortSignal | undefined
  /** Has DuckDB do what was held back. Throws SqlError. */
  run(held: readonly HeldStatement[], transaction: Transaction): Promise<void>
}

export class Block {
  #context: BlockContext
  #connection: Connection
  #transaction: Transaction | undefined
  /** The one that is being committed or rolled back. */
  #ending: Transaction | undefined
  #failed = false
  #committing = false
  /** An error after which the instance cannot be trusted does not return. */
  #judge: (error: unknown) => void

  /** Every transaction of a user who may only read is one that only reads: DuckDB itself refuses what would change the database. */
  #readOnly: boolean

  #options: BlockOptions

  constructor(context: BlockContext, connection: Connection, options: BlockOptions) {
    this.#options = options
    this.#context = context
    this.#connection = connection
    this.#readOnly = options.readOnly
    this.#judge = options.judge
  }

  /** As ReadyForQuery says it: idle, in a transaction block, in a failed one. */
  get status(): 'I' | 'T' | 'E' {
    if (this.#failed) return 'E'
    return this.#transaction?.explicit ? 'T' : 'I'
  }

  /** A transaction is open, whoever began it. */
  get isOpen(): boolean {
    return this.#transaction !== undefined
  }

  /** What DuckDB has open: also while it is being committed or rolled back. */
  get transaction(): Transaction | undefined {
    return this.#transaction ?? this.#ending
  }

  /** It is being committed or rolled back, and will soon be gone. */
  get isEnding(): boolean {
    return this.#ending !== undefined
  }

  /** A COMMIT is on its way: an interrupt now may hit it although DuckDB has committed, which nobody could tell apart. */
  get isCommitting(): boolean {
    return this.#committing
  }

  /** The open transaction has changed the schema. */
  get schemaChanged(): boolean {
    return this.#transaction?.schemaChanged ?? false
  }

  /** Which version of the catalog a statement sees now; undefined: the open transaction has a schema of its own. */
  get schemaVersion(): number | undefined {
    if (this.schemaChanged) return undefined
    return this.#transaction?.snapshotVersion ?? this.#context.catalog.version
  }

  /** In a block that has failed only its end is accepted: throws 25P02. */
  refuseFailed(kind: string): void {
    if (!this.#failed || kind === 'commit' || kind === 'rollback') return
    throw new SqlError('25P02', 'current transaction is aborted, commands ignored until end of transaction block', { hint: 'ROLLBACK' })
  }

  /** BEGIN. */
  async begin(readOnly: boolean, notice: Notice): Promise<void> {
    if (this.#transaction?.explicit) notice('WARNING', '25001', 'there is already a transaction in progress')
    else if (this.#transaction !== undefined) this.#transaction.explicit = true
    else if (readOnly || this.#readOnly) await this.#open(true, true)
    // Its first statements may be such that DuckDB need not be told of them yet.
    else this.#transaction = new Transaction(true, this.#context.pipeline.writer)
  }

  /** DuckDB begins the open transaction, if there is one and it has not, and does what was held back. Throws SqlError. */
  async start(): Promise<void> {
    if (this.#transaction !== undefined) await this.#start(this.#transaction)
  }

  async #start(transaction: Transaction): Promise<void> {
    if (!transaction.begun) {
      await this.#connection.runBriefly('BEGIN TRANSACTION')
      transaction.begin()
    }
    if (transaction.held.length === 0) return
    this.#see(transaction)
    this.#context.foresight.given(transaction)
    await this.#options.run(transaction.release(), transaction)
  }

  /** For whoever may only read: a statement outside of a block gets a transaction that cannot write either. */
  async forReading(tokens?: readonly Token[]): Promise<void> {
    if (this.#readOnly && this.#transaction === undefined) await this.#open(false, true)
    await this.start()
    this.touch(tokens)
  }

  /** For a statement that writes what is temporary: what it did is taken back where it is refused after all. */
  async forTemporary(): Promise<void> {
    if (this.#transaction === undefined) await this.#open(false, this.#readOnly)
    await this.start()
    this.touch()
    if (this.#transaction !== undefined) this.#transaction.changing = true
  }

  async #open(explicit: boolean, readOnly: boolean): Promise<void> {
    await this.#connection.runBriefly(readOnly ? 'BEGIN TRANSACTION READ ONLY' : 'BEGIN TRANSACTION')
    this.#transaction = new Transaction(explicit, this.#context.pipeline.writer, readOnly)
    this.#transaction.begin()
  }

  /** DuckDB is about to look at the database, for this statement: a transaction that it has open has its snapshot from now on. */
  touch(tokens?: readonly Token[]): void {
    const transaction = this.#transaction
    if (transaction === undefined || !transaction.begun) return
    this.#see(transaction)
    const seq = this.#context.pipeline.writer.nextSeq - 1
    if (tokens === undefined || !selectsNumbers(tokens)) transaction.look(seq, this.#context.catalog.version)
  }

  #see(transaction: Transaction): void {
    transaction.see(this.#context.pipeline.writer.nextSeq - 1, this.#context.catalog.version)
    this.#context.rows.opened(transaction)
  }

  /**
   * The transaction, begun if there is none, let through the gate: its schema cannot change any more. Throws 25006 for a user who may only read, 55P03 when the gate
   * does not open, 40001 when the schema has changed since the transaction first looked at the database.
   */
  async forWriting(mode: 'shared' | 'exclusive'): Promise<Transaction> {
    const transaction = await this.#enter(mode)
    transaction.changing = true
    try {
      await this.#start(transaction)
    } finally {
      this.#transaction = transaction
    }
    this.touch()
    if (transaction.catalogVersion !== this.#context.catalog.version) {
      throw new SqlError('40001', 'the schema has changed since this transaction began', { hint: 'roll back and try again' })
    }
    return transaction
  }

  /**
   * The same for a statement of which DuckDB need not be told before COMMIT, or before it is asked for something else: what comes of it is added to the transaction
   * by `hold`. Undefined where it must be told at once.
   */
  async forHolding(): Promise<Transaction | undefined> {
    if (this.#readOnly || this.#transaction?.readOnly || this.#transaction?.schemaChanged) return undefined
    const transaction = await this.#enter('shared')
    this.#transaction = transaction
    this.#see(transaction)
    return transaction.catalogVersion === this.#context.catalog.version ? transaction : undefined
  }

  async #enter(mode: 'shared' | 'exclusive'): Promise<Transaction> {
    if (this.#readOnly) throw readOnlyError()
    const transaction = this.#transaction ?? new Transaction(false, this.#context.pipeline.writer)
    const patience = Math.min(gateTimeout, this.#options.lockTimeout() || gateTimeout)
    await this.#context.gate.enter(transaction.pass, mode, patience, this.#options.signal())
    return transaction
  }

  /** COMMIT, END, ROLLBACK; returns the command tag. A COMMIT that fails has ended the block. */
  async end(commit: boolean, notice: Notice): Promise<'COMMIT' | 'ROLLBACK'> {
    if (this.#failed) {
      this.#failed = false
      return 'ROLLBACK'
    }
    if (this.#transaction === undefined) {
      notice('WARNING', '25P01', 'there is no transaction in progress')
      return commit ? 'COMMIT' : 'ROLLBACK'
    }
    if (commit) await this.#commit(this.#transaction)
    else await this.rollback()
    return commit ? 'COMMIT' : 'ROLLBACK'
  }

  /** Commits what ran outside of a block. */
  async commitImplicit(): Promise<void> {
    if (this.#transaction !== undefined && !this.#transaction.explicit) await this.#commit(this.#transaction)
  }

  /** After an error: a block has failed until its end comes; anything else is rolled back and over. */
  async abort(): Promise<void> {
    this.#failed ||= this.#transaction?.explicit ?? false
    await this.rollback()
  }

  async rollback(): Promise<void> {
    const transaction = this.#transaction
    if (transaction === undefined) return
    this.#transaction = undefined
    this.#ending = transaction
    try {
      if (!transaction.begun) return
      // DuckDB may have ended it already.
      await this.#connection.runAlone('ROLLBACK').catch((error) => this.#judge(error))
      await transaction.discard()
      if (transaction.pass.mode !== 'none') await this.#keepSequences()
    } finally {
      this.#release(transaction, undefined)
    }
  }

  async #commit(transaction: Transaction): Promise<void> {
    const { pipeline, catalog, sequences, rows, images, foresight } = this.#context
    const guard = {
      check: () => rows.check(transaction),
      committed: (seq: number) => {
        rows.committed(transaction, seq)
        images.committed(transaction, seq)
        foresight.committed(transaction, seq)
      },
    }
    this.#transaction = undefined
    this.#ending = transaction
    this.#committing = true
    let seq: number | undefined
    try {
      const { begun, held, changing } = transaction
      if (held.length > 0 && !changing) seq = await this.#context.transactions.submit(this, transaction)
      if (seq !== undefined && begun) await this.#endReading(transaction)
      if (seq !== undefined || (held.length === 0 && !begun)) return
      await this.#start(transaction)
      if (transaction.pass.mode !== 'none') await sequences.collect(this.#connection, transaction)
      if (transaction.hasChanges) seq = await pipeline.commit(this.#connection, [await transaction.finish()], transaction.isPlain, guard)
      else await pipeline.commitOwn(this.#connection)
      sequences.committed(transaction)
      if (transaction.schemaChanged) {
        catalog.changed()
        await sequences.refresh(this.#connection)
      }
    } catch (error) {
      this.#judge(error)
      // COMMIT may not have been reached.
      if (transaction.begun) await this.#connection.runAlone('ROLLBACK').catch(() => {})
      if (seq === undefined) await transaction.discard()
      throw error
    } finally {
      this.#committing = false
      this.#release(transaction, seq)
    }
  }

  /** DuckDB's own transaction has only read: what it was for has been committed apart from it. */
  async #endReading({ isPlain }: Transaction): Promise<void> {
    const ended = isPlain ? this.#connection.runBriefly('ROLLBACK') : this.#connection.runAlone('ROLLBACK')
    await ended.catch((error) => this.#judge(error))
  }

  /** What was drawn stays drawn after a rollback: the journal must say so as well, or a replay would hand it out again. */
  async #keepSequences(): Promise<void> {
    const { pipeline, sequences } = this.#context
    const transaction = new Transaction(false, pipeline.writer)
    await this.#connection.runBriefly('BEGIN TRANSACTION')
    try {
      await sequences.collect(this.#connection, transaction)
      if (transaction.hasChanges) await pipeline.commit(this.#connection, [await transaction.finish()], transaction.isPlain)
      else await pipeline.commitOwn(this.#connection)
      sequences.committed(transaction)
    } catch (error) {
      this.#judge(error)
      // The next commit keeps them.
      await this.#connection.runAlone('ROLLBACK').catch(() => {})
    }
  }

  #release(transaction: Transaction, seq: number | undefined): void {
    this.#ending = undefined
    transaction.ended = true
    if (seq === undefined) this.#context.foresight.rolledBack(transaction)
    else this.#context.foresight.given(transaction)
    this.#context.locks.release(transaction, seq)
    this.#context.rows.closed(transaction)
    this.#context.gate.leave(transaction.pass)
  }
}
