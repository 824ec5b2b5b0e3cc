/** COPY … FROM STDIN: rows go through a temporary table, of VARCHARs where they come as text, so that DuckDB itself casts them, checks them and fills in defaults. */

import type { Cell } from '../journal/types.ts'
import { AddedRows, manyRows } from './added-rows.ts'
import { addChanges, imagesOf } from './capture.ts'
import type { TableInfo } from './catalog.ts'
import { copyOptions } from './copy-options.ts'
import type { Executor } from './executor.ts'
import { parseArray } from './pgwire/arrays.ts'
import type { CopySource } from './pgwire/backend.ts'
import { type CopyOptions, CopyParser } from './pgwire/copy.ts'
import { BinaryCopyParser, stagedType } from './pgwire/copy-binary.ts'
import { quoteIdentifier, type Token } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import type { Transaction } from './transaction.ts'

/** Rows that go through the temporary table at a time, and about their bytes: they are in memory until then. */
const stagedRows = 20_000
const stagedBytes = 4 << 20
/** Bytes of a row, on average, from which on RETURNING costs less than reading it back. */
const largeRow = 4_000

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
  const types = target.columns.map((name) => target.info.table.columns.find((column) => column.name === name)!.type)
  const binary = target.options.format === 'binary'
  const parser = binary ? new BinaryCopyParser(types) : new CopyParser(target.options)
  const staging = 'temp.main.daemonguard_copy'
  const fields = types.map((type, i) => `c${i} ${binary ? stagedType(type) : 'VARCHAR'}`)
  // Anew for each load: deleted rows would stay until the transaction ends.
  const begin = () => executor.run(`CREATE OR REPLACE TEMPORARY TABLE ${staging} (${fields.join(', ')})`)
  const casts = target.columns.map((name, i) => (binary ? `c${i}` : castOf(target.info, name, `c${i}`)))
  const insert = `INSERT INTO ${target.info.path} (${target.columns.map(quoteIdentifier).join(', ')}) SELECT ${casts.join(', ')} FROM ${staging}`
  const lists = binary ? [] : types.flatMap(({ kind }, i) => (kind === 'LIST' || kind === 'ARRAY' ? [i] : []))
  const added = await AddedRows.of(executor, transaction, target.info)
  let staged: Cell[][] = []
  let bytes = 0
  let count = 0
  const load = async () => {
    if (staged.length === 0) return
    await begin()
    // Rows are read back by number in DuckDB's chunks of 2,048, those of the loads before among them: of large values that is slow.
    const large = bytes / staged.length > largeRow
    const columns = target.columns.map((_, i) => staged.map((row) => row[i] as Cell))
    await executor.connection.append('main', 'daemonguard_copy', 'temp', { count: staged.length, columns })
    staged = []
    bytes = 0
    if (added === undefined || large) {
      const result = await executor.run(`${insert} RETURNING *`, [], { stream: true })
      const { table } = target.info
      const returned = await addChanges(transaction, result.chunks(), (rows) => ({
        kind: 'insert',
        table,
        rows: imagesOf(target.info, rows),
      }))
      added?.skip(returned)
      count += returned
    } else {
      const { rowsChanged } = await executor.run(insert)
      await added.journal(rowsChanged, manyRows)
      count += rowsChanged
    }
  }
  for (;;) {
    const data = await source.read()
    const rows = data === null ? parser.end() : parser.push(data)
    for (const row of rows) {
      for (const i of lists) row[i] = listText(row[i] as string | null)
      staged.push(row)
    }
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
  // '1 mon -2 days +03:00:00': DuckDB reads no plus.
  if (kind === 'INTERVAL') return `CAST(replace(${column}, '+', '') AS INTERVAL)`
  return column
}

/** Postgres' `{a,NULL,"b c"}` as DuckDB writes a list. */
function listText(text: string | null): string | null {
  if (text === null || !text.trimStart().startsWith('{')) return text
  const spell = (cell: Cell): string => {
    if (cell === null) return 'NULL'
    if (Array.isArray(cell)) return `[${cell.map(spell).join(', ')}]`
    return `"${String(cell).replace(/[\\"]/g, '\\$&')}"`
  }
  return spell(parseArray(text).cell)
}
