/**
 * Names of constraints. DuckDB forgets the name that was written and makes one of its own, which two constraints may share. Written names are
 * kept in the engine's schema; a constraint answers to that, to Postgres' name for it, and to DuckDB's.
 */

import { ownSchema } from './catalog.ts'
import type { Connection } from './duckdb.ts'
import { constraintNamesIn, sameName } from './sql/constraint.ts'
import type { SchemaStatement } from './sql/statement.ts'
import { quoteString } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import { type Constraint, readConstraints } from './table-shape.ts'

/** (schema_name, table_name, constraint_name, definition): the written name, and the constraint's text (table-shape.ts). */
export const constraintNames = `${ownSchema}.constraint_names`

export const createNames = `CREATE TABLE IF NOT EXISTS ${constraintNames} (schema_name VARCHAR, table_name VARCHAR, constraint_name VARCHAR, definition VARCHAR)`

interface Named {
  readonly schema: string
  readonly table: string
}

export function keepName({ schema, table: name }: Named, written: string, definition: string): string {
  return `INSERT INTO ${constraintNames} VALUES (${[schema, name, written, definition].map(quoteString).join(', ')})`
}

export function forgetName({ schema, table: name }: Named, definition: string): string {
  return `DELETE FROM ${constraintNames} WHERE schema_name = ${quoteString(schema)} AND table_name = ${quoteString(name)} AND definition = ${quoteString(definition)}`
}

interface KeptName extends Named {
  readonly name: string
  readonly definition: string
}

async function keptNames(connection: Connection, catalog: string): Promise<KeptName[]> {
  // Not in a file whose engine has never served.
  const [exists] = await connection.all(
    `SELECT 1 FROM duckdb_tables() WHERE database_name = ${quoteString(catalog)} AND schema_name = ${quoteString(ownSchema)} AND table_name = 'constraint_names'`,
  )
  if (exists === undefined) return []
  const rows = await connection.all(`SELECT schema_name, table_name, constraint_name, definition FROM ${constraintNames}`)
  return (rows as string[][]).map(([schema, on, name, definition]) => ({ schema, table: on, name, definition }) as KeptName)
}

/** Written names of a table's constraints, by definition. */
export async function writtenNames(connection: Connection, catalog: string, on: Named): Promise<Map<string, string>> {
  const kept = await keptNames(connection, catalog)
  return new Map(kept.filter((row) => isOf(row, on)).map(({ definition, name }) => [definition, name]))
}

function isOf(kept: Named, on: Named): boolean {
  return kept.schema === on.schema && kept.table === on.table
}

/** Tables by an id that an ALTER leaves as it is. */
type Tables = ReadonlyMap<string, { readonly schema: string; readonly name: string }>

/** By schema, then by table. */
type ConstraintsBySchema = ReadonlyMap<string, ReadonlyMap<string, readonly Constraint[]>>

/** What is known of names before a schema change, so that they follow it. */
export class NameKeeper {
  #connection: Connection
  #catalog: string
  #kept: readonly KeptName[]
  #before: ConstraintsBySchema

  private constructor(connection: Connection, catalog: string, kept: readonly KeptName[], before: ConstraintsBySchema) {
    this.#connection = connection
    this.#catalog = catalog
    this.#kept = kept
    this.#before = before
  }

  static async before(connection: Connection, catalog: string): Promise<NameKeeper> {
    const kept = await keptNames(connection, catalog)
    const before = new Map<string, Map<string, Constraint[]>>()
    for (const { schema } of kept) if (!before.has(schema)) before.set(schema, await readConstraints(connection, catalog, schema))
    return new NameKeeper(connection, catalog, kept, before)
  }

  /** After the change: runs, and returns, the statements by which names follow tables and columns that have another name, and new ones are kept. */
  async follow({ verb, object, tokens }: SchemaStatement, before: Tables, after: Tables): Promise<string[]> {
    const statements: string[] = []
    for (const [id, old] of before) {
      const on = { schema: old.schema, table: old.name }
      const kept = this.#kept.filter((row) => isOf(row, on))
      if (kept.length === 0) continue
      const now = after.get(id)
      const moved = now === undefined ? [] : await this.#moved(kept, now)
      if (now !== undefined && moved.every((row, i) => isOf(row, on) && row.definition === kept[i]?.definition)) continue
      statements.push(
        `DELETE FROM ${constraintNames} WHERE schema_name = ${quoteString(old.schema)} AND table_name = ${quoteString(old.name)}`,
      )
      for (const { name, definition, ...to } of moved) statements.push(keepName(to, name, definition))
    }
    const written = verb === 'CREATE' && object === 'TABLE' ? constraintNamesIn(tokens) : []
    const created = [...after].find(([id]) => !before.has(id))?.[1]
    if (written.length > 0 && created !== undefined) {
      const constraints = (await readConstraints(this.#connection, this.#catalog, created.schema)).get(created.name) ?? []
      statements.push(createNames)
      for (const { type, nth, name } of written) {
        const definition = constraints.filter((constraint) => constraint.type === type)[nth]?.sql
        if (definition !== undefined) statements.push(keepName({ schema: created.schema, table: created.name }, name, definition))
      }
    }
    for (const sql of statements) await this.#connection.run(sql)
    return statements
  }

  /** Constraints keep their order when something is renamed. */
  async #moved(kept: readonly KeptName[], now: { schema: string; name: string }): Promise<KeptName[]> {
    const old = this.#before.get(kept[0]?.schema ?? '')?.get(kept[0]?.table ?? '') ?? []
    const constraints = (await readConstraints(this.#connection, this.#catalog, now.schema)).get(now.name) ?? []
    return kept.map((row) => {
      const at = old.findIndex(({ sql }) => sql === row.definition)
      const definition = old.length === constraints.length ? constraints[at]?.sql : undefined
      return { schema: now.schema, table: now.name, name: row.name, definition: definition ?? row.definition }
    })
  }
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
