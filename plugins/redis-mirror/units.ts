/**
 * Cuts journal transactions into atomic units for Redis: small transactions together, a transaction whole as long as it is not huge, and
 * a huge one in parts of a fixed size (Redis runs a unit in one go and serves nobody else meanwhile).
 * The items of a transaction (rows and schema changes) are numbered the same way every time, so that a part can be resumed after a crash.
 */

import { cellText } from '../../agent/cell-text.ts'
import { type Cell, type Change, itemsOf, type Table, type Transaction, tableName } from '../../agent/journal/types.ts'
import { type SchemaEffect, schemaEffect } from '../../agent/schema-change.ts'
import { encodeRow, encodeTable, type Keys, keyText } from './row.ts'
import type { Position, Unit } from './script.ts'

export interface Limits {
  /** Transactions are put together up to so many rows. */
  readonly together: number
  /** A transaction of more rows is applied in parts of this many. */
  readonly whole: number
  /** Characters of operations after which a unit ends, wherever it is. */
  readonly characters: number
}

export const defaultLimits: Limits = { together: 2_000, whole: 20_000, characters: 32_000_000 }

/** `before`: work over all keys of a table, which no script can do; it is repeated after a crash and must come before the unit. */
export interface Step {
  readonly unit: Unit
  readonly before: SchemaEffect | null
}

export interface UnitSettings {
  readonly keys: Keys
  readonly selected: (table: { readonly schema: string; readonly name: string }) => boolean
  /** Row images live so long after their commit, ms. */
  readonly retention: number
  readonly now: () => number
  readonly limits: Limits
  /** Tables whose definition Redis has, by key: JSON. Filled here; cleared by the owner when Redis may have lost them. */
  readonly knownTables: Map<string, string>
}

/** The units of `transactions`, to be applied one after the other; the first continues at `position`. */
export function* units(transactions: readonly Transaction[], position: Position, settings: UnitSettings): Generator<Step> {
  let from = position
  let open = emptyUnit()
  let last: Transaction | undefined
  function close(seq: number, part: number, time: number): Step {
    const unit: Unit = { from, to: { seq, part, time }, operations: open.operations, rows: open.rows }
    const step: Step = { unit, before: open.before }
    from = { seq, part }
    open = emptyUnit()
    return step
  }
  for (const transaction of transactions) {
    const rows = itemsOf(transaction)
    const huge = rows > settings.limits.whole
    // A huge transaction starts a unit of its own, so that its parts do not depend on what came with it.
    if (last !== undefined && (huge || open.rows + rows > settings.limits.together)) yield close(last.seq, 0, last.time)
    const base = transaction.seq - 1
    const skip = position !== null && position.part > 0 && position.seq === base ? position.part : 0
    let item = 0
    const numbers = new Map<string, number>()
    let index = -1
    for (const change of transaction.changes) {
      index++
      const effect = change.kind === 'schema' ? schemaEffect(change) : null
      if (effect !== null && touchesKeys(effect) && item >= skip) {
        if (open.rows > 0 || open.before !== null) yield item > 0 ? close(base, item, transaction.time) : close(last!.seq, 0, last!.time)
        open.before = effect
        forget(effect, settings)
      }
      for (const operations of itemOperations(change, index, transaction, numbers, settings)) {
        if (item >= skip) {
          const full = (huge && open.rows >= settings.limits.whole) || open.characters >= settings.limits.characters
          if (full) yield item > 0 || last === undefined ? close(base, item, transaction.time) : close(last.seq, 0, last.time)
          for (const text of operations) {
            open.operations.push(text)
            open.characters += text.length
          }
          open.rows++
        }
        item++
      }
    }
    last = transaction
    if (open.rows >= settings.limits.together) {
      yield close(transaction.seq, 0, transaction.time)
      last = undefined
    }
  }
  if (last !== undefined) yield close(last.seq, 0, last.time)
}

interface OpenUnit {
  operations: string[]
  rows: number
  characters: number
  before: SchemaEffect | null
}

function emptyUnit(): OpenUnit {
  return { operations: [], rows: 0, characters: 0, before: null }
}

