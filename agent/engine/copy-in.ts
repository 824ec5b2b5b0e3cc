/**
 * COPY … FROM STDIN: rows go through a temporary table. Where their values are known (copy-columns.ts) it has the types of the target, and they are
 * journaled as they are; else they stand there as text, so that DuckDB itself casts them, checks them and fills in defaults, and are read back.
 * DuckDB works on one block in a thread of its own while the next one is read.
 */

import type { PackedRows } from '../journal/packed.ts'
import type { Column } from '../journal/types.ts'
import { AddedRows, manyRows } from './added-rows.ts'
import { addChanges, imagesOf } from './capture.ts'
import { columnIndex, type TableInfo } from './catalog.ts'
import { type BlockColumn, type CopyBlock, copyReader } from './copy-blocks.ts'
import { copyOptions } from './copy-options.ts'
import type { Executor } from './executor.ts'
import type { CopySource } from './pgwire/backend.ts'
import type { CopyOptions } from './pgwire/copy.ts'
import { quoteIdentifier, type Token } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import type { Transaction } from './transaction.ts'

/** Rows that go through the temporary table at a time, and about their bytes: two times that is in memory. */
const blockRows = 32_768
const blockBytes = 2 << 20
/** Bytes of a row, on average, from which on RETURNING costs less than reading it back. */
const largeRow = 4_000

export interface CopyTarget {
  readonly info: TableInfo
  /** The columns that the rows have, in order. */
  readonly columns: readonly Column[]
  readonly options: CopyOptions
}

export function copyTarget(info: TableInfo, columns: readonly string[] | undefined, tokens: readonly Token[]): CopyTarget {
  const names = columns ?? info.table.columns.map((column) => column.name)
  const known = names.map((name) => {
    const column = info.table.columns[columnIndex(info.table, name)]
    if (column === undefined)
      throw new SqlError('42703', `column "${name}" of ${info.table.schema}.${info.table.name} does not exist or is generated`)
    return column
  })
  return { info, columns: known, options: copyOptions(tokens) }
}

/** Reads the data to its end; resolves with the number of rows. The transaction is open; on an error the caller rolls it back. */
export async function copyIn(executor: Executor, transaction: Transaction, target: CopyTarget, source: CopySource): Promise<number> {
  const reader = copyReader(target.options, target.columns)
  const loader = new BlockLoader(executor, transaction, target, await AddedRows.of(executor, transaction, target.info))
  let loading: Promise<void> | undefined
  let count = 0
  try {
    for (;;) {
      const data = await source.read()
      reader.push(data)
      if (data === null || reader.rows >= blockRows || reader.bytes >= blockBytes) {
        await loading
        const block = reader.take()
        count += block.count
        loading = loader.load(block)
        // It is awaited later.
        loading.catch(() => {})
      }
      if (data === null) break
    }
  } finally {
    // What is wrong with the block before comes first; and nothing else can be done while DuckDB is at work.
    await loading
  }
  await loader.end()
  return count
}

const staging = 'temp.main.daemonguard_copy'

class BlockLoader {
  #executor: Executor
  #transaction: Transaction
  #target: CopyTarget
  #added: AddedRows | undefined

  constructor(executor: Executor, transaction: Transaction, target: CopyTarget, added: AddedRows | undefined) {
    this.#executor = executor
    this.#transaction = transaction
    this.#target = target
    this.#added = added
  }

  async load(block: CopyBlock): Promise<void> {
    if (block.count === 0) return
    await this.#stage(block)
    const values = block.columns.map((column, i) => castOf(column, this.#target.columns[i] as Column, `c${i}`))
    const names = this.#target.columns.map(({ name }) => quoteIdentifier(name))
    const insert = `INSERT INTO ${this.#target.info.path} (${names.join(', ')}) SELECT ${values.join(', ')} FROM ${staging}`
    const rows = this.#journaled(block)
    if (rows !== undefined) await this.#insertKnown(insert, rows)
    else await this.#insert(insert, block)
  }

  async end(): Promise<void> {
    await this.#executor.run(`DROP TABLE IF EXISTS ${staging}`)
  }

  async #stage({ count, columns }: CopyBlock): Promise<void> {
    const { connection } = this.#executor
    const fields = columns.map(({ stagedType }, i) => `c${i} ${stagedType}`)
    // Anew for each block: deleted rows would stay until the transaction ends.
    await this.#executor.run(`CREATE OR REPLACE TEMPORARY TABLE ${staging} (${fields.join(', ')})`)
    const appender = await connection.appender('main', 'daemonguard_copy', 'temp')
    try {
      appender.appendStaged({ count, columns: columns.map(({ values }) => values) })
      appender.flush()
    } finally {
      appender.close()
    }
  }

  /** The rows as the journal gets them; undefined where DuckDB alone knows all of their values. */
  #journaled({ count, columns }: CopyBlock): PackedRows | undefined {
    const { info } = this.#target
    const packed: PackedRows['columns'][number][] = []
    for (const [i, column] of info.table.columns.entries()) {
      const from = this.#target.columns.indexOf(column)
      const known =
        from !== -1
          ? columns[from]?.known
          : column.nullable && info.defaults[i] === undefined
            ? { kind: 'nulls' as const, type: column.type }
            : undefined
      if (known === undefined) return undefined
      packed.push(known)
    }
    return { count, columns: packed }
  }

  async #insertKnown(insert: string, rows: PackedRows): Promise<void> {
    let failure: unknown
    const journal = () => {
      try {
        this.#transaction.addPacked(this.#target.info.table, rows)
      } catch (error) {
        failure = error
      }
    }
    // In the meantime.
    const { rowsChanged } = await this.#executor.run(insert, [], { begun: () => queueMicrotask(journal) })
    if (failure !== undefined) throw failure
    if (rowsChanged !== rows.count) throw new Error(`${rows.count} rows were copied, ${rowsChanged} were inserted`)
    this.#added?.skip(rows.count)
    await this.#transaction.keepUp()
  }

  async #insert(insert: string, { count, bytes }: CopyBlock): Promise<void> {
    const { info } = this.#target
    // Rows are read back by number in DuckDB's chunks of 2,048, those of the loads before among them: of large values that is slow.
    if (this.#added === undefined || bytes / count > largeRow) {
      const result = await this.#executor.run(`${insert} RETURNING *`, [], { stream: true })
      const { table } = info
      const returned = await addChanges(this.#transaction, result.chunks(), (rows) => ({
        kind: 'insert',
        table,
        rows: imagesOf(info, rows),
      }))
      this.#added?.skip(returned)
    } else {
      const { rowsChanged } = await this.#executor.run(insert)
      await this.#added.journal(rowsChanged, manyRows)
    }
  }
}

/** A column of the temporary table as the target's: text as its cast, for which DuckDB does not read all that Postgres writes. */
function castOf({ stagedType }: BlockColumn, { type: { kind } }: Column, column: string): string {
  if (stagedType !== 'VARCHAR') return column
  // bytea is `\x6162`.
  if (kind === 'BLOB') return `CASE WHEN ${column} LIKE '\\x%' THEN unhex(substr(${column}, 3)) ELSE CAST(${column} AS BLOB) END`
  // '1 mon -2 days +03:00:00': DuckDB reads no plus.
  if (kind === 'INTERVAL') return `CAST(replace(${column}, '+', '') AS INTERVAL)`
  return column
}
