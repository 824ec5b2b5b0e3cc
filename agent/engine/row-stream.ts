/** Rows of one statement on their way to the wire: streamed from DuckDB, or already in memory. */

import type { Rows } from '../journal/types.ts'
import type { Connection, Result } from './duckdb.ts'
import { toSqlError } from './duckdb-errors.ts'
import type { Chunk, Field, RowStream } from './pgwire/backend.ts'
import { Numbers } from './pgwire/numbers.ts'
import { SqlError } from './sql-error.ts'

/** Rows that are in memory. */
export class MemoryRows implements RowStream {
  readonly fields: readonly Field[]
  readonly tag: string
  #rows: Rows | null

  constructor(fields: readonly Field[], rows: Rows, tag: string) {
    this.fields = fields
    this.tag = tag
    this.#rows = rows
  }

  async next(): Promise<Chunk | null> {
    const rows = this.#rows
    this.#rows = null
    return rows === null || rows.count === 0 ? null : rows
  }

  async close(): Promise<void> {
    this.#rows = null
  }
}

export interface StreamEvents {
  /** Around each fetch, which makes DuckDB work. */
  fetch<T>(work: () => Promise<T>): Promise<T>
  ended(): void
  failed(error: unknown): void
}

/** Bytes, about. */
const mostBuffered = 64 << 20

function sizeOf({ count, columns }: Chunk): number {
  let bytes = 0
  for (const cells of columns) {
    bytes += count * 16
    if (cells instanceof Numbers) continue
    for (const cell of cells) if (typeof cell === 'string' || cell instanceof Uint8Array) bytes += cell.length
  }
  return bytes
}

/** Rows that DuckDB gives as they are asked for. The connection is busy until the end; `buffer` frees it for another statement. */
export class StreamedRows implements RowStream {
  readonly fields: readonly Field[]
  #connection: Connection
  #result: Result
  #verb: string
  #count = 0
  #buffered: Chunk[] | undefined
  #ended = false
  #events: StreamEvents

  constructor(connection: Connection, result: Result, verb: string, events: StreamEvents) {
    this.#connection = connection
    this.#result = result
    this.#verb = verb
    this.#events = events
    this.fields = result.columns
  }

  get tag(): string {
    return `${this.#verb} ${this.#count}`
  }

  async next(all = false): Promise<Chunk | null> {
    const chunk = this.#buffered === undefined ? await this.#fetch(all) : (this.#buffered.shift() ?? null)
    if (chunk !== null) this.#count += chunk.count
    return chunk
  }

  /** Takes the rest into memory, so that the connection can run another statement. Throws 54000 where that is too much. */
  async buffer(): Promise<void> {
    if (this.#buffered !== undefined || this.#ended) return
    const chunks: Chunk[] = []
    let bytes = 0
    for (;;) {
      const chunk = await this.#fetch(false)
      if (chunk === null) break
      chunks.push(chunk)
      bytes += sizeOf(chunk)
      if (bytes <= mostBuffered) continue
      await this.close()
      throw new SqlError('54000', 'the rows of a portal that are still to be read do not fit into memory beside another statement', {
        hint: 'read it to its end first, or use another connection',
      })
    }
    this.#buffered = chunks
  }

  async close(): Promise<void> {
    this.#buffered = []
    if (this.#ended) return
    this.#ended = true
    // Nobody wants what it is at work on any more: the statement has failed.
    if (this.#result.isAhead) this.#connection.interrupt()
    await this.#result.settle()
    // Another statement ends the stream in DuckDB, and with it the snapshot that would hold up checkpoints.
    await this.#connection.run('SELECT 1').catch(() => {})
    this.#events.ended()
  }

  async #fetch(all: boolean): Promise<Chunk | null> {
    if (this.#ended) return null
    try {
      const chunk = await this.#events.fetch(() => this.#result.nextForWire(all))
      if (chunk === null) this.#end()
      return chunk
    } catch (error) {
      this.#end()
      this.#events.failed(error)
      throw toSqlError(error)
    }
  }

  #end(): void {
    this.#ended = true
    this.#events.ended()
  }
}
