/** All that a database is, as text: catalog, positions of sequences, and every row. Two databases are equal when these are. */

import type pg from 'pg'
import { type Row, rowsOf } from '../../support/engine.ts'

const catalogQueries: Readonly<Record<string, string>> = {
  schemas: 'SELECT schema_name, comment FROM duckdb_schemas() WHERE database_name = current_database()',
  tables:
    "SELECT schema_name, table_name, sql, comment FROM duckdb_tables() WHERE database_name = current_database() AND schema_name <> 'daemonguard'",
  columns:
    "SELECT schema_name, table_name, column_index, column_name, data_type, is_nullable, column_default, comment FROM duckdb_columns() WHERE database_name = current_database() AND schema_name <> 'daemonguard' AND NOT internal",
  indexes: 'SELECT schema_name, table_name, index_name, sql, comment FROM duckdb_indexes() WHERE database_name = current_database()',
  views: 'SELECT schema_name, view_name, sql, comment FROM duckdb_views() WHERE database_name = current_database() AND NOT internal',
  // Its START is the value that comes next.
  sequences: 'SELECT schema_name, sequence_name, sql FROM duckdb_sequences() WHERE database_name = current_database()',
  types:
    'SELECT schema_name, type_name, logical_type, labels FROM duckdb_types() WHERE database_name = current_database() AND NOT internal',
  macros:
    'SELECT schema_name, function_name, parameters, macro_definition FROM duckdb_functions() WHERE database_name = current_database() AND NOT internal',
}

export type State = Record<string, string[]>

export async function stateOf(client: pg.Client): Promise<State> {
  const state: State = {}
  for (const [kind, sql] of Object.entries(catalogQueries)) state[kind] = lines(await rowsOf(client, sql))
  const tables = await rowsOf(
    client,
    "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() AND schema_name <> 'daemonguard'",
  )
  for (const [schema, table] of tables) {
    const columns = await rowsOf(
      client,
      `SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = ${quote(schema)} AND table_name = ${quote(table)} ORDER BY column_index`,
    )
    const list = columns.flatMap(([name, type]) => [
      `${identifier(name)}::VARCHAR`,
      ...(typeof type === 'string' && /^UNION\(.*\)$/s.test(type) ? [`union_tag(${identifier(name)})::VARCHAR`] : []),
    ])
    state[`rows of ${schema}.${table}`] = lines(
      await rowsOf(client, `SELECT ${list.join(', ')} FROM ${identifier(schema)}.${identifier(table)}`),
    )
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
  return rows.map((row) => JSON.stringify(row)).sort()
}

function quote(text: string | null | undefined): string {
  return `'${(text ?? '').replaceAll("'", "''")}'`
}

function identifier(name: string | null | undefined): string {
  return `"${(name ?? '').replaceAll('"', '""')}"`
}
