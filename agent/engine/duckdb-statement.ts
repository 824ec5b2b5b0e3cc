/** A prepared statement of DuckDB's: binds values, and runs. */

import {
  DuckDBDataChunk,
  type DuckDBDecimalValue,
  DuckDBMaterializedResult,
  type DuckDBPreparedStatement,
  type DuckDBResult,
  type DuckDBTimestampValue,
  DuckDBTypeId,
  type DuckDBValue,
  ResultReturnType,
  type StatementType,
} from '@duckdb/node-api'
import duckdb from '@duckdb/node-bindings'
import type { Cell, ColumnType } from '../journal/types.ts'
import type { Analysts } from './analysts.ts'
import type { Calls } from './calls.ts'
import { addressOf, errorOf } from './duckdb-handles.ts'
import { Result } from './duckdb-result.ts'
import { columnType, duckdbType, toDuckDB } from './duckdb-values.ts'
import { taskState } from './task-thread.ts'

/** One call into the addon for the types of most columns, where a value of any type takes two. */
const binders: Partial<Record<ColumnType['kind'], (statement: DuckDBPreparedStatement, index: number, value: DuckDBValue) => void>> = {
  BIGINT: (statement, index, value) => statement.bindBigInt(index, value as bigint),
  INTEGER: (statement, index, value) => statement.bindInteger(index, value as number),
  DOUBLE: (statement, index, value) => statement.bindDouble(index, value as number),
  BOOLEAN: (statement, index, value) => statement.bindBoolean(index, value as boolean),
  VARCHAR: (statement, index, value) => statement.bindVarchar(index, value as string),
  // Of values of the type itself DuckDB's C API knows none: it casts the label.
  ENUM: (statement, index, value) => statement.bindVarchar(index, value as string),
  TIMESTAMP: (statement, index, value) => statement.bindTimestamp(index, value as DuckDBTimestampValue),
  DECIMAL: (statement, index, value) => statement.bindDecimal(index, value as DuckDBDecimalValue),
}

export class PreparedStatement {
  #statement: DuckDBPreparedStatement
  #calls: Calls
  /** Whose it is. */
  #connection: object
  #address: bigint | undefined

  constructor(statement: DuckDBPreparedStatement, calls: Calls, connection: object) {
    this.#statement = statement
    this.#calls = calls
    this.#connection = connection
    this.#address = calls.direct?.statement(statement)
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
    const bind = binders[type.kind]
    if (cell === null) this.bindNull(index)
    else if (bind === undefined) this.#statement.bindValue(index + 1, toDuckDB(type, cell), duckdbType(type))
    else bind(this.#statement, index + 1, toDuckDB(type, cell))
  }

  async run(): Promise<Result> {
    return Result.materialized(await this.#calls.pool(() => this.#statement.run()))
  }

  /** The same for what is known to be small: a row, by its key. Nothing can interrupt it. */
  async runBriefly(): Promise<Result> {
    const direct = this.#calls.alone(this.#connection)
    if (direct !== undefined && this.#address !== undefined) return direct.execute(this.#address, Result.taken)
    return Result.materialized(await this.#calls.small(() => this.#statement.run()))
  }

  /** Runs it where nobody asks for its answer. `alone`: it is small, and nobody else wants DuckDB. */
  async execute(alone: boolean): Promise<void> {
    if (!alone) return void (await this.change())
    const direct = this.#calls.here
    if (direct !== undefined && this.#address !== undefined) direct.execute(this.#address, () => {})
    else await this.#calls.small(() => this.#statement.run())
  }

  /** Writes what has gathered; resolves with how many rows it has changed. */
  change(): Promise<number> {
    return this.#calls.write(this.#address, async () => (await this.#statement.run()).rowsChanged)
  }

  /** Rows come as they are fetched; the connection stays busy until the end. */
  async stream(): Promise<Result> {
    const result = await this.#calls.pool(() => this.#statement.stream())
    return Result.streamed(result, () => this.#calls.pool(() => nextOf(result)))
  }

  /** The same, by the threads that work for queries; with the ms that it took them to the first rows. */
  async analyse(analysts: Analysts): Promise<{ result: Result; ms: number }> {
    const pending = this.#statement.startStream()
    const { pending_result: handle } = pending as unknown as { pending_result: duckdb.PendingResult }
    const { state, ms } = await analysts.work(addressOf(handle, 'pending'))
    if (state === taskState.error) throw new Error(duckdb.pending_error(handle))
    const result = await pending.getResult()
    if (result instanceof DuckDBMaterializedResult) return { result: Result.materialized(result), ms }
    return { result: Result.streamed(result, fetching(analysts, result), (urgent) => analysts.turn(urgent)), ms }
  }

  close(): void {
    this.#address = undefined
    this.#statement.destroySync()
  }
}

/** The next chunk, by libuv's threads. Throws what the addon keeps to itself: it gives an error behind the first rows for their end. */
async function nextOf(streamed: DuckDBResult): Promise<DuckDBDataChunk | null> {
  const chunk = await streamed.fetchChunk()
  if (chunk !== null && chunk.rowCount > 0) return chunk
  const failed = streamed.returnType === ResultReturnType.INVALID
  const error = failed ? errorOf((streamed as unknown as { result: duckdb.Result }).result) : null
  if (error !== null) throw new Error(error)
  return null
}

/** Fetches into one chunk again and again: whoever has been given it resets it. */
function fetching(analysts: Analysts, streamed: DuckDBResult): () => Promise<DuckDBDataChunk | null> {
  const { result } = streamed as unknown as { result: duckdb.Result }
  const types = Array.from({ length: streamed.columnCount }, (_, i) => duckdb.column_logical_type(result, i))
  const into = new DuckDBDataChunk(duckdb.create_data_chunk(types))
  const { chunk } = into as unknown as { chunk: duckdb.DataChunk }
  return async () => {
    const rows = await analysts.fetch(addressOf(result, 'result'), addressOf(chunk, 'chunk'))
    if (rows === 0) return null
    into.rowCount = rows
    return into
  }
}
