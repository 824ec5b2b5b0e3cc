/**
 * DuckDB itself: opens the guarded file without DuckDB's own WAL, and runs SQL. Only this file and its duckdb-….ts neighbours import
 * DuckDB. Errors pass through as DuckDB throws them; agent/engine/duckdb-errors.ts gives them a meaning.
 */

import { type DuckDBConnection, DuckDBInstance, version as duckdbVersion, StatementType } from '@duckdb/node-api'
import type { Cell, Rows } from '../journal/types.ts'
import { Calls } from './calls.ts'
import { Appender } from './duckdb-appender.ts'
import { databaseOf } from './duckdb-handles.ts'
import { Instance } from './duckdb-instance.ts'
import { Result } from './duckdb-result.ts'
import { PreparedStatement } from './duckdb-statement.ts'
import { quoteIdentifier, quoteString, useCatalog } from './sql/tokens.ts'

export { duckdbVersion, Instance, type PreparedStatement, type Result, StatementType }

export interface DatabaseOptions {
  /** Path of the database file. */
  file: string
  /** True: the file does not exist yet and is created in the v1.5.0 storage format. */
  create: boolean
  /** Name of the catalog that clients see. */
  catalog: string
  threads: number
  /** Bytes. */
  memoryLimit: number
  /** Where DuckDB spills. */
  temporaryDirectory: string
  externalAccess: boolean
}

/** The one DuckDB instance of the engine, with the guarded file attached and no WAL of DuckDB's. */
export class Database {
  readonly catalog: string
  readonly calls: Calls
  #instance: DuckDBInstance

  private constructor({ duckdb, direct }: Instance, catalog: string) {
    this.#instance = duckdb
    this.catalog = catalog
    this.calls = new Calls(direct)
  }

  static async open(options: DatabaseOptions): Promise<Database> {
    const instance = await Instance.create()
    return Database.attach(instance, options)
  }

  /** The instance is the database's from then on; where DuckDB refuses the file, it is closed. */
  static async attach(instance: Instance, options: DatabaseOptions): Promise<Database> {
    const { file, create, catalog, threads, memoryLimit, temporaryDirectory, externalAccess } = options
    const storage = create ? ", STORAGE_VERSION 'v1.5.0'" : ''
    try {
      await instance.run([
        `SET threads = ${threads}`,
        `SET memory_limit = '${Math.floor(memoryLimit / 1e6)}MB'`,
        `SET temp_directory = ${quoteString(temporaryDirectory)}`,
        `ATTACH ${quoteString(file)} AS ${quoteIdentifier(catalog)} (RECOVERY_MODE 'NO_WAL_WRITES'${storage})`,
        ...(externalAccess ? [] : ['SET enable_external_access = false']),
      ])
    } catch (error) {
      instance.close()
      throw error
    }
    return new Database(instance, catalog)
  }

