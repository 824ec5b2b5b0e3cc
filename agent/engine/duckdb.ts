/**
 * DuckDB itself: opens the guarded file without DuckDB's own WAL, and runs SQL. Only this file and its duckdb-….ts neighbours import
 * DuckDB. Errors pass through as DuckDB throws them; agent/engine/duckdb-errors.ts gives them a meaning.
 */

import {
  type DuckDBConnection,
  type DuckDBDataChunk,
  type DuckDBDecimalValue,
  DuckDBInstance,
  DuckDBMaterializedResult,
  type DuckDBPreparedStatement,
  type DuckDBResult,
  type DuckDBTimestampValue,
  DuckDBTypeId,
  type DuckDBValue,
  version as duckdbVersion,
  StatementType,
} from '@duckdb/node-api'
import { bytesOf, type Cell, type ColumnType, type Rows } from '../journal/types.ts'
import { Appender } from './duckdb-appender.ts'
import { cellReader, chunkRows, columnType, duckdbType, identity, toDuckDB } from './duckdb-values.ts'
import { quoteIdentifier, quoteString } from './sql/tokens.ts'

export { duckdbVersion, StatementType }

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
  #instance: DuckDBInstance

  private constructor(instance: DuckDBInstance, catalog: string) {
    this.#instance = instance
    this.catalog = catalog
  }

  static async open(options: DatabaseOptions): Promise<Database> {
    const instance = await DuckDBInstance.create(':memory:', {
      threads: String(options.threads),
      memory_limit: `${Math.floor(options.memoryLimit / 1e6)}MB`,
      temp_directory: options.temporaryDirectory,
    })
    const connection = await instance.connect()
    try {
      const storage = options.create ? ", STORAGE_VERSION 'v1.5.0'" : ''
      await connection.run(
        `ATTACH ${quoteString(options.file)} AS ${quoteIdentifier(options.catalog)} (RECOVERY_MODE 'NO_WAL_WRITES'${storage})`,
      )
      // No checkpoint but by statement: the file changes only when the engine says so (duckdb.md 6).
      await connection.run('PRAGMA disable_checkpoint_on_shutdown')
      await connection.run("SET checkpoint_threshold = '1TB'")
      await connection.run('SET wal_autocheckpoint_entries = 0')
      await connection.run('SET autoinstall_known_extensions = false')
      await connection.run('SET autoload_known_extensions = false')
      if (!options.externalAccess) await connection.run('SET enable_external_access = false')
    } finally {
      connection.closeSync()
    }
    return new Database(instance, options.catalog)
  }

  async connect(): Promise<Connection> {
    const connection = await this.#instance.connect()
    // A stream's buffer is counted without the strings: 1 MB, DuckDB's own choice, can be ten chunks of 2,048 large values. So it gets room for one chunk.
    await connection.run(`USE ${quoteIdentifier(this.catalog)}; SET streaming_buffer_size = '1KB'`)
    return new Connection(connection)
  }

  /** Only for a file that nobody uses: a running statement would keep the instance alive. */
  close(): void {
    this.#instance.closeSync()
  }
}

/** What DuckDB makes of an ALTER that gives every row a value. */
const alterInParts = [StatementType.SET, StatementType.ALTER, StatementType.UPDATE, StatementType.ALTER, StatementType.SET]
const schemaChanges = new Set([StatementType.CREATE, StatementType.CREATE_FUNC, StatementType.ALTER, StatementType.DROP])

/** A chunk of a result, by column. */
export interface Chunk {
  readonly count: number
  readonly columns: readonly (readonly Cell[])[]
}

export class Connection {
  #connection: DuckDBConnection

  constructor(connection: DuckDBConnection) {
    this.#connection = connection
  }

