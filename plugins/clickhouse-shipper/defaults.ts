/**
 * Defaults of added columns. `ALTER TABLE … ADD COLUMN … DEFAULT 5` gives old rows a 5 in DuckDB, and no row image says so: the column must have
 * the same default in ClickHouse, where it is added only when the table's next row comes, maybe after a restart. So they are remembered in the state.
 */

import { type Transaction, tableName } from '../../agent/journal/types.ts'
import { schemaEffect } from '../../agent/schema-change.ts'

/** DEFAULT texts, by `schema.table`, then column. */
export type Defaults = Readonly<Record<string, Readonly<Record<string, string>>>>

/** `known` with what the transactions' schema changes add. `noConstant` is told of defaults that no constant can stand for. */
export function withNewDefaults(
  known: Defaults,
  transactions: readonly Transaction[],
  noConstant: (table: string, column: string) => void,
): Defaults {
  const defaults: Record<string, Readonly<Record<string, string>>> = { ...known }
  for (const { changes } of transactions) {
    for (const change of changes) {
      if (change.kind !== 'schema') continue
      const effect = schemaEffect(change)
      if (effect.kind === 'emptied') for (const table of effect.tables) delete defaults[tableName(table)]
      if (effect.kind !== 'column-added' || effect.defaultText === null || /^NULL\b/i.test(effect.defaultText)) continue
      const text = constantText(effect.defaultText)
      const table = tableName(effect.table)
      if (text === null) noConstant(table, effect.column)
      else defaults[table] = { ...defaults[table], [effect.column]: text }
    }
  }
  return defaults
}

/** The text of a constant as a CAST reads it, or null. */
export function constantText(sql: string): string | null {
  const match =
    /^(?:CAST\s*\(\s*)?('(?:[^']|'')*'|[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?|true|false)\s*(?:::[\w\s(),]+|AS\s[\w\s(),]+\))?$/i.exec(sql)
  if (match === null) return null
  const text = match[1]!
  return text.startsWith("'") ? text.slice(1, -1).replaceAll("''", "'") : text.toLowerCase()
}
