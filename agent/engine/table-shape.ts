/**
 * All that a table is but its rows: columns, constraints, indexes and comments, as the statements that make it anew. Read from DuckDB's
 * catalog; where DuckDB prints a constraint wrongly (a foreign key to the table itself, or to a name that needs quotes) it is put together here.
 */

import { withoutForeignKeys } from './catalog.ts'
import type { Connection } from './duckdb.ts'
import { WrittenNames } from './foreign-keys.ts'
import { quoteIdentifier, quoteString, type Token, tokenize } from './sql/tokens.ts'

export interface Constraint {
  readonly type: 'PRIMARY KEY' | 'UNIQUE' | 'CHECK' | 'FOREIGN KEY'
  /** DuckDB's own name for it. It does not keep the one that was written. */
  readonly name: string
  readonly columns: readonly string[]
  /** As a part of CREATE TABLE. */
  readonly sql: string
  /** It stands behind its column. */
  readonly inline?: boolean
  /** Of a foreign key: the referenced table of the same schema, and its columns. */
  readonly parent?: string
  readonly parentColumns?: readonly string[]
}

export interface TableShape {
  readonly schema: string
  readonly name: string
  readonly path: string
  readonly columns: readonly { readonly name: string; readonly generated: boolean; readonly sql: string }[]
  readonly constraints: readonly Constraint[]
  readonly indexes: readonly { readonly name: string; readonly sql: string }[]
  /** COMMENT statements. */
  readonly comments: readonly string[]
}

/** A table and all that reference it, directly or not: each after those that it references. */
export async function readFamily(connection: Connection, catalog: string, schema: string, table: string): Promise<readonly TableShape[]> {
  const constraints = await readConstraints(connection, catalog, schema)
  const children = (name: string) =>
    [...constraints].flatMap(([child, list]) => (child !== name && list.some(({ parent }) => parent === name) ? [child] : []))
  const ordered: string[] = []
  const visit = (name: string) => {
    if (ordered.includes(name)) return
    for (const child of children(name)) visit(child)
    ordered.unshift(name)
  }
  visit(table)
  return Promise.all(ordered.map((name) => readShape(connection, catalog, schema, name, constraints.get(name) ?? [])))
}

/** Constraints of a schema's tables, but for NOT NULL, in the order in which they were written. */
export async function readConstraints(connection: Connection, catalog: string, schema: string): Promise<Map<string, Constraint[]>> {
  const rows = await connection.all(
    `SELECT table_name, constraint_type, constraint_name, constraint_column_names, expression, referenced_table, referenced_column_names
     FROM duckdb_constraints() WHERE database_name = ${quoteString(catalog)} AND schema_name = ${quoteString(schema)} AND constraint_type <> 'NOT NULL'
     ORDER BY table_oid, constraint_index`,
  )
  const constraints = new Map<string, Constraint[]>()
  const names = await WrittenNames.of(connection, catalog, schema)
  for (const [table, type, name, columns, expression, parent, parentColumns] of rows as [
    string,
    string,
    string,
    string[],
    string,
    string,
    string[],
  ][]) {
    const list = constraints.get(table) ?? []
    constraints.set(table, list)
    const common = { name, columns }
    if (type === 'FOREIGN KEY') {
      const actual = parentColumns.map((column) => names.column(parent, column))
      list.push({ ...common, ...foreignKey(schema, columns, names.table(parent), actual) })
    } else if (type === 'CHECK') list.push({ ...common, type, sql: `CHECK (${expression})` })
    else list.push({ ...common, type: type as 'UNIQUE', sql: `${type} (${quotedList(columns)})` })
  }
  return constraints
}

export function foreignKey(schema: string, columns: readonly string[], parent: string, parentColumns: readonly string[]) {
  const sql = `FOREIGN KEY (${quotedList(columns)}) REFERENCES ${quoteIdentifier(schema)}.${quoteIdentifier(parent)} (${quotedList(parentColumns)})`
  return { type: 'FOREIGN KEY', sql, parent, parentColumns } as const
}

/** Quoted names, separated by commas. */
export function quotedList(names: readonly string[]): string {
  return names.map(quoteIdentifier).join(', ')
}