  async run(sql: string): Promise<void> {
    await this.#connection.run(sql)
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
        await part.run()
      } finally {
        part.destroySync()
      }
    }
    return true
  }

  /** All rows of a query, by row. For the engine's own small queries. */
  async all(sql: string): Promise<Cell[][]> {
    const result = new Result(await this.#connection.run(sql))
    const rows: Cell[][] = []
    for (;;) {
      const chunk = await result.next()
      if (chunk === null) return rows
      for (let row = 0; row < chunk.count; row++) rows.push(chunk.columns.map((column) => column[row] as Cell))
    }
  }

  async prepare(sql: string): Promise<PreparedStatement> {
    return new PreparedStatement(await this.#connection.prepare(sql))
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
    this.#connection.closeSync()
  }
}

/** One call into the addon for the types of most columns, where a value of any type takes two. */
const binders: Partial<Record<ColumnType['kind'], (statement: DuckDBPreparedStatement, index: number, value: DuckDBValue) => void>> = {
  BIGINT: (statement, index, value) => statement.bindBigInt(index, value as bigint),
  INTEGER: (statement, index, value) => statement.bindInteger(index, value as number),
  DOUBLE: (statement, index, value) => statement.bindDouble(index, value as number),
  BOOLEAN: (statement, index, value) => statement.bindBoolean(index, value as boolean),
  VARCHAR: (statement, index, value) => statement.bindVarchar(index, value as string),
  TIMESTAMP: (statement, index, value) => statement.bindTimestamp(index, value as DuckDBTimestampValue),
  DECIMAL: (statement, index, value) => statement.bindDecimal(index, value as DuckDBDecimalValue),
}

export class PreparedStatement {
  #statement: DuckDBPreparedStatement

  constructor(statement: DuckDBPreparedStatement) {
    this.#statement = statement
  }

  get parameterCount(): number {
    return this.#statement.parameterCount
  }

  get type(): StatementType {
    return this.#statement.statementType
  }

  /** Type of parameter `index` (from 0), or null where DuckDB leaves it open. */
  parameterType(index: number): ColumnType | null {
    const id = this.#statement.parameterTypeId(index + 1)
    if (id === DuckDBTypeId.INVALID || id === DuckDBTypeId.ANY || id === DuckDBTypeId.SQLNULL || id > 100) return null
    return columnType(this.#statement.parameterType(index + 1))
  }

  columns(): { name: string; type: ColumnType }[] {
    return Array.from({ length: this.#statement.columnCount }, (_, i) => ({
      name: this.#statement.columnName(i),
      type: columnType(this.#statement.columnType(i)),
    }))
  }

  /** Binds text as DuckDB's own string literal would be: it casts where the parameter is used. */
  bindText(index: number, text: string): void {
    this.#statement.bindVarchar(index + 1, text)
  }

  bindNull(index: number): void {
    this.#statement.bindNull(index + 1)
  }

  bindCell(index: number, type: ColumnType, cell: Cell): void {
    const bind = cell === null ? undefined : binders[type.kind]
    if (bind === undefined) this.#statement.bindValue(index + 1, toDuckDB(type, cell), duckdbType(type))
    else bind(this.#statement, index + 1, toDuckDB(type, cell))
  }

  async run(): Promise<Result> {
    return new Result(await this.#statement.run())
  }

  /** Runs it where nobody asks for its answer. */
  async execute(): Promise<void> {
    await this.#statement.run()
  }

  /** Rows come as they are fetched; the connection stays busy until the end. */
  async stream(): Promise<Result> {
    return new Result(await this.#statement.stream())
  }

  close(): void {
    this.#statement.destroySync()
  }
}

/** Rows from which the size of the others is guessed. */
const fewRows = 64
/** Bytes of values that are taken out of a chunk at a time, about. */
const togetherBytes = 4 << 20

/** How many rows like these should be handed out at a time. */
function togetherOf(rows: Rows): number {
  const bytes = bytesOf(rows) / rows.count
  return Math.max(1, Math.min(chunkRows, Math.floor(togetherBytes / bytes)))
}

export class Result {
  readonly columns: readonly { name: string; type: ColumnType }[]
  #result: DuckDBResult
  #readers: ((value: DuckDBValue) => Cell)[]
  /** Chunks of a materialized result. */
  #taken = 0
  /** The chunk that is being handed out, and the rows of it that have been. */
  #chunk: DuckDBDataChunk | null = null
  #given = 0
  /** Rows that are handed out at a time: fewer where their values are large. Undefined before the first ones are seen. */
  #together: number | undefined

  constructor(result: DuckDBResult) {
    this.#result = result
    this.columns = Array.from({ length: result.columnCount }, (_, i) => ({
      name: result.columnName(i),
      type: columnType(result.columnType(i)),
    }))
    this.#readers = this.columns.map(({ type }) => cellReader(type))
  }

  get rowsChanged(): number {
    return this.#result.rowsChanged
  }

  /** True when the statement answers with rows, not with a count of changes. */
  get hasRows(): boolean {
    return this.#result.returnType === 3
  }

  /** The next rows: a chunk of DuckDB's, or a part of one. Its memory is not DuckDB's any more. */
  async next(): Promise<Chunk | null> {
    this.#chunk ??= this.#result instanceof DuckDBMaterializedResult ? this.#materialized(this.#result) : await this.#result.fetchChunk()
    const chunk = this.#chunk
    if (chunk === null) return null
    const there = chunk.rowCount
    if (there === 0) {
      this.#chunk = null
      return null
    }
    this.#together ??= there <= fewRows ? chunkRows : togetherOf(this.#read(chunk, 0, fewRows))
    const start = this.#given
    const end = Math.min(there, start + this.#together)
    const rows = this.#read(chunk, start, end - start)
    this.#together = togetherOf(rows)
    this.#given = end
    if (end === there) {
      // Not when garbage is collected: it can be hundreds of MB, of which V8 knows nothing.
      chunk.reset()
      this.#chunk = null
      this.#given = 0
    }
    return rows
  }

  #read(chunk: DuckDBDataChunk, start: number, count: number): Chunk {
    const columns = this.#readers.map((read, i) => {
      const values = count === chunk.rowCount ? chunk.getColumnValues(i) : chunk.getColumnVector(i).slice(start, count).toArray()
      if (read === identity) return values as Cell[]
      return values.map((value) => (value === null ? null : read(value)))
    })
    return { count, columns }
  }

  /** What is there already is taken without a turn through the thread pool. */
  #materialized(result: DuckDBMaterializedResult): DuckDBDataChunk | null {
    return this.#taken < result.chunkCount ? result.getChunk(this.#taken++) : null
  }

  /** What is left, chunk by chunk. */
  async *chunks(): AsyncGenerator<Chunk> {
    for (let chunk = await this.next(); chunk !== null; chunk = await this.next()) yield chunk
  }

  /** Everything that is left, as one chunk. */
  async rest(): Promise<Rows> {
    const columns: Cell[][] = this.columns.map(() => [])
    let count = 0
    for (;;) {
      const chunk = await this.next()
      if (chunk === null) return { count, columns }
      count += chunk.count
      chunk.columns.forEach((cells, i) => {
        const column = columns[i] as Cell[]
        for (const cell of cells) column.push(cell)
      })
    }
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
