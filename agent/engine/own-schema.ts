/**
 * The engine's own schema inside the database: the watermark (which seq the file holds, and which header iteration its checkpoint wrote),
 * and the row that the watchdog's probe writes. Rows are inserted and deleted, never updated: an UPDATE makes DuckDB refuse CHECKPOINT
 * while any older reader is open.
 */

import { ownSchema } from './catalog.ts'
import type { Connection } from './duckdb.ts'
import { quoteString } from './sql/tokens.ts'

export interface Watermark {
  readonly databaseId: string
  readonly seq: number
  /** Iteration in the header of the file whose checkpoint carries this watermark. */
  readonly iteration: number
}

export async function createOwnSchema(connection: Connection): Promise<void> {
  await connection.run(`CREATE SCHEMA IF NOT EXISTS ${ownSchema}`)
  await connection.run(
    `CREATE TABLE IF NOT EXISTS ${ownSchema}.watermark (database_id VARCHAR NOT NULL, seq BIGINT NOT NULL, iteration BIGINT NOT NULL, written_at TIMESTAMPTZ NOT NULL)`,
  )
  await connection.run(`CREATE TABLE IF NOT EXISTS ${ownSchema}.probe (written_at TIMESTAMPTZ NOT NULL)`)
}

/** The watermark, or undefined where the schema is missing or empty. */
export async function readWatermark(connection: Connection, catalog: string): Promise<Watermark | undefined> {
  const tables = await connection.all(
    `SELECT 1 FROM duckdb_tables() WHERE database_name = ${quoteString(catalog)} AND schema_name = ${quoteString(ownSchema)} AND table_name = 'watermark'`,
  )
  if (tables.length === 0) return undefined
  const [row] = await connection.all(`SELECT database_id, seq, iteration FROM ${ownSchema}.watermark`)
  return row === undefined ? undefined : { databaseId: String(row[0]), seq: Number(row[1]), iteration: Number(row[2]) }
}

/** Replaces the watermark in a transaction of its own, while writers wait: in one call. The CHECKPOINT that follows makes it true. */
export async function writeWatermark(connection: Connection, { databaseId, seq, iteration }: Watermark): Promise<void> {
  const row = `${quoteString(databaseId)}, ${seq}, ${iteration}, now()`
  await connection.run(`BEGIN TRANSACTION; DELETE FROM ${ownSchema}.watermark; INSERT INTO ${ownSchema}.watermark VALUES (${row}); COMMIT`)
}
