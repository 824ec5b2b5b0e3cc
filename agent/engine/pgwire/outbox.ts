/**
 * What goes out, in order: messages gather in `writer`, `flush` hands them to the socket in one write, but not before the
 * session's durability barrier has let them go (R1, R4). While one flush waits for its fsync the next ones queue behind it,
 * so that pipelined commits share it; and what the same fsync lets go of several clients is sent together (batch-sender.ts).
 */

import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { step } from '../../step.ts'
import { descriptorOf } from '../socket-descriptor.ts'
import { SqlError } from '../sql-error.ts'
import type { BatchSender, Sendable } from './batch-sender.ts'
import { MessageWriter } from './messages.ts'
import { mostBytes, type Send } from './send-ring.ts'

/** Bytes held back (by a barrier or a slow reader) above which no more are produced. */
const highWater = 256 * 1024

interface Parcel {
  readonly bytes: Buffer
  released: boolean
}

export class Outbox implements Sendable {
  readonly writer = new MessageWriter()
  private readonly socket: Socket
  private readonly sender: BatchSender
  /** Set by the connection once it has a session. */
  barrier: (seq?: number) => Promise<void> | undefined = () => undefined
  /** Bytes in `writer` that tell of no commit after `harmlessSeq`. */
  private harmlessBytes = 0
  private harmlessSeq = 0
  private readonly events: { cut(error: unknown): void; room(): void }
  private parcels: Parcel[] = []
  private waitingBytes = 0
  private enlisted = false
  private ending = false
  private closed = false
  private waiters: { resolve: () => void; reject: (error: unknown) => void }[] = []

  /** `cut`: a barrier was rejected, nothing more may be said. `room`: it is no longer full. */
  constructor(socket: Socket, sender: BatchSender, events: { cut(error: unknown): void; room(): void }) {
    this.socket = socket
    this.sender = sender
    this.events = events
    socket.on('drain', () => this.wake())
  }

  /** Whether the client or the disk has to catch up before more is produced. */
  get full(): boolean {
    return this.waitingBytes >= highWater || this.socket.writableNeedDrain
  }

  /** undefined: produce more. Else resolves when the client and the disk have caught up; throws 08006 when the client is lost. */
  room(): Promise<void> | undefined {
    if (this.closed) return Promise.reject(lost())
    if (!this.full) return undefined
    return new Promise((resolve, reject) => this.waiters.push({ resolve, reject }))
  }

  /**
   * What was written since `writer` had this length tells of no commit after `seq` (0: of none at all). Where that holds for all that a flush sends, it need not wait
   * for whatever else is on its way to the disk.
   */
  harmless(from: number, seq: number): void {
    this.harmlessBytes += this.writer.length - from
    this.harmlessSeq = Math.max(this.harmlessSeq, seq)
  }

  /** Sends what was written so far, as soon as it may be seen. */
  flush(): void {
    const bytes = this.writer.take()
    const seq = bytes?.length === this.harmlessBytes ? this.harmlessSeq : undefined
    this.harmlessBytes = 0
    this.harmlessSeq = 0
    if (bytes === undefined || this.closed) return
    const barrier = this.barrier(seq)
    if (barrier === undefined && this.parcels.length === 0) {
      step('WIRE:ANSWER')
      this.socket.write(bytes)
      return
    }
    const parcel: Parcel = { bytes, released: barrier === undefined }
    this.parcels.push(parcel)
    this.waitingBytes += bytes.length
    barrier?.then(
      () => {
        parcel.released = true
        this.release()
      },
      (error: unknown) => this.events.cut(error),
    )
  }

  /** Flushes, then closes our side. */
  end(): void {
    this.flush()
    this.ending = true
    if (this.parcels.length === 0) this.socket.end()
  }

  /** The socket is gone: waiting producers fail, the rest is dropped. */
  close(): void {
    this.closed = true
    this.parcels = []
    const waiters = this.waiters
    this.waiters = []
    for (const waiter of waiters) waiter.reject(lost())
  }

  private release(): void {
    if (this.closed || this.enlisted || this.parcels[0]?.released !== true) return
    this.enlisted = true
    this.sender.enlist(this)
  }

  /** What may go now: little is offered, where the socket has sent all that it had before; anything else it is given at once. */
  offer(alone: boolean): Send | undefined {
    this.enlisted = false
    if (this.closed) return undefined
    const held = this.parcels.findIndex(({ released }) => !released)
    const parcels = this.parcels.splice(0, held === -1 ? this.parcels.length : held)
    const length = parcels.reduce((sum, { bytes }) => sum + bytes.length, 0)
    this.waitingBytes -= length
    const { socket } = this
    const byItself = alone || length > mostBytes || socket.writableLength > 0 || socket.writableEnded || socket instanceof TLSSocket
    const fd = byItself ? -1 : descriptorOf(socket)
    if (fd < 0) {
      this.write(parcels)
      return undefined
    }
    step('WIRE:ANSWER')
    const parts = parcels.map(({ bytes }) => bytes)
    return { fd, bytes: parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts) }
  }

  private write(parcels: readonly Parcel[]): void {
    const { socket } = this
    // Corked, one write costs as much as several.
    if (parcels.length > 1) socket.cork()
    for (const { bytes } of parcels) {
      step('WIRE:ANSWER')
      socket.write(bytes)
    }
    if (parcels.length > 1) socket.uncork()
  }

  /** The rest is the socket's, which also meets the error, if there was one. */
  sent(offer: Send, bytes: number | undefined): void {
    if (bytes === undefined) this.socket.destroy()
    else if (bytes < offer.bytes.length) this.socket.write(offer.bytes.subarray(Math.max(0, bytes)))
  }

  settled(): void {
    if (this.closed) return
    if (this.ending && this.parcels.length === 0) this.socket.end()
    this.wake()
  }

  private wake(): void {
    if (this.closed || this.full) return
    const waiters = this.waiters
    this.waiters = []
    for (const waiter of waiters) waiter.resolve()
    this.events.room()
  }
}

function lost(): SqlError {
  return new SqlError('08006', 'connection to client lost')
}
