/** COPY data between the socket, which pushes, and the engine, which pulls. */

import type { SqlError } from '../sql-error.ts'
import type { CopySource } from './backend.ts'
import { grown } from './copy-fields.ts'

/** Bytes buffered above which the socket is not read any more. */
const highWater = 256 * 1024
const firstBytes = 16 * 1024
/** More than that is not kept for the data that comes next. */
const mostKeptBytes = 1 << 20
const nothing = Buffer.alloc(0)

export class CopyStream implements CopySource {
  private buffer: Buffer = nothing
  /** Bytes that wait in it. */
  private bytes = 0
  /** What was handed out last, for the data after the next. */
  private lent: Buffer = nothing
  private ended = false
  private error: SqlError | undefined
  private waiting: { resolve: (data: Buffer | null) => void; reject: (error: SqlError) => void } | undefined
  private readonly wanted: () => void

  /** `wanted`: there is room for more. */
  constructor(wanted: () => void) {
    this.wanted = wanted
  }

  get full(): boolean {
    return this.bytes >= highWater
  }

  /** Copies the bytes. They are handed out at the next `deliver`, so that small messages go together. */
  push(data: Uint8Array): void {
    const needed = this.bytes + data.length
    if (needed > this.buffer.length) this.buffer = grown(this.buffer, this.bytes, Math.max(firstBytes, needed), mostKeptBytes)
    this.buffer.set(data, this.bytes)
    this.bytes = needed
  }

  /** CopyDone. */
  end(): void {
    this.ended = true
  }

  /** CopyFail, a cancel, or a lost client: reading throws, data not read yet is dropped. */
  abort(error: SqlError): void {
    this.error ??= error
    this.bytes = 0
    this.deliver()
  }

  /** Answers a waiting `read`. Called after each batch of messages. */
  deliver(): void {
    const { waiting } = this
    if (waiting === undefined) return
    if (this.error === undefined && this.bytes === 0 && !this.ended) return
    this.waiting = undefined
    if (this.error !== undefined) waiting.reject(this.error)
    else waiting.resolve(this.bytes === 0 ? null : this.takeAll())
  }

  read(): Promise<Buffer | null> {
    if (this.error !== undefined) return Promise.reject(this.error)
    if (this.bytes > 0) {
      const data = this.takeAll()
      this.wanted()
      return Promise.resolve(data)
    }
    if (this.ended) return Promise.resolve(null)
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject }
      // Messages may lie in the connection's buffer that did not fit before the last delivery.
      this.wanted()
    })
  }

  private takeAll(): Buffer {
    const { buffer } = this
    const data = buffer.subarray(0, this.bytes)
    this.buffer = this.lent
    this.lent = buffer.length <= mostKeptBytes ? buffer : nothing
    this.bytes = 0
    return data
  }
}
