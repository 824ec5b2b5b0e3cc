/** One client transaction while it is open: its changes so far, its pass at the gate, and what it saw of the database. */

import { codeOf } from '../errors.ts'
import type { PackedRows } from '../journal/packed.ts'
import { type EncodedTransaction, TransactionEncoder } from '../journal/record.ts'
import type { SpillSource } from '../journal/spill.ts'
import { bytesOf, type Cell, type Change, type Table } from '../journal/types.ts'
import type { TableInfo } from './catalog.ts'
import type { Pass } from './gate.ts'
import { InsertedKeys } from './inserted-keys.ts'
import { keyedName, WrittenRows } from './row-conflicts.ts'
import { KnownRows } from './row-images.ts'
import { SqlError } from './sql-error.ts'

/** ms */
const young = 1_000
/** Plain rows that are kept: they tell of parents, of which there are few. */
const mostPlainRows = 64

/** A statement that DuckDB has not been told of, since what comes of it is known (held-statements.ts). */
export interface HeldStatement {
  readonly info: TableInfo
  /** The row after it, all columns. */
  readonly cells: readonly Cell[]
  /** As it goes to the journal. */
  readonly change: Extract<Change, { kind: 'insert' | 'update' | 'upsert' }>
  /** Has DuckDB do it in this transaction, which it has begun. Throws SqlError; also where something else comes of it. */
  run(): Promise<void>
}

/** A key that nobody else is foreseen to insert while this stands; only the end of its transaction takes it away. */
export interface Claim {
  readonly table: Table
  readonly key: bigint
  /** Nobody has it but by this claim: it is free again after a rollback. */
  isFree: boolean
}

export class Transaction {
  readonly pass: Pass = { mode: 'none' }
  /** True for BEGIN … COMMIT; false for one that a single statement or an extended-query cycle needs. */
  explicit: boolean
  schemaChanged = false
  /** When it was opened, `performance.now()`. */
  readonly openedAt = performance.now()
  /** DuckDB has ended it. */
  ended = false
  /** Sequence positions that it journals, by `schema.name`. */
  readonly drawn = new Map<string, bigint>()
  /** Rows that it changed or deleted. */
  written = new WrittenRows()
  /** Those of them whose image is known. */
  known = new KnownRows()
  /** Keys that it inserted, by keyedName of their table. */
  readonly inserted = new Map<string, InsertedKeys>()
  /** Plain rows that DuckDB has taken, all columns. */
  readonly plainRows: { readonly info: TableInfo; readonly cells: readonly Cell[] }[] = []
  /** Keys that it was foreseen to have inserted, or put rows to, when it commits (foresight.ts). */
  readonly claims: Claim[] = []
  /** A statement by itself, which has done all that it does: its commit follows at once. */
  isBrief = false
  /** DuckDB was told that it only reads. */
  readonly readOnly: boolean
  /** DuckDB has been told of changes, or of what may be some: only there can it be committed. */
  changing = false
  #begun = false
  #held: HeldStatement[] = []
  #heldBytes = 0
  #snapshot: { readonly seq: number; readonly catalogVersion: number } | undefined
  #seen: { readonly seq: number; readonly catalogVersion: number } | undefined
  #encoder: TransactionEncoder | undefined
  #spills: SpillSource

  constructor(explicit: boolean, spills: SpillSource, readOnly = false) {
    this.explicit = explicit
    this.readOnly = readOnly
    this.#spills = spills
  }

  /** DuckDB has begun it. */
  get begun(): boolean {
    return this.#begun
  }

  /** Statements of which DuckDB has not been told. */
  get held(): readonly HeldStatement[] {
    return this.#held
  }

  /** Bytes of them, roughly. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  hold(statement: HeldStatement): void {
    this.#held.push(statement)
    this.#heldBytes += bytesOf(statement.change.rows)
    this.written.add(statement.change)
  }

  /** Nothing is held back any more: the caller has it, and has DuckDB do it. */
  release(): readonly HeldStatement[] {
    const held = this.#held
    // The images are those of after, and DuckDB has the rows as they are before.
    this.known = new KnownRows()
    this.changing = true
    this.#held = []
    this.#heldBytes = 0
    return held
  }

