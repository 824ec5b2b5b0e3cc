/**
 * The net effect of neighbouring transactions, as fewer and larger changes: of each row its last image, of each table one insert, of each
 * sequence its last value. Only what cannot depend on the order within a transaction of DuckDB's is taken: inserts; updates and upserts of columns
 * that need not be unique; deletes from tables that nothing references and whose only key is the primary one. A row that comes back
 * after its delete belongs to the next one.
 *
 * It never changes the images that it is given: where DuckDB refuses the net effect, the transactions are replayed one by one.
 */

import {
  bytesOf,
  type Cell,
  type Change,
  isSpilled,
  itemsOf,
  type Rows,
  type Table,
  type Transaction,
  tableName,
} from '../journal/types.ts'
import { hasUniqueAmong, type TableTies } from './table-ties.ts'

/** Bounds of one net effect. */
const mostTransactions = 5_000
const mostRows = 100_000
const mostBytes = 16 << 20
/** Rows that one statement has changed (not inserted) from which on it gains nothing here. */
const manyRows = 10_000

/** What becomes of a row that was there before, or (upsert) may have been. All columns; of a delete those of the key. */
interface NetRow {
  kind: 'update' | 'upsert' | 'delete'
  cells: readonly Cell[]
  /** Columns that changed, ascending. */
  changed: readonly number[]
}

interface NetTable {
  readonly table: Table
  readonly ties: TableTies
  /** New rows as they came, while nothing else has happened to the table. */
  parts: Rows[]
  /** New rows by key, once something else has. */
  inserted: Map<string, readonly Cell[]> | undefined
  /** Rows that were there, by key. */
  readonly rows: Map<string, NetRow>
}

type RowChange = Extract<Change, { table: Table }>
type SequenceChange = Extract<Change, { kind: 'sequence' }>

export class NetChanges {
  readonly transactions: Transaction[] = []
  #tables = new Map<string, NetTable>()
  #sequences = new Map<string, SequenceChange>()
  #rows = 0
  #bytes = 0

  get isFull(): boolean {
    return this.transactions.length >= mostTransactions || this.#rows >= mostRows || this.#bytes >= mostBytes
  }

