/** Rows that DuckDB answers with, as they are fetched or already there. */

import {
  type DuckDBDataChunk,
  type DuckDBMaterializedResult,
  type DuckDBResult,
  type DuckDBValue,
  ResultReturnType,
} from '@duckdb/node-api'
import { bytesOf, type Cell, type ColumnType, type Rows } from '../journal/types.ts'
import { cellReader, chunkRows, columnType, identity } from './duckdb-values.ts'

/** A chunk of a result, by column. */
export interface Chunk {
  readonly count: number
  readonly columns: readonly (readonly Cell[])[]
}

/** Rows from which the size of the others is guessed. */
const fewRows = 64
/** Bytes of values that are taken out of a chunk at a time, about. */
const togetherBytes = 4 << 20
/** Values that are taken out at a time, at most: half a millisecond of the event loop, with what the wire makes of them. */
const togetherCells = 2_048

/** How many rows like these should be handed out at a time. */
function togetherOf(rows: Rows): number {
  const bytes = bytesOf(rows) / rows.count
  const most = Math.min(Math.floor(togetherBytes / bytes), Math.floor(togetherCells / rows.columns.length))
  return Math.max(1, Math.min(chunkRows, most))
}

/** Gives DuckDB's own chunks, one after the other, and null at the end. */
type Source = () => DuckDBDataChunk | null | Promise<DuckDBDataChunk | null>

export class Result {
  readonly columns: readonly { name: string; type: ColumnType }[]
  /** How many rows the statement changed, where it does not answer with rows. */
  readonly rowsChanged: number
  /** True when the statement answers with rows, not with a count of changes. */
  readonly hasRows: boolean
  #source: Source
  #turn: (() => Promise<void>) | undefined
  #readers: ((value: DuckDBValue) => Cell)[]
  /** The chunk that is being handed out, and the rows of it that have been. */
  #chunk: DuckDBDataChunk | null = null
  #given = 0
  /** Rows that are handed out at a time: fewer where their values are large. Undefined before the first ones are seen. */
  #together: number | undefined

  private constructor(result: DuckDBResult, source: Source, turn?: () => Promise<void>) {
    this.columns = Array.from({ length: result.columnCount }, (_, i) => ({
      name: result.columnName(i),
      type: columnType(result.columnType(i)),
    }))
    this.hasRows = result.returnType === ResultReturnType.QUERY_RESULT
    this.rowsChanged = this.hasRows ? 0 : result.rowsChanged
    this.#source = source
    this.#turn = turn
    this.#readers = this.columns.map(({ type }) => cellReader(type))
  }

  /** Of rows that are there already: they are taken without a turn through the thread pool. */
  static materialized(result: DuckDBMaterializedResult): Result {
    let taken = 0
    return new Result(result, () => (taken < result.chunkCount ? result.getChunk(taken++) : null))
  }

  /** Of rows that come as they are fetched. Larger pieces of them wait for their `turn` on the event loop. */
  static streamed(result: DuckDBResult, fetch: Source, turn?: () => Promise<void>): Result {
    return new Result(result, fetch, turn)
  }

  /** The next rows: a chunk of DuckDB's, or a part of one. Its memory is not DuckDB's any more. */
  async next(): Promise<Chunk | null> {
    this.#chunk ??= await this.#source()
    const chunk = this.#chunk
    if (chunk === null) return null
    const there = chunk.rowCount
    if (there === 0) {
      this.#chunk = null
      return null
    }
    if (there > fewRows) await this.#turn?.()
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