  /** DuckDB has begun it now: what was held back depends on nothing that was committed before. */
  begin(): void {
    this.#begun = true
    this.#seen = undefined
    this.written = new WrittenRows()
  }

  /** What had been committed before its first statement, which DuckDB may have taken its snapshot for. Later calls change nothing. */
  see(seq: number, catalogVersion: number): void {
    this.#seen ??= { seq, catalogVersion }
  }

  /** DuckDB takes its snapshot now, if it has none: what had been committed then. */
  look(seq: number, catalogVersion: number): void {
    this.#snapshot ??= { seq, catalogVersion }
  }

  /** Every commit after this seq is later than its snapshot; undefined before there is one. */
  get snapshotSeq(): number | undefined {
    return this.#snapshot?.seq
  }

  /** Every seq up to this one is in its snapshot. */
  get startSeq(): number {
    return this.#seen?.seq ?? 0
  }

  /** Version of the schema in its snapshot; undefined before there is one. */
  get snapshotVersion(): number | undefined {
    return this.#snapshot?.catalogVersion
  }

  /** The oldest version of the schema that may be the one in its snapshot; -1 before its first statement. */
  get catalogVersion(): number {
    return this.#seen?.catalogVersion ?? -1
  }

  /** Its COMMIT is as small as its rows are few: after a long time DuckDB cleans up then what the transaction has kept from being cleaned up. */
  get isPlain(): boolean {
    return !this.schemaChanged && performance.now() - this.openedAt < young
  }

  get hasChanges(): boolean {
    return this.#encoder !== undefined
  }

  /** Throws SqlError 53100 when its images must go to disk and the disk is full. */
  add(change: Change): void {
    if ('rows' in change && change.rows.count === 0) return
    this.#encoder ??= new TransactionEncoder(this.#spills)
    onDisk(() => this.#encoder?.add(change))
    this.written.add(change)
    if (change.kind === 'insert' || change.kind === 'upsert') this.#insertedInto(change.table).add(change.table, change.rows)
    // Whoever knows the image says so afterwards.
    this.known.forgetChanged(change)
  }

  /** An insert of rows that are bytes already. Throws as `add` does. */
  addPacked(table: Table, rows: PackedRows): void {
    if (rows.count === 0) return
    this.#encoder ??= new TransactionEncoder(this.#spills)
    onDisk(() => this.#encoder?.addPacked(table, rows))
    this.#insertedInto(table).addUnknown()
  }

  /** A row of a plain insert, which was added as any other. */
  notePlainRow(info: TableInfo, cells: readonly Cell[]): void {
    if (this.plainRows.length < mostPlainRows) this.plainRows.push({ info, cells })
  }

  #insertedInto(table: Table): InsertedKeys {
    const name = keyedName(table)
    const keys = this.inserted.get(name) ?? new InsertedKeys()
    this.inserted.set(name, keys)
    return keys
  }

  /** To be awaited between additions of very many rows: the disk must keep up. */
  async keepUp(): Promise<void> {
    await onDisk(() => this.#encoder?.keepUp())
  }

  /** Its changes as they go to the journal; nothing can be added after. What is too large for memory is durable then. */
  async finish(): Promise<EncodedTransaction> {
    const encoder = this.#encoder ?? new TransactionEncoder()
    await onDisk(() => encoder.seal())
    return encoder.finish()
  }

  /** It will not be committed: leaves nothing behind. What the disk does not let go of is removed at the engine's next start. */
  async discard(): Promise<void> {
    try {
      await this.#encoder?.discard()
    } catch (error) {
      if (codeOf(error) === undefined) throw error
    }
  }
}

/** Nothing was committed yet: whatever the disk says ends the statement, or the COMMIT, and no more. */
function onDisk<T>(work: () => T): T {
  const told = (error: unknown): never => {
    const code = codeOf(error)
    if (code === undefined) throw error
    const full = ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code)
    throw new SqlError(full ? '53100' : '58030', `the changes of this transaction could not be written to the journal’s disk: ${code}`, {
      hint: full ? 'free space on the journal disk, or commit in smaller parts' : 'daemonguard status',
    })
  }
  try {
    const result = work()
    return result instanceof Promise ? (result.catch(told) as T) : result
  } catch (error) {
    return told(error)
  }
}