async function readShape(
  connection: Connection,
  catalog: string,
  schema: string,
  name: string,
  constraints: readonly Constraint[],
): Promise<TableShape> {
  const where = `database_name = ${quoteString(catalog)} AND schema_name = ${quoteString(schema)} AND table_name = ${quoteString(name)}`
  const path = `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`
  const [table] = await connection.all(`SELECT sql, comment FROM duckdb_tables() WHERE ${where}`)
  const columns = await connection.all(`SELECT column_name, comment FROM duckdb_columns() WHERE ${where} ORDER BY column_index`)
  const indexes = await connection.all(`SELECT index_name, sql, comment FROM duckdb_indexes() WHERE ${where} ORDER BY index_oid`)
  const keys = await connection.all(
    `SELECT constraint_text FROM duckdb_constraints() WHERE ${where} AND constraint_type = 'FOREIGN KEY' ORDER BY constraint_index`,
  )
  const items = columnItems(
    withoutForeignKeys(
      String(table?.[0]),
      keys.map(([text]) => String(text)),
    ),
  )
  const comments: string[] = []
  const comment = (on: string, text: unknown) => {
    if (text !== null && text !== undefined) comments.push(`COMMENT ON ${on} IS ${quoteString(String(text))}`)
  }
  comment(`TABLE ${path}`, table?.[1])
  for (const [column, text] of columns) comment(`COLUMN ${path}.${quoteIdentifier(String(column))}`, text)
  for (const [index, , text] of indexes) comment(`INDEX ${quoteIdentifier(schema)}.${quoteIdentifier(String(index))}`, text)
  return {
    schema,
    name,
    path,
    columns: columns.map(([column], i) => ({ name: String(column), ...(items[i] as ColumnItem) })),
    constraints: constraints.map((constraint) => {
      const column = columns.findIndex(([first]) => constraint.columns.length === 1 && first === constraint.columns[0])
      return { ...constraint, inline: items[column]?.keys.includes(constraint.type) ?? false }
    }),
    indexes: indexes.map(([index, sql]) => ({ name: String(index), sql: onPath(String(sql), path) })),
    comments,
  }
}

interface ColumnItem {
  /** Without PRIMARY KEY and UNIQUE. */
  readonly sql: string
  readonly generated: boolean
  /** PRIMARY KEY, UNIQUE. */
  readonly keys: readonly string[]
}

/** The columns of a CREATE TABLE text as DuckDB prints it, and the rest of its parts. */
function columnItems(text: string): ColumnItem[] {
  const items: Token[][] = [[]]
  for (const token of tokenize(text)) {
    if (token.depth === 0) continue
    if (token.depth === 1 && token.kind === 'symbol' && token.text === ',') items.push([])
    else items.at(-1)?.push(token)
  }
  return items.map((tokens) => {
    const keys: string[] = []
    for (;;) {
      const tail = tokens.at(-1)
      if (tail?.kind !== 'word' || tail.depth !== 1) break
      if (tail.text === 'unique') {
        keys.push('UNIQUE')
        tokens.pop()
      } else if (tail.text === 'key' && tokens.at(-2)?.text === 'primary') {
        keys.push('PRIMARY KEY')
        tokens.splice(-2)
      } else break
    }
    const generated = tokens.some((token, i) => i > 0 && token.depth === 1 && token.kind === 'word' && token.text === 'generated')
    return { sql: text.slice(tokens[0]?.start, tokens.at(-1)?.end), generated, keys }
  })
}

/** `CREATE [UNIQUE] INDEX i ON t(…)` with the table's whole path in it. */
function onPath(sql: string, path: string): string {
  const tokens = tokenize(sql)
  const on = tokens.findIndex(({ kind, text }) => kind === 'word' && text === 'on')
  const open = tokens.findIndex(({ text }, i) => i > on && text === '(')
  return `${sql.slice(0, tokens[on]?.end)} ${path} ${sql.slice(tokens[open]?.start).replace(/;\s*$/, '')}`
}

/** The statement that creates it, without indexes and comments. */
export function createTable({ path, columns, constraints }: TableShape, verb = 'CREATE TABLE'): string {
  const parts = columns.map(({ name, sql }) => {
    const own = constraints.filter((constraint) => constraint.inline && constraint.columns[0] === name)
    return [sql, ...own.map(({ type }) => type)].join(' ')
  })
  return `${verb} ${path} (${[...parts, ...constraints.filter(({ inline }) => !inline).map(({ sql }) => sql)].join(', ')})`
}
