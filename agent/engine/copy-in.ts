/** COPY … FROM STDIN: text rows go through a temporary table of VARCHARs, so that DuckDB itself casts them, checks them and fills in defaults. */

import type { Cell } from '../journal/types.ts'
import { addChanges, imagesOf } from './capture.ts'
import type { TableInfo } from './catalog.ts'
import type { Executor } from './executor.ts'
import type { CopySource } from './pgwire/backend.ts'
import { type CopyOptions, CopyParser, type CopyRow } from './pgwire/copy.ts'
import { quoteIdentifier, type Token } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import type { Transaction } from './transaction.ts'

/** Rows that go through the temporary table at a time, and about their bytes: they are in memory until then. */
const stagedRows = 20_000
const stagedBytes = 8 << 20

export interface CopyTarget {
  readonly info: TableInfo
  /** Names of the columns that the rows have, in order. */
  readonly columns: readonly string[]
  readonly options: CopyOptions
}

export function copyTarget(info: TableInfo, columns: readonly string[] | undefined, tokens: readonly Token[]): CopyTarget {
  const names = columns ?? info.table.columns.map((column) => column.name)
  const known = names.map((name) => {
    const column = info.table.columns.find((candidate) => candidate.name.toLowerCase() === name.toLowerCase())
    if (column === undefined)
      throw new SqlError('42703', `column "${name}" of ${info.table.schema}.${info.table.name} does not exist or is generated`)
    return column.name
  })
  return { info, columns: known, options: { ...copyOptions(tokens), columns: known.length } }
}

/** Reads the data to its end; resolves with the number of rows. The transaction is open; on an error the caller rolls it back. */
export async function copyIn(executor: Executor, transaction: Transaction, target: CopyTarget, source: CopySource): Promise<number> {
  const parser = new CopyParser(target.options)
  const staging = 'temp.main.daemonguard_copy'
  const fields = target.columns.map((_, i) => `c${i} VARCHAR`)
  // Anew for each load: deleted rows would stay until the transaction ends.
  const begin = () => executor.run(`CREATE OR REPLACE TEMPORARY TABLE ${staging} (${fields.join(', ')})`)
  const casts = target.columns.map((name, i) => castOf(target.info, name, `c${i}`))
  const insert = `INSERT INTO ${target.info.path} (${target.columns.map(quoteIdentifier).join(', ')}) SELECT ${casts.join(', ')} FROM ${staging} RETURNING *`
  let staged: CopyRow[] = []
  let bytes = 0
  let count = 0
  const load = async () => {
    if (staged.length === 0) return
    await begin()
    const columns = target.columns.map((_, i) => staged.map((row) => row[i] as Cell))
    await executor.connection.append('main', 'daemonguard_copy', 'temp', { count: staged.length, columns })
    staged = []
    bytes = 0
    const result = await executor.run(insert)
    count += await addChanges(transaction, result.chunks(), (rows) => ({
      kind: 'insert',
      table: target.info.table,
      rows: imagesOf(target.info, rows),
    }))
  }
  for (;;) {
    const data = await source.read()
    const rows = data === null ? parser.end() : parser.push(data)
    for (const row of rows) staged.push(row)
    bytes += data?.length ?? 0
    if (data === null || staged.length >= stagedRows || bytes >= stagedBytes) await load()
    if (data === null) break
  }
  await executor.run(`DROP TABLE IF EXISTS ${staging}`)
  return count
}

/** Postgres writes bytea as `\x6162`; DuckDB's own cast reads something else. */
function castOf(info: TableInfo, name: string, column: string): string {
  const kind = info.table.columns.find((candidate) => candidate.name === name)?.type.kind
  if (kind === 'BLOB') return `CASE WHEN ${column} LIKE '\\x%' THEN unhex(substr(${column}, 3)) ELSE CAST(${column} AS BLOB) END`
  return column
}

/** `WITH (FORMAT csv, HEADER, …)` and the older `CSV HEADER DELIMITER ','`. */
function copyOptions(tokens: readonly Token[]): CopyOptions {
  const words = tokens.filter((token) => !(token.kind === 'symbol' && '(),='.includes(token.text)))
  const options: { -readonly [K in keyof CopyOptions]: CopyOptions[K] } = { format: 'text' }
  for (let i = 0; i < words.length; i++) {
    const word = words[i]?.text.toLowerCase()
    const value = () => {
      if (words[i + 1]?.text.toLowerCase() === 'as') i++
      return words[++i]?.text ?? ''
    }
    const flag = () => (/^(true|false|on|off|1|0)$/i.test(words[i + 1]?.text ?? '') ? /^(true|on|1)$/i.test(value()) : true)
    switch (word) {
      case 'with':
        break
      case 'csv':
        options.format = 'csv'
        break
      case 'format': {
        const format = value().toLowerCase()
        if (format !== 'csv' && format !== 'text')
          throw new SqlError('0A000', `COPY in ${format} format is not supported`, { hint: 'use text or csv' })
        options.format = format
        break
      }
      case 'header':
        options.header = flag()
        break
      case 'delimiter':
        options.delimiter = value()
        break
      case 'null':
        options.null = value()
        break
      case 'quote':
        options.quote = value()
        break
      case 'escape':
        options.escape = value()
        break
      case 'freeze': // about Postgres' pages
        flag()
        break
      case 'encoding':
        if (!/^utf-?8$/i.test(value())) throw new SqlError('0A000', 'COPY takes UTF-8 only')
        break
      case 'binary':
        throw new SqlError('0A000', 'COPY in binary format is not supported', { hint: 'use text or csv' })
      default:
        throw new SqlError('42601', `unknown COPY option: ${word}`)
    }
  }
  return options
}
