/**
 * A batch: the transactions first…last as rows for each target table, in commit order. Building it again from the same transactions gives the
 * same rows in the same order, whenever and by whichever process: what a server has of it can be told by counting.
 *
 * A keyed table gets the last image of each key in the batch (its rows have different keys, so no merge takes one of them away
 * while the batch is under way); a keyless table and `<table>_changes` get every row.
 *
 * A transaction that is too large for memory comes in slices, a batch each: whole changes in order, cut anew only behind the last one that was begun.
 */

import { cellText } from '../../agent/cell-text.ts'
import type { Cell, Change, Table, Transaction } from '../../agent/journal/types.ts'

export type Operation = Exclude<Change['kind'], 'schema' | 'sequence'>

export interface BatchRow {
  readonly seq: number
  /** Commit time, ms. */
  readonly time: number
  /** The table as this change saw it. */
  readonly table: Table
  /** Row number in the transaction and table, from 1. */
  readonly number: number
  readonly operation: Operation
  /** All columns; of a delete, the key alone (in key order). */
  readonly cells: readonly Cell[]
}

/** `latest`: the latest image of each key; `keyless`: every row; `history`: every change. */
export type TargetKind = 'latest' | 'keyless' | 'history'

export interface Part {
  readonly target: string
  readonly kind: TargetKind
  readonly rows: readonly BatchRow[]
  /** Each version of the source table that the rows have, oldest first. */
  readonly versions: readonly Table[]
}

export interface BatchSettings {
  readonly selected: (table: { readonly schema: string; readonly name: string }) => boolean
  readonly history: boolean
}

/** The target of a source table: tables of schema `main` keep their name, others are `schema.name` (one name, with a dot in it). */
export function targetName(table: { readonly schema: string; readonly name: string }): string {
  return table.schema === 'main' ? table.name : `${table.schema}.${table.name}`
}

/** The parts, in the order in which the tables first appear. Throws when two tables would share a target. `numbered`: rows of earlier slices, by target. */
export function buildParts(transactions: readonly Transaction[], settings: BatchSettings, numbered?: Map<string, number>): Part[] {
  const parts = new Map<
    string,
    { part: Omit<Part, 'rows' | 'versions'>; source: string; rows: Map<string, BatchRow>; versions: Set<Table> }
  >()
  function add(target: string, kind: TargetKind, row: BatchRow): void {
    const source = JSON.stringify([row.table.schema, row.table.name])
    let entry = parts.get(target)
    if (entry === undefined) {
      entry = { part: { target, kind }, source, rows: new Map(), versions: new Set() }
      parts.set(target, entry)
    }
    if (entry.source !== source || entry.part.kind !== kind)
      throw new Error(`two tables would be shipped to ${target}: rename one, or leave it out with tables`)
    const key = kind === 'latest' ? keyOf(row) : `${row.seq}:${row.number}`
    entry.rows.delete(key) // the newer image takes its place at the end
    entry.rows.set(key, row)
    entry.versions.add(row.table)
  }
  const canonical = oneObjectPerVersion()
  for (const { seq, time, changes } of transactions) {
    const numbers = numbered ?? new Map<string, number>()
    for (const change of changes) {
      if (!('rows' in change) || !settings.selected(change.table)) continue
      const table = canonical(change.table)
      const target = targetName(table)
      const keyless = table.primaryKey.length === 0
      for (let r = 0; r < change.rows.count; r++) {
        const number = (numbers.get(target) ?? 0) + 1
        numbers.set(target, number)
        const row: BatchRow = {
          seq,
          time,
          table,
          number,
          operation: change.kind,
          cells: change.rows.columns.map((column) => column[r] ?? null),
        }
        add(target, keyless ? 'keyless' : 'latest', row)
        if (settings.history) add(`${target}_changes`, 'history', row)
      }
    }
  }
  return [...parts.values()].map(({ part, rows, versions }) => ({ ...part, rows: [...rows.values()], versions: [...versions] }))
}

/** Changes of a slice; a change is at most about 1 MB. */
const sliceChanges = 32

export interface SlicePart {
  readonly from: number
  readonly to: number
  readonly transaction: Transaction
}

/** The slices of a transaction, of about `rows` rows; the first is `begun`, where it is given, exactly, and `pass` gets the changes before it. */
export function* slices(
  { seq, time, changes }: Transaction,
  rows: number,
  begun: { readonly from: number; readonly to: number } | undefined,
  pass: (change: Change) => void,
): Generator<SlicePart> {
  let taken: Change[] = []
  let from = 0
  let at = 0
  for (const change of changes) {
    at += 'rows' in change ? change.rows.count : 0
    if (begun !== undefined && at <= begun.from) {
      pass(change)
      from = at
      continue
    }
    taken.push(change)
    const full = begun !== undefined && from === begun.from ? at >= begun.to : at - from >= rows || taken.length >= sliceChanges
    if (!full) continue
    yield { from, to: at, transaction: { seq, time, changes: taken } }
    taken = []
    from = at
  }
  if (taken.length > 0) yield { from, to: at, transaction: { seq, time, changes: taken } }
}

/** The reader makes a table object for every change; equal ones become one. */
function oneObjectPerVersion(): (table: Table) => Table {
  const known = new Map<string, Table>()
  return (table) => {
    const signature = JSON.stringify([table.schema, table.name, table.columns, table.primaryKey])
    const first = known.get(signature)
    if (first !== undefined) return first
    known.set(signature, table)
    return table
  }
}

/** The cells of a row by column index; of a delete only those of the key. */
export function cellAt(row: BatchRow, column: number): Cell | undefined {
  if (row.operation !== 'delete') return row.cells[column] ?? null
  const at = row.table.primaryKey.indexOf(column)
  return at === -1 ? undefined : (row.cells[at] ?? null)
}

function keyOf(row: BatchRow): string {
  return JSON.stringify(
    row.table.primaryKey.map((column) => cellText(cellAt(row, column) as Exclude<Cell, null>, row.table.columns[column]!.type)),
  )
}