  /** For threads that work for it: duckdb_database. */
  get address(): bigint {
    return databaseOf((this.#instance as unknown as { db: unknown }).db)
  }

  /**
   * From now on DuckDB has no workers of its own: analysts.ts says why. To it, those that are not there are "external" ones: it splits a query into as many parts
   * as ever, and whoever comes takes the next.
   */
  async dismissWorkers(): Promise<void> {
    const connection = await this.#instance.connect()
    await connection.run("SET external_threads = current_setting('threads')")
    connection.closeSync()
  }

  async connect(): Promise<Connection> {
    const connection = await this.#instance.connect()
    // A stream's buffer is counted without the strings: 1 MB, DuckDB's own choice, can be ten chunks of 2,048 large values. So it gets room for one chunk.
    await connection.run(`${useCatalog(this.catalog)}; SET streaming_buffer_size = '1KB'`)
    return new Connection(connection, this.calls)
  }

  /** Only for a file that nobody uses: a running statement would keep the instance alive. */
  close(): void {
    this.#instance.closeSync()
  }
}

/** What DuckDB makes of an ALTER that gives every row a value. */
const alterInParts = [StatementType.SET, StatementType.ALTER, StatementType.UPDATE, StatementType.ALTER, StatementType.SET]
const schemaChanges = new Set([StatementType.CREATE, StatementType.CREATE_FUNC, StatementType.ALTER, StatementType.DROP])

export class Connection {
  #connection: DuckDBConnection
  #calls: Calls
  #brief = new Map<string, PreparedStatement>()

  constructor(connection: DuckDBConnection, calls: Calls) {
    this.#connection = connection
    this.#calls = calls
  }

  /** What begins on the event loop does not have to wait for others' locks. */
  get isFree(): boolean {
    return this.#calls.isFree
  }

  async run(sql: string): Promise<void> {
    await this.#calls.pool(() => this.#connection.run(sql))
  }

  /** BEGIN, COMMIT: the same, on the event loop where that is possible. Each text is kept prepared. */
  async runBriefly(sql: string): Promise<void> {
    let statement = this.#brief.get(sql)
    if (statement === undefined) {
      statement = await this.prepare(sql)
      this.#brief.set(sql, statement)
    }
    await statement.execute(true)
  }

  /** The same for what others may have to wait for inside DuckDB: a large commit, a checkpoint. */
  async runAlone(sql: string): Promise<void> {
    await this.#calls.hold(() => this.#connection.run(sql))
  }

  /**
   * Runs one schema change inside the open transaction. DuckDB takes some apart, and wraps a transaction of its own around the parts
   * (ALTER TABLE … ADD COLUMN … DEFAULT f() becomes ALTER, UPDATE, ALTER): that one is left out; inside a transaction DuckDB itself puts a SET
   * in its place. Returns false, having changed nothing, where DuckDB reads the text as something else.
   */
  async changeSchema(sql: string): Promise<boolean> {
    const parts = await this.#connection.extractStatements(sql)
    for (let i = 0; i < parts.count; i++) {
      const part = await parts.prepare(i)
      try {
        const type = part.statementType
        if (parts.count === 5 && type === StatementType.TRANSACTION && (i === 0 || i === 4)) continue
        const known = parts.count === 1 ? schemaChanges.has(type) : parts.count === 5 && alterInParts[i] === type
        if (!known) return false
        await this.#calls.pool(() => part.run())
      } finally {
        part.destroySync()
      }
    }
    return true
  }

  /** All rows of a query, by row. For the engine's own small queries. */
  async all(sql: string): Promise<Cell[][]> {
    const result = Result.materialized(await this.#calls.pool(() => this.#connection.run(sql)))
    const rows: Cell[][] = []
    for (;;) {
      const chunk = await result.next()
      if (chunk === null) return rows
      for (let row = 0; row < chunk.count; row++) rows.push(chunk.columns.map((column) => column[row] as Cell))
    }
  }

  async prepare(sql: string): Promise<PreparedStatement> {
    return new PreparedStatement(await this.#connection.prepare(sql), this.#calls, this)
  }

  /** Appends whole rows of a table (all columns that are not generated). Errors leave the transaction failed. */
  async append(schema: string, table: string, catalog: string, rows: Rows): Promise<void> {
    const appender = await this.appender(schema, table, catalog)
    try {
      appender.append(rows)
      appender.flush()
    } finally {
      appender.close()
    }
  }

  async appender(schema: string, table: string, catalog: string): Promise<Appender> {
    return new Appender(await this.#connection.createAppender(table, schema, catalog))
  }

  interrupt(): void {
    this.#connection.interrupt()
  }

  close(): void {
    for (const statement of this.#brief.values()) statement.close()
    this.#brief.clear()
    this.#connection.closeSync()
  }
}

/** Opens a copy of a foreign database the ordinary way, so that DuckDB replays its WAL, and checkpoints it. May abort the process. */
export async function replayForeignWal(file: string): Promise<void> {
  const instance = await DuckDBInstance.create(file)
  try {
    const connection = await instance.connect()
    // By statement, not at close: closing loses entries of secondary indexes that a replay has added (duckdb.md 3.4).
    await connection.run('FORCE CHECKPOINT')
    connection.closeSync()
  } finally {
    instance.closeSync()
  }
}
