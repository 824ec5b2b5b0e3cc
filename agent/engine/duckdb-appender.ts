/** DuckDB's appender: whole rows of one table, all columns that are not generated, checked when they are flushed. */

import { type DuckDBAppender, DuckDBDataChunk, type DuckDBType, type DuckDBValue } from '@duckdb/node-api'
import { bytesOf, type Cell, type Rows } from '../journal/types.ts'
import { forChunks, type StagedRows } from './duckdb-packed.ts'
import './duckdb-union.ts'
import { cellWriter, chunkRows, columnType, identity } from './duckdb-values.ts'

/** Of rows that wait for others: DuckDB is to hold them, not V8. */
const mostWaitingBytes = 1 << 20

export class Appender {
  #appender: DuckDBAppender
  readonly columnCount: number
  #types: DuckDBType[]
  #writers: ((cell: Cell) => DuckDBValue)[]
  /** Rows that do not fill a chunk yet, by column. */
  #waiting: Cell[][] = []
  #waitingRows = 0
  #waitingBytes = 0

  constructor(appender: DuckDBAppender) {
    this.#appender = appender
    this.columnCount = appender.columnCount
    this.#types = Array.from({ length: this.columnCount }, (_, i) => appender.columnType(i))
    this.#writers = this.#types.map((type) => cellWriter(columnType(type)))
  }

  append(rows: Rows): void {
    for (let start = 0; start < rows.count; ) {
      const end = Math.min(start + chunkRows - this.#waitingRows, rows.count)
      const columns = rows.columns.map((column) => column.slice(start, end))
      // A chunk costs as much as a hundred rows do: those of small transactions share one.
      if (this.#waitingRows > 0) for (const [i, cells] of this.#waiting.entries()) cells.push(...(columns[i] as Cell[]))
      else this.#waiting = columns
      this.#waitingRows += end - start
      if (this.#waitingRows === chunkRows) this.#appendWaiting()
      start = end
    }
    this.#waitingBytes += bytesOf(rows)
    if (this.#waitingRows > 0 && this.#waitingBytes >= mostWaitingBytes) this.#appendWaiting()
  }

  /** Rows of which most are bytes already. */
  appendStaged(rows: StagedRows): void {
    const columns = this.#types.map((type, i) => ({ type, write: this.#writers[i] as (cell: Cell) => DuckDBValue }))
    forChunks(columns, rows, (chunk) => this.#appender.appendDataChunk(chunk))
  }

  flush(): void {
    if (this.#waitingRows > 0) this.#appendWaiting()
    this.#appender.flushSync()
  }

  /** Closes without the rows that were not flushed, or whose flush has failed. */
  close(): void {
    // Else they are tried again: by close, and once more when the appender is collected as garbage, outside of any transaction of ours.
    this.#appender.clear()
    this.#appender.closeSync()
  }

  #appendWaiting(): void {
    const chunk = DuckDBDataChunk.create(this.#types, this.#waitingRows)
    const columns = this.#writers.map((write, i) => {
      const cells = this.#waiting[i] as Cell[]
      return write === identity ? (cells as DuckDBValue[]) : cells.map((cell) => (cell === null ? null : write(cell)))
    })
    this.#waiting = []
    this.#waitingRows = 0
    this.#waitingBytes = 0
    try {
      chunk.setColumns(columns)
      this.#appender.appendDataChunk(chunk)
    } finally {
      // Not when garbage is collected, of which V8 sees little: strings are native memory.
      chunk.reset()
    }
  }
}