function touchesKeys(effect: SchemaEffect): boolean {
  return effect.kind === 'emptied' || effect.kind === 'table-renamed' || effect.kind === 'column-renamed'
}

function forget(effect: SchemaEffect, { keys, knownTables }: UnitSettings): void {
  if (effect.kind === 'emptied') for (const table of effect.tables) knownTables.delete(keys.table(table))
  if (effect.kind === 'table-renamed') knownTables.delete(keys.table(effect.from))
}

/** The operations of each item of a change: one list per row, one for a schema or sequence change. */
function* itemOperations(
  change: Change,
  index: number,
  transaction: Transaction,
  numbers: Map<string, number>,
  settings: UnitSettings,
): Generator<string[]> {
  const { seq, time } = transaction
  const alive = time + settings.retention > settings.now()
  const common = ['seq', String(seq), 'change', String(index), 'op', change.kind]
  if (change.kind === 'schema') {
    yield alive ? entry(time, [...common, 'sql', change.sql, 'search_path', change.searchPath, 'time_zone', change.timeZone]) : []
    return
  }
  if (change.kind === 'sequence') {
    yield alive ? entry(time, [...common, 'sequence', tableName(change), 'value', String(change.value)]) : []
    return
  }
  const { table, rows } = change
  const selected = settings.selected(table)
  const name = tableName(table)
  for (let r = 0; r < rows.count; r++) {
    const number = (numbers.get(name) ?? 0) + 1
    numbers.set(name, number)
    if (!selected) {
      yield []
      continue
    }
    const cells = rows.columns.map((column) => column[r] ?? null)
    const key =
      table.primaryKey.length === 0
        ? `${seq}:${number}`
        : keyText(table, change.kind === 'delete' ? cells : table.primaryKey.map((c) => cells[c] ?? null))
    yield rowOperations(change, cells, key, transaction, alive, common, settings)
  }
}

function rowOperations(
  change: Exclude<Change, { kind: 'schema' | 'sequence' }>,
  cells: readonly Cell[],
  key: string,
  { seq, time }: Transaction,
  alive: boolean,
  common: readonly string[],
  settings: UnitSettings,
): string[] {
  const { table } = change
  const rowKey = settings.keys.row(table, key)
  if (!alive) return ['D', rowKey] // an older image that is still there would be wrong
  const logged = [...common, 'table', tableName(table), 'key', key]
  if (change.kind === 'delete') return ['D', rowKey, ...entry(time, logged)]
  const fields = encodeRow(table, cells, seq, time)
  if ('changed' in change) logged.push('changed', JSON.stringify(change.changed.map((column) => table.columns[column]?.name)))
  logged.push('row', rowJson(table, cells))
  return [
    ...definition(table, seq, settings),
    'S',
    rowKey,
    String(time + settings.retention),
    String(fields.length),
    ...fields,
    ...entry(time, logged),
  ]
}

/** A row image as JSON: column name to text or null. */
function rowJson(table: Table, cells: readonly Cell[]): string {
  return `{${table.columns.map((column, i) => `${JSON.stringify(column.name)}:${textOrNull(cells[i] ?? null, column)}`).join(',')}}`
}

function textOrNull(cell: Cell, column: Table['columns'][number]): string {
  return cell === null ? 'null' : JSON.stringify(cellText(cell, column.type))
}

/** An entry of the stream: seq, change (its number in the transaction), op, then table, key, changed, row · or sql … · or sequence, value. */
function entry(time: number, fields: readonly string[]): string[] {
  return ['X', String(time), String(fields.length), ...fields]
}

const signatures = new WeakMap<Table, string>()

/** Writes the table's definition when Redis does not have it yet. */
function definition(table: Table, seq: number, { keys, knownTables }: UnitSettings): string[] {
  const key = keys.table(table)
  let signature = signatures.get(table)
  if (signature === undefined) {
    signature = JSON.stringify([table.columns, table.primaryKey])
    signatures.set(table, signature)
  }
  if (knownTables.get(key) === signature) return []
  knownTables.set(key, signature)
  const fields = encodeTable(table, seq)
  return ['H', key, String(fields.length), ...fields]
}
