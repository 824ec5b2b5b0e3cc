/** Foreign keys where DuckDB does not see to them by itself: rows that are there before the key is, and children of a parent that goes in the same transaction. */

import type { TableInfo } from './catalog.ts'
import type { Connection } from './duckdb.ts'
import { childrenFirst } from './sql/lists.ts'
import type { Statement } from './sql/statement.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import { readConstraints } from './table-shape.ts'

/** `FROM … AS t WHERE …`: the rows of a table that have no parent. */
export function orphansOf(path: string, columns: readonly string[], parentPath: string, parentColumns: readonly string[]): string {
  const own = columns.map((column) => `t.${quoteIdentifier(column)}`)
  const join = parentColumns.map((column, i) => `p.${quoteIdentifier(column)} = ${own[i]}`).join(' AND ')
  const set = own.map((column) => `${column} IS NOT NULL`).join(' AND ')
  return `FROM ${path} AS t WHERE ${set} AND NOT EXISTS (SELECT 1 FROM ${parentPath} AS p WHERE ${join})`
}

/**
 * DuckDB takes children of a row that the same transaction has deleted before, or whose key it has changed: its index still has the key.
 * Called after a statement that may have written such. Throws 23503.
 */
export async function refuseDangling(connection: Connection, catalog: string, { table, path }: TableInfo): Promise<void> {
  const constraints = (await readConstraints(connection, catalog, table.schema)).get(table.name) ?? []
  for (const { columns, parent, parentColumns } of constraints) {
    if (parent === undefined || parentColumns === undefined) continue
    const parentPath = `${quoteIdentifier(catalog)}.${quoteIdentifier(table.schema)}.${quoteIdentifier(parent)}`
    const [found] = await connection.all(`SELECT 1 ${orphansOf(path, columns, parentPath, parentColumns)} LIMIT 1`)
    if (found === undefined) continue
    throw new SqlError(
      '23503',
      `a row of ${table.name} references a row of ${parent} that this transaction has deleted or given another key`,
      {
        hint: `insert the row of ${parent} first`,
      },
    )
  }
}

/** The statements of a list, in an order that foreign keys allow. */
export async function inOrderOfReferences(connection: Connection, statements: readonly Statement[]): Promise<Statement[]> {
  const rows = await connection.all(
    "SELECT lower(table_name), lower(referenced_table) FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY'",
  )
  const parts = statements.map((statement) => {
    const name = 'target' in statement ? statement.target : 'name' in statement ? statement.name : []
    return { statement, name: (name.at(-1) ?? '').toLowerCase() }
  })
  const references = rows.map(([child, parent]) => [String(child), String(parent)] as const)
  return childrenFirst(parts, references).map(({ statement }) => statement)
}
