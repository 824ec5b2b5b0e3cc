/**
 * Makes tables anew with other constraints: DuckDB can't add or drop them, nor drop a table that others reference. Rows go to a temporary
 * copy, the tables are dropped children first, created parents first, filled, and given their indexes and comments, all in the open
 * transaction. Each statement is noted: the journal keeps them, so that a replay does the same with the rows that it has, and no row
 * is journaled or shipped again.
 */

import type { Connection } from './duckdb.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import { createTable, quotedList, type TableShape } from './table-shape.ts'

/** A chain of rows that reference rows of their own table goes in link by link. */
const longestChain = 1_000

export class Rebuild {
  #connection: Connection
  /** Every statement that was run, in order. */
  readonly statements: string[] = []

  constructor(connection: Connection) {
    this.#connection = connection
  }

  async run(sql: string): Promise<void> {
    this.statements.push(sql)
    await this.#connection.run(sql)
  }

  /** Makes these tables anew as they are described; parents first. */
  async tables(shapes: readonly TableShape[]): Promise<void> {
    const tables = shapes.map((shape, i) => ({ shape, copy: `temp.main.${quoteIdentifier(`daemonguard copy ${i}`)}` }))
    const chains: number[] = []
    for (const { shape, copy } of tables) chains.push(await this.#copy(shape, copy))
    for (const { shape } of tables.toReversed()) await this.run(`DROP TABLE ${shape.path}`)
    for (const [i, { shape, copy }] of tables.entries()) {
      await this.run(createTable(shape))
      const names = quotedList(shape.columns.filter(({ generated }) => !generated).map(({ name }) => name))
      for (let link = 0; link <= (chains[i] ?? 0); link++) {
        const where = refersToItself(shape) ? ` WHERE daemonguard_link = ${link}` : ''
        await this.run(`INSERT INTO ${shape.path} (${names}) SELECT ${names} FROM ${copy}${where}`)
      }
      for (const { sql } of shape.indexes) await this.run(sql)
      for (const sql of shape.comments) await this.run(sql)
    }
    for (const { copy } of tables) await this.run(`DROP TABLE ${copy}`)
  }

  /** Copies a table's rows; returns how many links its longest chain has. */
  async #copy(shape: TableShape, copy: string): Promise<number> {
    const names = quotedList(shape.columns.filter(({ generated }) => !generated).map(({ name }) => name))
    if (!refersToItself(shape)) {
      await this.run(`CREATE OR REPLACE TEMPORARY TABLE ${copy} AS SELECT ${names} FROM ${shape.path}`)
      return 0
    }
    await this.run(`CREATE OR REPLACE TEMPORARY TABLE ${copy} AS ${chained(shape, names)}`)
    const [row] = await this.#connection.all(`SELECT max(daemonguard_link), count(*) FILTER (daemonguard_link IS NULL) FROM ${copy}`)
    const longest = Number(row?.[0] ?? 0)
    if (Number(row?.[1]) > 0 || longest >= longestChain) {
      throw new SqlError(
        '0A000',
        `rows of ${shape.schema}.${shape.name} reference each other in a circle, or in a chain of over ${longestChain}`,
        {
          hint: 'DuckDB cannot take such rows in; set the references to NULL first',
        },
      )
    }
    return longest
  }
}

function refersToItself({ name, constraints }: TableShape): boolean {
  return constraints.some(({ parent }) => parent === name)
}

/** The rows of a table that references itself, each with its distance from a row that references none. */
function chained({ name, path, constraints }: TableShape, names: string): string {
  const keys = constraints.filter(({ parent }) => parent === name)
  const isRoot = keys.map(({ columns }) => `(${columns.map((column) => `${quoteIdentifier(column)} IS NULL`).join(' OR ')})`)
  const refers = keys.map(({ columns, parentColumns = [] }) =>
    columns.map((column, i) => `t.${quoteIdentifier(column)} = p.${quoteIdentifier(parentColumns[i] ?? '')}`).join(' AND '),
  )
  const referenced = [...new Set(keys.flatMap(({ parentColumns = [] }) => parentColumns))].map(quoteIdentifier)
  return `WITH RECURSIVE links AS (
    SELECT rowid AS row, ${referenced.join(', ')}, 0 AS link FROM ${path} WHERE ${isRoot.join(' AND ')}
    UNION SELECT t.rowid, ${referenced.map((column) => `t.${column}`).join(', ')}, p.link + 1
    FROM ${path} AS t JOIN links AS p ON (${refers.join(') OR (')}) WHERE p.link < ${longestChain}
  ), furthest AS (SELECT row, max(link) AS daemonguard_link FROM links GROUP BY row)
  SELECT ${names}, daemonguard_link FROM ${path} AS t LEFT JOIN furthest ON t.rowid = furthest.row ORDER BY t.rowid`
}
