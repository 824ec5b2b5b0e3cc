/** Rows on their way out: pulls a RowStream as fast as the client takes it, and remembers where a row limit stopped it. */

import type { Chunk, RowStream } from './backend.ts'
import { type Encoder, encoderOf, type Format } from './encoding.ts'
import { type MessageWriter, Server } from './messages.ts'
import { Numbers } from './numbers.ts'
import type { Outbox } from './outbox.ts'

/** Results up to this size leave in one write with their ReadyForQuery; larger ones go out in pieces of it. */
const flushBytes = 64 * 1024

export class Cursor {
  private readonly stream: RowStream
  private readonly encoders: readonly Encoder[]
  private readonly formats: readonly Format[]
  private chunk: Chunk | null = null
  private row = 0
  private closed = false

  /** Throws 0A000 when a column can't be had in the format asked for. */
  constructor(stream: RowStream, formats: readonly Format[]) {
    this.stream = stream
    this.formats = stream.fields.map((_, i) => formats[i] ?? 0)
    this.encoders = stream.fields.map((field, i) => encoderOf(field.type, this.formats[i] as Format))
  }

  /** The command tag, once `send` has returned true. */
  get tag(): string {
    return this.stream.tag
  }

  /** Sends up to `limit` rows; true when the result is at its end. */
  async send(outbox: Outbox, limit: number): Promise<boolean> {
    let left = limit
    while (left > 0) {
      if (this.chunk === null || this.row >= this.chunk.count) {
        this.row = 0
        this.chunk = await this.stream.next(limit === Number.POSITIVE_INFINITY)
        if (this.chunk === null) return true
        continue
      }
      const from = this.row
      this.row = this.encode(outbox.writer, this.chunk, Math.min(this.chunk.count, from + left))
      left -= this.row - from
      if (outbox.writer.length >= flushBytes) {
        outbox.flush()
        const room = outbox.room()
        if (room !== undefined) await room
      }
    }
    return false
  }

  /** Frees the stream; safe twice. */
  async close(): Promise<void> {
    if (this.closed) return
    this.closed = true
    this.chunk = null
    await this.stream.close()
  }

  /** Writes DataRows up to row `end` or until enough for a write has gathered; returns the next row. */
  private encode(writer: MessageWriter, chunk: Chunk, end: number): number {
    const { encoders, formats } = this
    const { columns } = chunk
    const width = encoders.length
    let row = this.row
    try {
      while (row < end && writer.length < flushBytes) {
        writer.begin(Server.dataRow)
        writer.int16(width)
        for (let i = 0; i < width; i++) {
          const column = columns[i]!
          if (column instanceof Numbers) {
            if (column.isNull(row)) writer.int32(-1)
            else if (formats[i] === 1) encoders[i]!(writer, column.cell(row))
            else if (column.scale >= 0) writer.sizedDecimal(column.values[row]!, column.scale)
            else encoders[i]!(writer, column.values[row]!)
          } else {
            const cell = column[row]!
            if (cell === null) writer.int32(-1)
            else encoders[i]!(writer, cell)
          }
        }
        writer.finish()
        row++
      }
    } catch (error) {
      writer.abandon()
      throw error
    }
    return row
  }
}
