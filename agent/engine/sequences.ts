/** Sequences are not transactional: the journal keeps the last value that each has handed out, and replay draws until it is there. */

import { ownSchema } from './catalog.ts'
import type { Connection } from './duckdb.ts'
import { quoteString } from './sql/tokens.ts'
import type { Transaction } from './transaction.ts'

/**
 * The value that a sequence hands out next, in a query of duckdb_sequences(). Its last_value does not say: of a sequence that was read from the
 * file, and not drawn from since, that is the next value, else the one handed out last.
 */
export const nextValue = "regexp_extract(sql, ' START (-?[0-9]+)', 1)::HUGEINT"

export class SequenceTracker {
  #catalog: string
  #any = false
  /** By `schema.name`: the last value that the journal has. */
  #known = new Map<string, bigint>()

  constructor(catalog: string) {
    this.#catalog = catalog
  }

  /** At start: which sequences there are, and where the journal left them. After a schema change: those that are gone are forgotten. */
  async refresh(connection: Connection, atStart = false): Promise<void> {
    const rows = await this.#read(connection)
    this.#any = rows.length > 0
    const known = new Map<string, bigint>()
    for (const { key, value } of rows) {
      const last = atStart ? value : this.#known.get(key)
      if (value !== null && last !== undefined && last !== null) known.set(key, last)
    }
    this.#known = known
  }

  /** Adds what has been drawn since it was last looked at. Called before every commit that may have drawn. */
  async collect(connection: Connection, transaction: Transaction): Promise<void> {
    if (!this.#any && !transaction.schemaChanged) return
    for (const { key, schema, name, value } of await this.#read(connection)) {
      // After a schema change a sequence may be a new one of an old name.
      if (value === null || (!transaction.schemaChanged && this.#known.get(key) === value)) continue
      transaction.drawn.set(key, value)
      transaction.add({ kind: 'sequence', schema, name, value })
    }
  }

  /** What a committed transaction has journaled need not be journaled again. */
  committed(transaction: Transaction): void {
    for (const [key, value] of transaction.drawn) this.#known.set(key, value)
  }

  async #read(connection: Connection) {
    const rows = await connection.all(
      `SELECT schema_name, sequence_name, CASE WHEN last_value IS NOT NULL THEN ${nextValue} - increment_by END FROM duckdb_sequences() WHERE database_name = ${quoteString(this.#catalog)} AND schema_name <> ${quoteString(ownSchema)}`,
    )
    return rows.map(([schema, name, value]) => ({
      key: `${schema}.${name}`,
      schema: String(schema),
      name: String(name),
      value: value === null ? null : BigInt(value as bigint),
    }))
  }
}
