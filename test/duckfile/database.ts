/** DuckDB files for tests, made by DuckDB itself. A file is closed before it is returned: only its maker may open it in DuckDB. */

import path from 'node:path'
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { temporaryDirectory } from '../support/temp.ts'

export interface DatabaseOptions {
  /** STORAGE_VERSION of ATTACH; default 'v1.5.0'. */
  storage?: string
  blockSize?: number
  /** More words for ATTACH. */
  attach?: string
}

/** Runs `statements` on a new or existing file; a CHECKPOINT must be among them to be seen in the file. */
export async function withDatabase(
  file: string,
  work: (connection: DuckDBConnection) => Promise<void>,
  options: DatabaseOptions = {},
): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:')
  try {
    const connection = await instance.connect()
    const blockSize = options.blockSize === undefined ? '' : `, BLOCK_SIZE ${options.blockSize}`
    const storage = options.storage ?? 'v1.5.0'
    await connection.run(
      `ATTACH '${file}' AS d (RECOVERY_MODE 'NO_WAL_WRITES', STORAGE_VERSION '${storage}'${blockSize}${options.attach ?? ''})`,
    )
    await connection.run('PRAGMA disable_checkpoint_on_shutdown')
    await connection.run('USE d')
    await work(connection)
  } finally {
    instance.closeSync()
  }
}

/** A new file with what `statements` leave in it. */
export async function createDatabase(statements: readonly string[], options: DatabaseOptions = {}): Promise<string> {
  const file = path.join(temporaryDirectory('duckfile'), 'test.duckdb')
  await withDatabase(
    file,
    async (connection) => {
      for (const statement of statements) await connection.run(statement)
    },
    options,
  )
  return file
}

/** Every row of every table, as text: equal for equal databases. Opens the file in DuckDB. */
export async function contentOf(file: string): Promise<string> {
  const lines: string[] = []
  await withDatabase(
    file,
    async (connection) => {
      const tables = await connection.runAndReadAll("SELECT table_name FROM duckdb_tables() WHERE database_name = 'd' ORDER BY table_name")
      for (const [name] of tables.getRows()) {
        const rows = await connection.runAndReadAll(`SELECT count(*)::VARCHAR, sum(hash(t)::HUGEINT)::VARCHAR FROM "${name}" t`)
        lines.push(`${name} ${JSON.stringify(rows.getRows())}`)
      }
    },
    { attach: ', READ_ONLY' },
  )
  return lines.join('\n')
}

/** A table of `rows` rows with a key, texts and floats that don't compress, over several row groups when large. */
export function tradesTable(name: string, rows: number): string[] {
  return [
    `CREATE TABLE ${name} (id BIGINT PRIMARY KEY, symbol VARCHAR, note VARCHAR, price DOUBLE)`,
    `INSERT INTO ${name} SELECT i, 'S' || (i % 97), md5(i::VARCHAR) || md5((i * 7)::VARCHAR), random() FROM range(${rows}) r(i)`,
  ]
}

/** Many checkpoints, deletes, an index and a dropped table: a file with free blocks and several metadata blocks. */
export const usedDatabase: readonly string[] = [
  ...tradesTable('trades', 400_000),
  'CHECKPOINT',
  'CREATE INDEX by_symbol ON trades (symbol)',
  'CHECKPOINT',
  'DELETE FROM trades WHERE id % 3 = 0',
  'UPDATE trades SET price = 1 WHERE id % 7 = 0',
  'CHECKPOINT',
  'CREATE TABLE copied AS SELECT * FROM trades',
  'CHECKPOINT',
  'DROP TABLE copied',
  'CREATE TABLE small (i INTEGER)',
  'INSERT INTO small VALUES (1)',
  'CHECKPOINT',
  'INSERT INTO small VALUES (2)',
  'CHECKPOINT',
]
