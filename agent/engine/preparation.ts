/** What a client is told of a statement before it runs: its parameters and its columns. Nothing is run. */

import type { ColumnType } from '../journal/types.ts'
import type { TableInfo } from './catalog.ts'
import type { Executor } from './executor.ts'
import { settleParameters } from './parameters.ts'
import type { Field, PreparedQuery } from './pgwire/backend.ts'
import { oidOf, typeOf } from './pgwire/types.ts'
import { type InsertPlan, plainInsert, type WrittenRow } from './plain-insert.ts'
import { type PlainUpsert, plainUpsert } from './plain-upsert.ts'
import type { PreparedInserts } from './prepared-inserts.ts'
import type { Settings } from './settings.ts'
import { parseStatement, type Statement } from './sql/statement.ts'
import { tokenize } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

export interface Prepared extends PreparedQuery {
  readonly statement: Statement | undefined
  /** Its shape, if it is a plain insert of bound parameters. */
  readonly insert?: WrittenRow | undefined
  /** The same of a plain upsert. */
  readonly upsert?: PlainUpsert | undefined
  /** How it fills its table, as of a version of the catalog and for a search path. */
  planned?: { readonly version: number; readonly searchPath: string; readonly info: TableInfo; readonly plan: InsertPlan | undefined }
}

/** `look` is called before DuckDB looks at the database. `inserts`: undefined where this session may see other tables than all do. */
export async function prepare(
  executor: Executor,
  settings: Settings,
  statement: Statement | undefined,
  oids: readonly number[],
  look: () => Promise<void>,
  inserts: PreparedInserts | undefined,
): Promise<Prepared> {
  const declared: (ColumnType | null)[] = oids.map((oid) => typeOf(oid))
  if (statement === undefined) return { sql: '', statement, parameterTypes: declared, fields: null }
  const sql = statement.text
  const shown = settings.show(statement.tokens)
  if (shown !== undefined) return { sql, statement, parameterTypes: declared, fields: [{ name: shown.name, type: { kind: 'VARCHAR' } }] }
  const answers = statement.kind === 'query' || ('returning' in statement && statement.returning !== undefined)
  if (!answers && !['insert', 'update', 'delete', 'merge'].includes(statement.kind))
    return { sql, statement, parameterTypes: declared, fields: null }
  const shared = statement.kind === 'insert' ? inserts?.find(statement, oids, settings.searchPath) : undefined
  if (shared?.known !== undefined) return shared.known
  await look()
  const text = await settleParameters(executor, sql, declared, oids)
  const settled = text === sql ? statement : parseStatement(text, tokenize(text))
  const { statement: prepared, order } = await executor.prepare(text)
  const count = Math.max(declared.length, ...order.map((index) => index + 1))
  const parameterTypes = Array.from({ length: count }, (_, i) => {
    const at = order.indexOf(i)
    return declared[i] ?? (at === -1 ? null : prepared.parameterType(at))
  })
  const row = { insert: plainInsert(settled), upsert: plainUpsert(settled) }
  const found: Prepared = { sql, statement: settled, ...row, parameterTypes, fields: answers ? prepared.columns() : null }
  shared?.keep(found)
  return found
}

/** Whether rows of these columns are what the client was told: it reads them by the description that it has. */
export function isAsDescribed({ fields }: Prepared, actual: readonly Field[]): boolean {
  return fields?.length === actual.length && fields.every((field, i) => oidOf(field.type) === oidOf(actual[i]!.type))
}

/** pgjdbc and asyncpg prepare again by themselves where they are told Postgres' name for it. */
export function resultTypeChanged(): SqlError {
  const details = { hint: 'Prepare the statement again.', routine: 'RevalidateCachedQuery' }
  return new SqlError('0A000', 'cached plan must not change result type', details)
}
