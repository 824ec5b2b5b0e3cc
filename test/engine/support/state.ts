/**
 * All that a database is, as text: catalog, positions of sequences, every row, and what its views answer. Two databases are equal when these
 * are. Only the sign of a zero is not looked at: DuckDB's own CHECKPOINT may store -0.0 as 0.0, which equals it.
 */

import type pg from 'pg'
import { type Row, rowsOf } from '../../support/engine.ts'

const catalogQueries: Readonly<Record<string, string>> = {
  schemas: 'SELECT schema_name, comment FROM duckdb_schemas() WHERE database_name = current_database()',
  tables:
    "SELECT schema_name, table_name, sql, comment FROM duckdb_tables() WHERE database_name = current_database() AND schema_name <> 'daemonguard'",
  constraints:
    "SELECT schema_name, table_name, constraint_type, constraint_text, expression, constraint_column_names, referenced_table, referenced_column_names FROM duckdb_constraints() WHERE database_name = current_database() AND schema_name <> 'daemonguard'",
  indexes:
    'SELECT schema_name, table_name, index_name, is_unique, is_primary, expressions, sql, comment FROM duckdb_indexes() WHERE database_name = current_database()',
  views: 'SELECT schema_name, view_name, sql, comment FROM duckdb_views() WHERE database_name = current_database() AND NOT internal',
  // Its START is the value that comes next.
  sequences: 'SELECT schema_name, sequence_name, sql, comment FROM duckdb_sequences() WHERE database_name = current_database()',
  types:
    'SELECT schema_name, type_name, logical_type, labels, comment FROM duckdb_types() WHERE database_name = current_database() AND NOT internal',
}

const columnsQuery =
  "SELECT schema_name, table_name, column_name, data_type, is_nullable, column_default, comment FROM duckdb_columns() WHERE database_name = current_database() AND schema_name <> 'daemonguard' AND NOT internal ORDER BY table_oid, column_index"
/** DuckDB goes through all of its own functions for it: 50 ms. */
const macrosQuery =
  'SELECT schema_name, function_name, parameters, macro_definition, comment FROM duckdb_functions() WHERE database_name = current_database() AND NOT internal'

export type State = Record<string, string[]>

/** A query's rows as texts. */
export type Ask = (sql: string) => Promise<Row[]>

export function stateOf(client: pg.Client): Promise<State> {
  return stateFrom((sql) => rowsOf(client, sql))
}

/** Without `macros` they are not looked at. */
export async function stateFrom(ask: Ask, { macros = true } = {}): Promise<State> {
  const state: State = {}
  const all = (sql: string) => ask(`SELECT COLUMNS(*)::VARCHAR FROM (${sql})`)
  for (const [kind, sql] of Object.entries(catalogQueries)) state[kind] = lines(await all(sql))
  if (macros) state.macros = lines(await all(macrosQuery))
  const columns = await all(columnsQuery)
  const tables = Map.groupBy(columns, ([schema, table]) => `${identifier(schema)}.${identifier(table)}`)
  for (const [table, list] of tables) {
    state[`columns of ${table}`] = list.map((column) => JSON.stringify(column))
    // A nested value's text does not say which member a UNION holds; its hash does.
    const values = list.flatMap(([, , name, type]) => [
      `${identifier(name)}::VARCHAR`,
      ...(/[[(]/.test(type ?? '') ? [`hash(${identifier(name)})::VARCHAR`] : []),
    ])
    const rows = ask(`SELECT ${values.join(', ')} FROM ${table}`)
    // Of a view that its tables have left behind, both say the same.
    state[`rows of ${table}`] = await rows.then(lines, (error: Error) => [
      error.message.replace(/^\w+ Error: /, '').split('\n')[0] as string,
    ])
  }
  return state
}

/** What differs, short enough to read; '' when nothing does. */
export function difference(expected: State, actual: State): string {
  const parts: string[] = []
  for (const key of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
    const one = expected[key] ?? []
    const other = actual[key] ?? []
    if (one.length === other.length && one.every((line, i) => line === other[i])) continue
    const missing = one.filter((line, i) => line !== other[i] && !other.includes(line))
    const surplus = other.filter((line, i) => line !== one[i] && !one.includes(line))
    const shown = (list: string[]) =>
      list
        .slice(0, 3)
        .map((line) => `    ${line.slice(0, 400)}`)
        .join('\n')
    parts.push(`${key}: ${one.length} expected, ${other.length} found\n  missing:\n${shown(missing)}\n  not expected:\n${shown(surplus)}`)
  }
  return parts.join('\n')
}

function lines(rows: Row[]): string[] {
  return rows.map((row) => JSON.stringify(row).replaceAll(/(?<![\d.])-0\.0(?!\d)/g, '0.0')).sort()
}

function identifier(name: string | null | undefined): string {
  return `"${(name ?? '').replaceAll('"', '""')}"`
}
