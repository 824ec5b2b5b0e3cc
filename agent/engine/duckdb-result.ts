/** Rows that DuckDB answers with, as they are fetched or already there. */

import {
  type DuckDBDataChunk,
  type DuckDBMaterializedResult,
  type DuckDBResult,
  type DuckDBValue,
  ResultReturnType,
} from '@duckdb/node-api'
import { bytesOf, type Cell, type ColumnType, type Rows } from '../journal/types.ts'
import { type NumberReader, numberReader } from './duckdb-numbers.ts'
import { cellReader, chunkRows, columnType, identity } from './duckdb-values.ts'
import { type ChunkColumn, Numbers } from './pgwire/numbers.ts'

/** A chunk of a result, by column. */
export interface Chunk {
  readonly count: number
  readonly columns: readonly (readonly Cell[])[]
}

/** The same for the wire, where columns of numbers stay numbers. */
export interface WireChunk {
  readonly count: number
  readonly columns: readonly ChunkColumn[]
}

/** Rows from which the size of the others is guessed. */
const fewRows = 64
/** Bytes of values that are taken out of a chunk at a time, about. */
const togetherBytes = 4 << 20
/** Values that are taken out at a time, at most: half a millisecond of the event loop, with what the wire makes of them. */
const togetherCells = 4_096

function bytesOfRow({ count, columns }: WireChunk): number {
  const cells = columns.filter((column): column is readonly Cell[] => !(column instanceof Numbers))
  return bytesOf({ count, columns: cells }) / count + 8 * (columns.length - cells.length)
}

/** How many rows of so many bytes should be handed out at a time. */
function togetherOf(bytes: number, width: number): number {
  const most = Math.min(Math.floor(togetherBytes / bytes), Math.floor(togetherCells / width))
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
  #turn: ((urgent: boolean) => Promise<void>) | undefined
  #readers: ((value: DuckDBValue) => Cell)[]
  #numbers: (NumberReader | undefined)[]
  /** The next chunk, which DuckDB is at work on beforehand. */
  #ahead: Promise<DuckDBDataChunk | null> | undefined
  /** The chunk that is being handed out, and the rows of it that have been. */
  #chunk: DuckDBDataChunk | null = null
  #given = 0
  /** Rows that are handed out at a time: fewer where their values are large. Undefined before the first ones are seen. */
  #together: number | undefined

  private constructor(result: DuckDBResult, source: Source, turn?: (urgent: boolean) => Promise<void>) {
    this.columns = Array.from({ length: result.columnCount }, (_, i) => ({
      name: result.columnName(i),
      type: columnType(result.columnType(i)),
    }))
    this.hasRows = result.returnType === ResultReturnType.QUERY_RESULT
    this.rowsChanged = this.hasRows ? 0 : result.rowsChanged
    this.#source = source
    this.#turn = turn
    this.#readers = this.columns.map(({ type }) => cellReader(type))
    this.#numbers = this.columns.map(({ type }) => numberReader(type))
  }

  /** Of rows that are there already: they are taken without a turn through the thread pool. */
  static materialized(result: DuckDBMaterializedResult): Result {
    let taken = 0
    return new Result(result, () => (taken < result.chunkCount ? result.getChunk(taken++) : null))
  }

  /** The same, of a result that will be gone. */
  static taken(result: DuckDBMaterializedResult): Result {
    const chunks = Array.from({ length: result.chunkCount }, (_, i) => result.getChunk(i))
    return new Result(result, () => chunks.shift() ?? null)
  }

  /** Of rows that come as they are fetched. Larger pieces of them wait for their `turn` on the event loop, which is urgent where no client reads them but another statement waits. */
  static streamed(result: DuckDBResult, fetch: Source, turn?: (urgent: boolean) => Promise<void>): Result {
    return new Result(result, fetch, turn)
  }

  /** The next rows: a chunk of DuckDB's, or a part of one. Its memory is not DuckDB's any more. */
  async next(): Promise<Chunk | null> {
    return (await this.#next(false, false)) as Chunk | null
  }

  /** The same for the wire. `all`: it will ask until the end, so that DuckDB may work on the chunk that follows while these rows go out. */
  async nextForWire(all: boolean): Promise<WireChunk | null> {
    return this.#next(true, all)
  }

  /** DuckDB is at work on a chunk that nobody has asked for yet. */
  get isAhead(): boolean {
    return this.#ahead !== undefined
  }

  /** Resolves when it is not any more, whatever has come of it. */
  async settle(): Promise<void> {
    await this.#ahead?.catch(() => {})
  }

  async #next(forWire: boolean, all: boolean): Promise<WireChunk | null> {
    const fetched = this.#chunk ?? this.#ahead ?? this.#source()
    this.#ahead = undefined
    const chunk = await fetched
    this.#chunk = chunk
    if (chunk === null) return null
    const there = chunk.rowCount
    if (there === 0) {
      this.#chunk = null
      return null
    }
    if (there > fewRows) await this.#turn?.(!forWire)
    const width = this.columns.length
    this.#together ??= there <= fewRows ? chunkRows : togetherOf(bytesOfRow(this.#read(chunk, 0, fewRows, false)), width)
    const start = this.#given
    const end = Math.min(there, start + this.#together)
    const rows = this.#read(chunk, start, end - start, forWire)
    const bytes = bytesOfRow(rows)
    this.#together = togetherOf(bytes, width)
    this.#given = end
    if (end === there) {
      // Not when garbage is collected: it can be hundreds of MB, of which V8 knows nothing.
      chunk.reset()
      this.#chunk = null
      this.#given = 0
      // Of large values one chunk at a time must do.
      if (all && bytes * chunkRows <= togetherBytes) this.#begin()
    }
    return rows
  }

  #begin(): void {
    this.#ahead = Promise.resolve(this.#source())
    // Whoever asks for the next rows is told.
    this.#ahead.catch(() => {})
  }

  #read(chunk: DuckDBDataChunk, start: number, count: number, forWire: boolean): WireChunk {
    const columns = this.#readers.map((read, i) => {
      const numbers = forWire ? this.#numbers[i]?.(chunk, i, start, count) : undefined
      if (numbers !== undefined) return numbers
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
