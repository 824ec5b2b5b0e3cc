/**
 * An instance of DuckDB's that has no file yet, but its own database in memory: what depends on no file can be made beforehand, and a spare engine
 * does.
 */

import { DuckDBInstance } from '@duckdb/node-api'
import { DirectCalls } from './duckdb-direct.ts'

const always = [
  // No checkpoint but by statement: a file changes only when the engine says so (duckdb.md 6).
  'PRAGMA disable_checkpoint_on_shutdown',
  "SET checkpoint_threshold = '1TB'",
  'SET wal_autocheckpoint_entries = 0',
  'SET autoinstall_known_extensions = false',
  'SET autoload_known_extensions = false',
]

export class Instance {
  readonly duckdb: DuckDBInstance
  readonly direct: DirectCalls | undefined

  private constructor(duckdb: DuckDBInstance, direct: DirectCalls | undefined) {
    this.duckdb = duckdb
    this.direct = direct
  }

  static async create(): Promise<Instance> {
    // Whoever attaches a file says how many threads there are to be.
    const duckdb = await DuckDBInstance.create(':memory:', { threads: '1' })
    const connection = await duckdb.connect()
    try {
      const instance = new Instance(duckdb, await DirectCalls.open(connection))
      await instance.run(always)
      return instance
    } finally {
      connection.closeSync()
    }
  }

  async run(statements: readonly string[]): Promise<void> {
    const connection = await this.duckdb.connect()
    try {
      // One call: a turn through the thread pool for each of a hundred would take half as long again.
      await connection.run(statements.join('; '))
    } finally {
      connection.closeSync()
    }
  }

  close(): void {
    this.duckdb.closeSync()
  }
}