  /**
   * Takes in a transaction that need not stay alone (`isAlone`), or returns false: one of those that are in must be committed before it; or, where
   * none is in, it must stay alone after all.
   */
  add(transaction: Transaction, tiesOf: ReadonlyMap<string, TableTies>): boolean {
    const changes = transaction.changes as readonly (RowChange | SequenceChange)[]
    if (this.#comesBack(changes)) return false
    for (const change of changes) {
      if (change.kind === 'sequence') this.#sequences.set(tableName(change), change)
      else {
        this.#take(change, tiesOf.get(tableName(change.table)) as TableTies)
        this.#bytes += bytesOf(change.rows)
      }
    }
    this.transactions.push(transaction)
    this.#rows += itemsOf(transaction)
    return true
  }

  /** The changes that have the same effect: parents before children. */
  changes(): Change[] {
    const changes: Change[] = []
    const done = new Set<string>()
    const visit = (name: string): void => {
      const net = this.#tables.get(name)
      if (net === undefined || done.has(name)) return
      done.add(name)
      for (const parent of net.ties.parents) visit(parent)
      changes.push(...changesOf(net))
    }
    for (const name of this.#tables.keys()) visit(name)
    return [...changes, ...this.#sequences.values()]
  }

  /** Whether one of the changes is of a row that was deleted, or may not be there; by what is in, or by the transaction itself. */
  #comesBack(changes: readonly (RowChange | SequenceChange)[]): boolean {
    const own = new Map<string, Map<string, RowChange['kind']>>()
    const deletes = new Set(changes.flatMap((change) => (change.kind === 'delete' ? [tableName(change.table)] : [])))
    return changes.some((change) => {
      if (change.kind === 'sequence') return false
      const name = tableName(change.table)
      const { rows, inserted } = this.#tables.get(name) ?? {}
      // DuckDB has refused one of the two, or will.
      if (change.kind === 'insert' && inserted !== undefined && keysOf(change).some((key) => inserted.has(key))) return true
      const mine = deletes.has(name) ? (own.get(name) ?? new Map<string, RowChange['kind']>()) : undefined
      if (mine !== undefined) own.set(name, mine)
      if (mine === undefined && (rows === undefined || rows.size === 0)) return false
      return keysOf(change).some((key) => {
        const before = mine?.get(key) ?? rows?.get(key)?.kind
        mine?.set(key, before === 'upsert' && change.kind === 'update' ? before : change.kind)
        if (before === undefined || before === 'insert') return false
        return before === 'delete' || change.kind === 'insert' || (before === 'upsert' && change.kind === 'delete')
      })
    })
  }

  #take(change: RowChange, ties: TableTies): void {
    const name = tableName(change.table)
    const net = this.#tables.get(name) ?? { table: change.table, ties, parts: [], inserted: undefined, rows: new Map<string, NetRow>() }
    this.#tables.set(name, net)
    const { rows } = change
    if (change.kind === 'insert' && net.inserted === undefined) return void net.parts.push(rows)
    const inserted = insertedByKey(net)
    for (const [row, key] of keysOf(change).entries()) {
      const cells = rows.columns.map((column) => column[row] as Cell)
      if (change.kind === 'insert') inserted.set(key, cells)
      else if (change.kind === 'delete') {
        if (!inserted.delete(key)) net.rows.set(key, { kind: 'delete', cells, changed: [] })
      } else if (inserted.has(key)) inserted.set(key, cells)
      else {
        const before = net.rows.get(key)
        const changed = before === undefined ? change.changed : [...new Set([...before.changed, ...change.changed])]
        net.rows.set(key, { kind: before?.kind ?? change.kind, cells, changed: changed.toSorted((a, b) => a - b) })
      }
    }
  }
}

/** Whether a transaction must be replayed by itself, whatever stands beside it. */
export function isAlone(transaction: Transaction, tiesOf: ReadonlyMap<string, TableTies>): boolean {
  const { changes } = transaction
  if (isSpilled(changes)) return true
  return changes.some((change) => {
    if (change.kind === 'sequence') return false
    if (change.kind === 'schema' || ('more' in change && change.more)) return true
    const { table } = change
    const ties = tiesOf.get(tableName(table)) as TableTies
    // DuckDB refuses a row and its parent in one append.
    if (ties.parents.has(tableName(table))) return true
    if (change.kind === 'insert') return false
    if (change.rows.count >= manyRows) return true
    if (!table.primaryKey.every((i) => isComparable(table.columns[i]!.type.kind))) return true
    return change.kind === 'delete' ? ties.isParent || ties.hasUnique : hasUniqueAmong(ties, table, change.changed)
  })
}

/** Equal texts of equal values, other texts of others. */
function isComparable(kind: string): boolean {
  return !['INTERVAL', 'LIST', 'ARRAY', 'STRUCT', 'MAP', 'UNION', 'TIMETZ'].includes(kind)
}

/** By row. */
function keysOf(change: RowChange): string[] {
  const { table, rows } = change
  const columns = change.kind === 'delete' ? rows.columns : table.primaryKey.map((i) => rows.columns[i] as readonly Cell[])
  return Array.from({ length: rows.count }, (_, row) => {
    if (columns.length === 1) return textOf(columns[0]?.[row] as Cell)
    return columns
      .map((column) => textOf(column[row] as Cell))
      .map((text) => `${text.length}:${text}`)
      .join('')
  })
}

function textOf(cell: Cell): string {
  return cell instanceof Uint8Array ? Buffer.from(cell).toString('latin1') : String(cell)
}

function insertedByKey(net: NetTable): Map<string, readonly Cell[]> {
  if (net.inserted !== undefined) return net.inserted
  const inserted = new Map<string, readonly Cell[]>()
  for (const rows of net.parts) {
    const keys = keysOf({ kind: 'insert', table: net.table, rows })
    for (const [row, key] of keys.entries())
      inserted.set(
        key,
        rows.columns.map((column) => column[row] as Cell),
      )
  }
  net.parts = []
  net.inserted = inserted
  return inserted
}

function changesOf({ table, parts, inserted, rows }: NetTable): Change[] {
  const changes: Change[] = parts.map((part) => ({ kind: 'insert', table, rows: part }))
  if (inserted !== undefined && inserted.size > 0) changes.push({ kind: 'insert', table, rows: byColumn([...inserted.values()]) })
  const alike = Map.groupBy(rows.values(), ({ kind, changed }) => `${kind} ${changed.join()}`)
  // Upserts may bring rows that children reference; deletes come last.
  for (const wanted of ['upsert', 'update', 'delete'] as const) {
    for (const group of alike.values()) {
      const [first] = group
      if (first?.kind !== wanted) continue
      const images = byColumn(group.map(({ cells }) => cells))
      changes.push(
        wanted === 'delete' ? { kind: wanted, table, rows: images } : { kind: wanted, table, rows: images, changed: first.changed },
      )
    }
  }
  return changes
}

function byColumn(rows: readonly (readonly Cell[])[]): Rows {
  return { count: rows.length, columns: (rows[0] ?? []).map((_, i) => rows.map((cells) => cells[i] as Cell)) }
}
