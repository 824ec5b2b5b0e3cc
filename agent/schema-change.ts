/**
 * What a journaled schema change means to a copy of the tables, read from its SQL text: the few statements after which rows
 * that were delivered before are gone, have another name, or have a new column. Everything else is 'other'.
 */

import type { Change } from './journal/types.ts'

export interface TableName {
  readonly schema: string
  readonly name: string
}

export type SchemaEffect =
  /** All rows of these tables are gone (DROP TABLE, DROP SCHEMA … CASCADE, CREATE OR REPLACE TABLE). */
  | { readonly kind: 'emptied'; readonly tables: readonly TableName[] }
  | { readonly kind: 'table-renamed'; readonly from: TableName; readonly to: TableName }
  | { readonly kind: 'column-renamed'; readonly table: TableName; readonly from: string; readonly to: string }
  /** `defaultText`: what follows DEFAULT, or null. Rows from before have that value though no change carries it. */
  | { readonly kind: 'column-added'; readonly table: TableName; readonly column: string; readonly defaultText: string | null }
  | { readonly kind: 'other' }

type SchemaChange = Extract<Change, { kind: 'schema' }>

const identifier = String.raw`(?:"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*)`
const qualified = String.raw`(${identifier}(?:\s*\.\s*${identifier}){0,2})`
const alter = new RegExp(String.raw`^ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?${qualified}\s+(.*)$`, 'isu')
const renameTable = new RegExp(String.raw`^RENAME\s+TO\s+(${identifier})\s*;?\s*$`, 'iu')
const renameColumn = new RegExp(String.raw`^RENAME\s+(?:COLUMN\s+)?(${identifier})\s+TO\s+(${identifier})\s*;?\s*$`, 'iu')
const addColumn = new RegExp(String.raw`^ADD\s+(?:COLUMN\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(${identifier})\s+(.*)$`, 'isu')

/** Reads the effect of a schema change. */
export function schemaEffect(change: SchemaChange): SchemaEffect {
  const sql = withoutComments(change.sql).trim()
  if (/^DROP\s+(TABLE|SCHEMA)\b/i.test(sql) || /^CREATE\s+OR\s+REPLACE\s+TABLE\b/i.test(sql))
    return { kind: 'emptied', tables: change.tables }
  const match = alter.exec(sql)
  if (match === null) return { kind: 'other' }
  const table = resolve(match[1]!, change)
  const action = match[2]!
  const renamed = renameTable.exec(action)
  if (renamed !== null) return { kind: 'table-renamed', from: table, to: { schema: table.schema, name: unquoted(renamed[1]!) } }
  const column = renameColumn.exec(action)
  if (column !== null) return { kind: 'column-renamed', table, from: unquoted(column[1]!), to: unquoted(column[2]!) }
  const added = addColumn.exec(action)
  if (added === null || /^(CONSTRAINT|PRIMARY|FOREIGN|UNIQUE|CHECK)$/i.test(added[1]!)) return { kind: 'other' }
  const written = /\bDEFAULT\s+(.*?)\s*;?\s*$/is.exec(added[2]!)
  return { kind: 'column-added', table, column: unquoted(added[1]!), defaultText: written?.[1] ?? null }
}

/** Schema and name as the catalogue spells them where the change lists the table, else as written. */
function resolve(text: string, change: SchemaChange): TableName {
  const parts = [...text.matchAll(new RegExp(identifier, 'gu'))].map(([part]) => unquoted(part))
  const name = parts.at(-1)!
  const written = parts.length > 1 ? parts.at(-2)! : undefined
  const same = (a: string, b: string) => a.toLowerCase() === b.toLowerCase()
  const listed = change.tables.find((table) => same(table.name, name) && (written === undefined || same(table.schema, written)))
  return listed ?? { schema: written ?? change.tables[0]?.schema ?? 'main', name }
}

function unquoted(part: string): string {
  return part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part
}

/** Drops comments, but none inside a string or a quoted identifier. */
function withoutComments(sql: string): string {
  return sql.replace(/'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\//g, (token) =>
    token.startsWith('--') || token.startsWith('/*') ? ' ' : token,
  )
}
