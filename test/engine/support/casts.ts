/** What DuckDB itself makes of texts. */

import type { Connection } from '../../../agent/engine/duckdb.ts'
import type { Cell, Column } from '../../../agent/journal/types.ts'

/** A column of the type. */
export async function columnOf(connection: Connection, sqlType: string): Promise<Column> {
  const probe = await connection.prepare(`SELECT NULL::${sqlType}`)
  const [column] = probe.columns()
  probe.close()
  return { name: 'c', type: column!.type, sqlType, nullable: true }
}

/** Each text cast to the type; null where it is none. */
export async function castsOf(connection: Connection, texts: readonly string[], sqlType: string): Promise<Cell[]> {
  await connection.run('CREATE OR REPLACE TEMPORARY TABLE texts (i INTEGER, t VARCHAR)')
  await connection.append('main', 'texts', 'temp', { count: texts.length, columns: [texts.map((_, i) => i), texts] })
  return (await connection.all(`SELECT TRY_CAST(t AS ${sqlType}) FROM temp.texts ORDER BY i`)).map(([cell]) => cell as Cell)
}
