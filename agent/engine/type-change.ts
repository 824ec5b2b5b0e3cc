/**
 * `ALTER TABLE … ALTER column TYPE …`: DuckDB 1.5 makes the new column of what the old one was before the latest UPDATEs, where a snapshot that is older than
 * those is still open: committed values are gone, without an error (tried; CREATE INDEX refuses by itself there). So what is in the new column is compared with what
 * should be, in the same transaction.
 */

import type { TableInfo } from './catalog.ts'
import type { Connection } from './duckdb.ts'
import type { SchemaStatement } from './sql/statement.ts'
import { quoteIdentifier, type Token } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import { isVolatile } from './volatility.ts'

export class TypeChange {
  #connection: Connection
  #path: string
  #column: string
  #before: unknown

  private constructor(connection: Connection, path: string, column: string, before: unknown) {
    this.#connection = connection
    this.#path = path
    this.#column = column
    this.#before = before
  }

  /** To be called before the statement runs. Undefined for any other one, and where two evaluations need not give the same values. Throws what the statement would throw. */
  static async before(connection: Connection, { text, tokens }: SchemaStatement, { path }: TableInfo): Promise<TypeChange | undefined> {
    const parts = typeChange(text, tokens)
    if (parts === undefined || (await isVolatile(connection, parts.usingTokens))) return undefined
    const { column, type, using } = parts
    const value = type === '' ? `(${using})` : `CAST((${using}) AS ${type})`
    return new TypeChange(connection, path, column, await fingerprint(connection, path, value))
  }

  /** To be called after it has run, before anybody is told. Throws 55P03. */
  async verify(): Promise<void> {
    const after = await fingerprint(this.#connection, this.#path, quoteIdentifier(this.#column))
    if (after === this.#before) return
    throw new SqlError('55P03', `transactions that are open keep DuckDB from seeing the latest values of ${this.#column}`, {
      hint: 'try again when they have ended; daemonguard status',
    })
  }
}

/** One value for all rows of the table, by their row ids. */
async function fingerprint(connection: Connection, path: string, value: string): Promise<unknown> {
  const [row] = await connection.all(
    `SELECT count(*) || ' ' || coalesce(system.main.bit_xor(system.main.hash(rowid, ${value})), 0) FROM ${path}`,
  )
  return row?.[0]
}

function typeChange(text: string, tokens: readonly Token[]) {
  const word = (wanted: string, from: number) =>
    tokens.findIndex(({ kind, text, depth }, i) => i >= from && kind === 'word' && text === wanted && depth === 0)
  const alter = word('alter', 1)
  if (alter === -1) return undefined
  const named = tokens[alter + 1]?.text === 'column' && tokens[alter + 1]?.kind === 'word' ? alter + 2 : alter + 1
  const type = word('type', named + 1)
  const column = tokens[named]
  if (type === -1 || column === undefined) return undefined
  const using = word('using', type + 1)
  const collate = word('collate', type + 1)
  const end = [collate, using].find((at) => at !== -1)
  const first = tokens[type + 1]
  const last = tokens.at(-1)
  if (first === undefined || last === undefined) return undefined
  return {
    column: column.text,
    type: end === type + 1 ? '' : text.slice(first.start, end === undefined ? last.end : tokens[end]?.start),
    using: using === -1 ? text.slice(column.start, column.end) : text.slice(tokens[using + 1]?.start, last.end),
    usingTokens: using === -1 ? [] : tokens.slice(using + 1),
  }
}
