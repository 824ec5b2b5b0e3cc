/** What a column gets that an INSERT does not name, where that is known without DuckDB. */

import { randomUUID } from 'node:crypto'
import type { Cell, Column } from '../journal/types.ts'
import { cellOf } from './certain-cells.ts'
import { lowerCase, tokenize } from './sql/tokens.ts'
import { constantOf } from './written-values.ts'

export type ColumnDefault =
  | { readonly cell: Cell }
  /** Another one each time; `moment`: that of the row, microseconds since 1970. Undefined: DuckDB's to say in a session of this time zone. */
  | { readonly make: (moment: bigint, timeZone: string) => Cell | undefined }
  | 'unknown'

const moments = ['now', 'get_current_timestamp', 'transaction_timestamp', 'current_timestamp']
const identifiers = ['uuid', 'gen_random_uuid']
/** Functions of DuckDB's. A client's macro of the same name takes their place, also in a DEFAULT that is older. */
export const makers: readonly string[] = [...moments, ...identifiers]

/** `sql`: its DEFAULT as DuckDB prints it. */
export function columnDefault(column: Column, sql: string): ColumnDefault {
  const constant = constantOf(sql, tokenize(sql))
  const cell = constant === undefined ? undefined : cellOf(column, constant)
  if (cell !== undefined) return { cell }
  const { kind } = column.type
  const name = /^(\w+)\(\)$/.exec(sql)?.[1] ?? (/^current_timestamp$/i.test(sql) ? sql : '')
  const isMoment = moments.includes(lowerCase(name))
  if (kind === 'UUID' && identifiers.includes(lowerCase(name))) return { make: () => randomUUID() }
  if (kind === 'TIMESTAMPTZ' && isMoment) return { make: (moment) => moment }
  // It is the moment as the clocks of the session's time zone show it.
  if (kind === 'TIMESTAMP' && isMoment) return { make: (moment, timeZone) => (timeZone === 'UTC' ? moment : undefined) }
  return 'unknown'
}
