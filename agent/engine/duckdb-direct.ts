/**
 * Calls of DuckDB on the event loop's own thread. The addon runs every statement in libuv's thread pool, and the turn there and back costs as much
 * of a core as a small statement does. So what is known to be small is called from here, through the same library, on the statements and results that
 * the addon has made (duckdb-handles.ts).
 */

import { type DuckDBConnection, DuckDBMaterializedResult, type DuckDBPreparedStatement } from '@duckdb/node-api'
import { addressOf, statementOf } from './duckdb-handles.ts'
import { duckdbLibrary } from './duckdb-library.ts'

export class DirectCalls {
  #execute: (statement: bigint, result: bigint) => number
  #destroy: (result: bigint) => void
  #errorOf: (result: bigint) => string | null
  /** The addon's, which each call fills anew. */
  #slot: DuckDBMaterializedResult
  #slotAddress: bigint

  private constructor(slot: DuckDBMaterializedResult, slotAddress: bigint) {
    const library = duckdbLibrary()
    this.#execute = library.func('int duckdb_execute_prepared(void *statement, void *result)')
    this.#destroy = library.func('void duckdb_destroy_result(void *result)')
    this.#errorOf = library.func('const char *duckdb_result_error(void *result)')
    this.#slot = slot
    this.#slotAddress = slotAddress
  }

  /** Undefined where a call does not do what the same one through the addon does. */
  static async open(connection: DuckDBConnection): Promise<DirectCalls | undefined> {
    const slot = await connection.run('SELECT 41')
    const proof = await connection.prepare('SELECT 42')
    try {
      if (!(slot instanceof DuckDBMaterializedResult)) return undefined
      const { result } = slot as unknown as { result: unknown }
      const calls = new DirectCalls(slot, addressOf(result, 'result'))
      return calls.execute(calls.statement(proof), (answer) => answer.getChunk(0).getColumnValues(0)[0]) === 42 ? calls : undefined
    } catch {
      // The library, or a handle, is another one here.
      return undefined
    } finally {
      proof.destroySync()
    }
  }

  /** The statement as `execute` takes it, until it is destroyed. */
  statement(statement: DuckDBPreparedStatement): bigint {
    return statementOf((statement as unknown as { prepared_statement: unknown }).prepared_statement)
  }

  /** Runs a statement; `read` reads its answer, which is gone afterwards. Throws as the addon does. */
  execute<T>(statement: bigint, read: (result: DuckDBMaterializedResult) => T): T {
    try {
      if (this.#execute(statement, this.#slotAddress) !== 0) throw new Error(this.#errorOf(this.#slotAddress) ?? 'DuckDB told no reason')
      return read(this.#slot)
    } finally {
      this.#destroy(this.#slotAddress)
    }
  }
}
