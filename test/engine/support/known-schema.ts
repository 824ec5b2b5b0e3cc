/** What a random workload knows of the database, and the names, types and values that it makes its statements of. */

import type pg from 'pg'
import { rowsOf } from '../../support/engine.ts'
import type { Random } from '../../support/random.ts'
import { type RandomType, randomType } from './random-types.ts'

export interface KnownColumn {
  readonly name: string
  readonly sql: string
  /** undefined: a type that this workload did not make; NULL is all it can write there. */
  readonly type: RandomType | undefined
  readonly generated: boolean
  readonly inKey: boolean
}

export interface KnownTable {
  /** As SQL. */
  readonly path: string
  readonly columns: readonly KnownColumn[]
  readonly key: readonly KnownColumn[]
  /** Names of its CHECK, UNIQUE and FOREIGN KEY constraints. */
  readonly constraints: readonly string[]
}

export const quote = (name: string) => `"${name.replaceAll('"', '""')}"`

export class KnownSchema {
  readonly random: Random
  tables: readonly KnownTable[] = []
  schemas: readonly string[] = ['main']
  #types = new Map<string, RandomType>()
  #names = 0

  constructor(random: Random) {
    this.random = random
  }

  /** Reads what is there now. */
  async learn(client: pg.Client): Promise<void> {
    const tables = await rowsOf(
      client,
      "SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = current_database() AND schema_name <> 'daemonguard'",
    )
    const columns = await rowsOf(
      client,
      "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() AND schema_name <> 'daemonguard' AND NOT internal ORDER BY table_oid, column_index",
    )
    const constraints = await rowsOf(
      client,
      "SELECT schema_name, table_name, constraint_type, constraint_name, unnest(constraint_column_names) FROM duckdb_constraints() WHERE database_name = current_database() AND constraint_type <> 'NOT NULL'",
    )
    this.tables = (tables as string[][]).map(([schema, table, text]) => {
      const ofTable = ([s, t]: readonly unknown[]) => s === schema && t === table
      const own = constraints.filter(ofTable)
      const list = (columns as string[][]).filter(ofTable).map(([, , name, sql]): KnownColumn => {
        const generated = new RegExp(`[(, ]"?${name}"? [A-Z]+ GENERATED ALWAYS`).test(text as string)
        const inKey = own.some(([, , type, , column]) => type === 'PRIMARY KEY' && column === name)
        return { name: name as string, sql: sql as string, type: this.#types.get(sql as string), generated, inKey }
      })
      return {
        path: `${quote(schema as string)}.${quote(table as string)}`,
        columns: list,
        key: list.filter(({ inKey }) => inKey),
        constraints: own.flatMap(([, , type, name]) => (type === 'PRIMARY KEY' || name === null ? [] : [name as string])),
      }
    })
    const schemas = await rowsOf(
      client,
      "SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database() AND NOT internal AND schema_name NOT IN ('main', 'daemonguard')",
    )
    this.schemas = ['main', ...schemas.map(([name]) => name as string)]
  }

  /** A name as SQL: few of them, so that statements meet. */
  name(kind: string): string {
    const name = `${kind}${this.#names++ % 40}`
    return this.random.chance(0.1) ? quote(`${name} ä"x`) : name
  }

  /** A schema to put something into, with its dot; or nothing. */
  place(): string {
    return this.random.chance(0.4) ? `${quote(this.random.pick(this.schemas))}.` : ''
  }

  /** A type for a new column, whose values can be made from now on. */
  type(type: RandomType = randomType(this.random)): RandomType {
    this.#types.set(type.sql, type)
    return type
  }

  /** What a column may be set to. */
  value(column: KnownColumn): string {
    if (column.type === undefined || this.random.chance(column.inKey ? 0.01 : 0.1)) return this.random.chance(0.2) ? 'DEFAULT' : 'NULL'
    // Few values for a key, so that statements meet.
    if (column.sql === 'INTEGER' && this.random.chance(0.8)) return String(this.random.int(1, 30))
    return column.type.value(this.random)
  }

  /** What a column may be compared with. */
  expression(column: KnownColumn): string {
    const value = this.value(column)
    return value === 'DEFAULT' ? 'NULL' : value
  }

  columnDefinition(name: string): string {
    const type = this.type()
    const { random } = this
    return `${name} ${type.sql}${random.chance(0.2) ? ` DEFAULT ${type.value(random)}` : ''}${random.chance(0.05) ? ' NOT NULL' : ''}`
  }
}
