/**
 * The first to commit wins a row. DuckDB does not see to it: it commits an UPDATE of a row that another transaction has deleted meanwhile
 * (the update is gone without a word), and two updates of different columns of one row (each image then has an old value of the other's).
 * Here the later one gets 40001. By key, or by table where a transaction has changed very many rows.
 */

import type { Cell, Change, Rows, Table } from '../journal/types.ts'
import { SqlError } from './sql-error.ts'
import type { Transaction } from './transaction.ts'

/** A transaction that changes more rows of a table than this counts as changing all of them. */
const mostKeys = 10_000

/** 40001: another transaction has changed the same row, or is about to. */
export class RowConflict extends SqlError {
  /** The other one is over, or will be at once. */
  readonly isBrief: boolean

  constructor(message: string, isBrief: boolean) {
    super('40001', message, { hint: 'try again' })
    this.isBrief = isBrief
  }
}

/** Keys of the rows that were there before and that a transaction changed or deleted, by table. */
export class WrittenRows {
  #keys = new Map<string, Set<string> | 'all'>()

  get isEmpty(): boolean {
    return this.#keys.size === 0
  }

  /** Keys by table; 'all': too many to tell. */
  get tables(): ReadonlyMap<string, ReadonlySet<string> | 'all'> {
    return this.#keys
  }

  /** Whether it has changed that row, or may have. */
  has(table: string, key: string): boolean {
    const keys = this.#keys.get(table)
    return keys === 'all' || (keys?.has(key) ?? false)
  }

  add(change: Change): void {
    if (change.kind !== 'update' && change.kind !== 'upsert' && change.kind !== 'delete') return
    const { rows } = change
    const name = keyedName(change.table)
    const keys = this.#keys.get(name) ?? new Set<string>()
    if (keys === 'all') return
    if (keys.size + rows.count > mostKeys) return void this.#keys.set(name, 'all')
    this.#keys.set(name, keys)
    for (let row = 0; row < rows.count; row++) keys.add(keyOf(change, row))
  }

  /** A table of which both have the same row. */
  sharedWith(other: WrittenRows): string | undefined {
    for (const [table, keys] of this.#keys) {
      const others = other.#keys.get(table)
      if (others === undefined) continue
      if (keys === 'all' || others === 'all') return shownName(table)
      const [few, many] = keys.size < others.size ? [keys, others] : [others, keys]
      for (const key of few) if (many.has(key)) return shownName(table)
    }
    return undefined
  }
}

/** A table's name as no other one's: a name may have any character but this. */
export function keyedName({ schema, name }: Table): string {
  return `${schema}\0${name}`
}

function shownName(keyed: string): string {
  return keyed.replace('\0', '.')
}

/** The text of the key of a row that was changed or deleted: two rows of a table have two. */
export function keyOf({ kind, table, rows }: RowChange, row: number): string {
  if (kind === 'delete') return rows.columns.map((column) => cellText(column[row] as Cell)).join('\0')
  return rowKey(table, rows, row)
}

/** The same of whole rows. */
export function rowKey({ primaryKey }: Table, rows: Rows, row: number): string {
  return primaryKey.map((i) => cellText(rows.columns[i]?.[row] as Cell)).join('\0')
}

type RowChange = Extract<Change, { kind: 'update' | 'upsert' | 'delete' }>

/** A cell of a key, as a text of its own. */
export function cellText(cell: Cell): string {
  return cell instanceof Uint8Array ? Buffer.from(cell).toString('latin1') : String(cell)
}

export class RowConflicts {
  /** Transactions that have a snapshot. */
  #open = new Set<Transaction>()
  #lastChange = 0
  #lastChanges = new Map<string, number>()
  /** What was committed and is newer than the oldest of them, in order of seq. */
  #recent: { readonly seq: number; readonly written: WrittenRows }[] = []

  opened(transaction: Transaction): void {
    this.#open.add(transaction)
  }

  closed(transaction: Transaction): void {
    this.#open.delete(transaction)
    if (this.#recent.length === 0) return
    const oldest = Math.min(...[...this.#open].map(({ startSeq }) => startSeq))
    const first = this.#recent.findIndex(({ seq }) => seq > oldest)
    this.#recent = first === -1 ? [] : this.#recent.slice(first)
  }

  /** Throws 40001 when another transaction has changed one of the same rows, and committed, since this one began. Nobody may commit meanwhile. */
  check(transaction: Transaction): void {
    if (transaction.written.isEmpty) return
    for (const { seq, written } of this.#recent) {
      const table = seq > transaction.startSeq ? written.sharedWith(transaction.written) : undefined
      if (table === undefined) continue
      throw new RowConflict(`another transaction has changed the same row of ${table}`, true)
    }
  }

  /** Whether another transaction has changed that row, and committed, since this one began. */
  hasChanged(transaction: Transaction, table: Table, key: string): boolean {
    const name = keyedName(table)
    return this.#recent.some(({ seq, written }) => seq > transaction.startSeq && written.has(name, key))
  }

  /** Throws 40001 when another transaction that is open has changed that row: DuckDB would say so as well. */
  checkOpen(transaction: Transaction, table: Table, key: string): void {
    const name = keyedName(table)
    for (const other of this.#open) {
      if (other === transaction || !other.written.has(name, key)) continue
      throw new RowConflict(`another transaction changes the same row of ${shownName(name)}`, other.isBrief)
    }
  }

  /** Seq of the last commit that changed or deleted rows, or changed the schema. DuckDB keeps it from the file while an older snapshot is open. */
  get lastChange(): number {
    return this.#lastChange
  }

  /** The same of one table's rows. */
  lastChangeOf(table: Table): number {
    return this.#lastChanges.get(keyedName(table)) ?? 0
  }

  committed(transaction: Transaction, seq: number): void {
    for (const table of transaction.written.tables.keys()) this.#lastChanges.set(table, seq)
    if (!transaction.written.isEmpty || transaction.schemaChanged) this.#lastChange = seq
    if (!transaction.written.isEmpty && this.#open.size > 1) this.#recent.push({ seq, written: transaction.written })
  }
}
