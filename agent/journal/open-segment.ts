/** A segment as the writer has it: created durably, zero-filled ahead of what is written, sealed when the next one has begun. */

import fs from 'node:fs'
import path from 'node:path'
import { cutOpen, openForWriting, openThrough, removeDurably, syncData, syncDirectory, syncOpen, writeAll, writeThrough } from '../disk.ts'
import type { Label } from '../step.ts'
import { encodeSegmentHeader, type SegmentHeader, segmentHeaderBytes, segmentName } from './segment.ts'

/** Step in which space is allocated ahead of the journal's end. */
const allocationBytes = 1 << 20
const zeros = new Uint8Array(allocationBytes)

export class OpenSegment {
  readonly file: string
  readonly firstSeq: number
  readonly fd: number
  /** End of what was handed to the flusher, in bytes. */
  written = segmentHeaderBytes
  /** End of what is durable. */
  durable = segmentHeaderBytes
  /** Upper bound of the bytes that are queued for it. */
  queued = 0
  /** For what is durable when its write ends. */
  #through: number | undefined
  /** End of the zero-filled space. */
  #allocated = segmentHeaderBytes

  private constructor(file: string, firstSeq: number, fd: number) {
    this.file = file
    this.firstSeq = firstSeq
    this.fd = fd
  }

  /** The header and the directory entry are durable before anything can be acknowledged from it. Throws what the disk says, and leaves nothing then. */
  static create(directory: string, header: SegmentHeader): OpenSegment {
    const file = path.join(directory, segmentName(header.firstSeq))
    const segment = new OpenSegment(file, header.firstSeq, openForWriting(file, 'w', 'SEGMENT:CREATE'))
    try {
      writeAll(segment.fd, encodeSegmentHeader(header), 0, 'SEGMENT:HEADER')
      segment.#allocate(allocationBytes)
      syncOpen(segment.fd, 'SEGMENT:SYNC')
      syncDirectory(directory, 'SEGMENT:ENTRY')
      segment.#through = openThrough(file, 'SEGMENT:THROUGH')
      return segment
    } catch (error) {
      segment.drop()
      throw error
    }
  }

  /** End of all that it is to hold. */
  get end(): number {
    return this.written + this.queued
  }

  /** Sees to it that so many bytes more have their place. True: space was allocated, which the next fsync has to write. Throws what the disk says. */
  makeRoom(bytes: number): boolean {
    const needed = this.end + bytes
    if (needed <= this.#allocated) return false
    this.#allocate(needed + allocationBytes)
    return true
  }

  /** Zero-fills up to `end`, rounded up; or not at all: what a full disk still gives belongs to small files, a cursor's for one. */
  #allocate(end: number): void {
    const target = Math.ceil(end / allocationBytes) * allocationBytes
    let reached = this.#allocated
    try {
      while (reached < target) {
        const part = zeros.subarray(0, Math.min(zeros.length, target - reached))
        writeAll(this.fd, part, reached, 'SEGMENT:ALLOCATE')
        reached += part.length
      }
    } catch (error) {
      cutOpen(this.fd, this.#allocated, 'SEGMENT:ALLOCATE')
      throw error
    }
    this.#allocated = reached
  }

  /** Writes and makes durable, beside the event loop; where the system can, in one call. */
  async writeThrough(data: Uint8Array, at: number, label: Label): Promise<void> {
    if (this.#through !== undefined) return writeThrough(this.#through, data, at, label)
    writeAll(this.fd, data, at, label)
    await syncData(this.fd, label)
  }

  /** Everything in it is durable already; only its length is new. */
  async seal(): Promise<void> {
    cutOpen(this.fd, this.written, 'SEGMENT:SEAL')
    await syncData(this.fd, 'SEGMENT:SEAL')
    this.close()
  }

  close(): void {
    fs.closeSync(this.fd)
    if (this.#through !== undefined) fs.closeSync(this.#through)
  }

  drop(): void {
    this.close()
    removeDurably(this.file, 'SEGMENT:DROP')
  }
}
