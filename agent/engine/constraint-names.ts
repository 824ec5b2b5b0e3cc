/**
 * Names of constraints. DuckDB forgets the name that was written and makes one of its own, which two constraints may share. Written names are
 * kept in the engine's schema; a constraint answers to that, to Postgres' name for it, and to DuckDB's.
 */

import { ownSchema } from './catalog.ts'
import type { Connection } from './duckdb.ts'
import { sameName } from './sql/constraint.ts'
import { quoteString } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import type { Constraint } from './table-shape.ts'

const table = `${ownSchema}.constraint_names`

export const createNames = `CREATE TABLE IF NOT EXISTS ${table} (schema_name VARCHAR, table_name VARCHAR, constraint_name VARCHAR, definition VARCHAR)`

interface Named {
  readonly schema: string
  readonly table: string
}

export function keepName({ schema, table: name }: Named, written: string, definition: string): string {
  return `INSERT INTO ${table} VALUES (${[schema, name, written, definition].map(quoteString).join(', ')})`
}

export function forgetName({ schema, table: name }: Named, definition: string): string {
  return `DELETE FROM ${table} WHERE schema_name = ${quoteString(schema)} AND table_name = ${quoteString(name)} AND definition = ${quoteString(definition)}`
}

/** Written names of a table's constraints, by definition. */
export async function writtenNames(connection: Connection, catalog: string, { schema, table: name }: Named): Promise<Map<string, string>> {
  const [exists] = await connection.all(
    `SELECT 1 FROM duckdb_tables() WHERE database_name = ${quoteString(catalog)} AND schema_name = ${quoteString(ownSchema)} AND table_name = 'constraint_names'`,
  )
  if (exists === undefined) return new Map()
  const rows = await connection.all(
    `SELECT definition, constraint_name FROM ${table} WHERE schema_name = ${quoteString(schema)} AND table_name = ${quoteString(name)}`,
  )
  return new Map(rows.map(([definition, written]) => [String(definition), String(written)]))
}

/** What `name` means on a table; undefined when it means nothing. Throws 42P09 where it could mean several. */
export function constraintNamed(
  name: string,
  on: string,
  constraints: readonly Constraint[],
  written: ReadonlyMap<string, string>,
): Constraint | undefined {
  const named = constraints.find(({ sql }) => sameName(written.get(sql) ?? '', name))
  if (named !== undefined) return named
  const postgres = postgresNames(on, constraints)
  const found = constraints.find((_, i) => sameName(postgres[i] ?? '', name))
  if (found !== undefined) return found
  const own = constraints.filter((constraint) => sameName(constraint.name, name))
  if (own.length > 1) {
    throw new SqlError('42P09', `several constraints of ${on} are called ${name}`, {
      hint: `the same by other names: ${constraints.flatMap((constraint, i) => (own.includes(constraint) ? [postgres[i]] : [])).join(', ')}`,
    })
  }
  return own[0]
}

/** Postgres' own names: `t_a_key`, and a number where that is taken. */
export function postgresNames(on: string, constraints: readonly Constraint[]): string[] {
  const endings = { 'PRIMARY KEY': 'pkey', UNIQUE: 'key', CHECK: 'check', 'FOREIGN KEY': 'fkey' } as const
  const names: string[] = []
  for (const { type, columns } of constraints) {
    const parts = type === 'PRIMARY KEY' || (type === 'CHECK' && columns.length !== 1) ? [on] : [on, ...columns]
    const base = [...parts, endings[type]].join('_')
    let name = base
    for (let number = 1; names.includes(name); number++) name = `${base}${number}`
    names.push(name)
  }
  return names
}
