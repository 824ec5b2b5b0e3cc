/** COPY data between the socket, which pushes, and the engine, which pulls. */

import type { SqlError } from '../sql-error.ts'
import type { CopySource } from './backend.ts'

/** Bytes buffered above which the socket is not read any more. */
const highWater = 256 * 1024

export class CopyStream implements CopySource {
  private chunks: Buffer[] = []
  private bytes = 0
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

  /** Takes the bytes: they must not change afterwards. They are handed out at the next `deliver`, so that small messages go together. */
  push(data: Buffer): void {
    if (data.length === 0) return
    this.chunks.push(data)
    this.bytes += data.length
  }

  /** CopyDone. */
  end(): void {
    this.ended = true
  }

  /** CopyFail, a cancel, or a lost client: reading throws, data not read yet is dropped. */
  abort(error: SqlError): void {
    this.error ??= error
    this.chunks = []
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
    const { chunks } = this
    this.chunks = []
    this.bytes = 0
    return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
  }
}
