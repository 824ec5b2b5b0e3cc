/**
 * A consumer's side of the journal: a read position over the durable transactions, and a durable cursor
 * (`cursors/<name>.json`: {version, databaseId, epoch, confirmed, state}), written atomically.
 */

import fs from 'node:fs'
import path from 'node:path'
import { type Clock, systemClock } from '../clock.ts'
import { ensureDirectory, moveDurably, writeAtomic } from '../disk.ts'
import type { JournalConsumer } from '../plugin.ts'
import { SegmentReader } from './reader.ts'
import { decodeBatch } from './record.ts'
import { listSegments } from './segment.ts'
import { readTransactions } from './transactions.ts'
import type { Transaction } from './types.ts'

/** Where durable transactions are announced: the supervisor's connection to the engine. */
export interface DurableSource {
  /** Last durable seq known. */
  readonly durableSeq: number
  readonly databaseId: string
  readonly epoch: number
  /** Resolves when durableSeq > `seq`, or the signal aborts. */
  waitBeyond(seq: number, signal: AbortSignal): Promise<void>
}

export interface ConsumerOptions {
  name: string
  journal: string
  cursors: string
  source: DurableSource
  clock?: Clock
  /** Seqs that should be in the journal and are not, or cannot be read. */
  onGap: (gap: { firstSeq: number; lastSeq: number; reason: string }) => void
  /** A cursor file that cannot be read: it was moved to `quarantined`, and the consumer starts at the journal's oldest seq. */
  onBadCursor: (file: string, quarantined: string) => void
}

interface CursorFile {
  version: 1
  databaseId: string
  epoch: number
  confirmed: number
  state: unknown
}

/** Reads a cursor file; undefined when there is none. Throws when it is not readable as one. */
export function readCursor(file: string): CursorFile | undefined {
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  const cursor = JSON.parse(text) as CursorFile
  if (cursor.version !== 1 || !Number.isSafeInteger(cursor.confirmed)) throw new Error(`cursor file of unknown version or shape: ${file}`)
  return cursor
}

export function openConsumer(options: ConsumerOptions): JournalConsumer & { close(): void } {
  return new Consumer(options)
}

class Consumer implements JournalConsumer {
  #options: ConsumerOptions
  #clock: Clock
  #file: string
  #cursor: CursorFile
  /** Last seq handed out by read(). */
  #position: number
  #reader: SegmentReader | undefined
  #pending: Transaction[] = []

  constructor(options: ConsumerOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    ensureDirectory(options.cursors)
    this.#file = path.join(options.cursors, `${options.name}.json`)
    const { databaseId, epoch } = options.source
    let cursor: CursorFile | undefined
    try {
      cursor = readCursor(this.#file)
    } catch {
      const quarantined = `${this.#file}.${Date.now()}.bad`
      moveDurably(this.#file, quarantined)
      options.onBadCursor(this.#file, quarantined)
    }
    if (cursor !== undefined && cursor.databaseId !== databaseId) {
      const quarantined = `${this.#file}.${cursor.databaseId}`
      moveDurably(this.#file, quarantined)
      cursor = undefined
    }
    this.#cursor = cursor ?? { version: 1, databaseId, epoch, confirmed: 0, state: null }
    if (cursor === undefined) this.#save()
    this.#position = this.#cursor.confirmed
  }

  get confirmed(): number {
    return this.#cursor.confirmed
  }
  get durable(): number {
    return this.#options.source.durableSeq
  }
  get databaseId(): string {
    return this.#options.source.databaseId
  }

  get oldest(): number {
    for (const segment of listSegments(this.#options.journal)) {
      if (segment.firstSeq <= this.durable) return segment.firstSeq
    }
    return this.durable + 1
  }

  async read({ maxRows, maxDelayMs, signal }: { maxRows: number; maxDelayMs: number; signal: AbortSignal }): Promise<Transaction[]> {
    const { source } = this.#options
    const batch: Transaction[] = []
    let rows = 0
    let deadline = Number.POSITIVE_INFINITY
    while (!signal.aborted) {
      while (rows < maxRows) {
        const transaction = this.#next()
        if (transaction === undefined) break
        if (batch.length === 0) deadline = this.#clock.monotonic() + maxDelayMs
        batch.push(transaction)
        rows += rowsOf(transaction)
      }
      const left = deadline - this.#clock.monotonic()
      if (rows >= maxRows || (batch.length > 0 && left <= 0)) break
      if (batch.length === 0) await source.waitBeyond(this.#position, signal)
      else {
        const timeout = new AbortController()
        const both = AbortSignal.any([signal, timeout.signal])
        await Promise.race([source.waitBeyond(this.#position, both), this.#clock.sleep(left, both)])
        timeout.abort()
      }
    }
    return signal.aborted ? [] : batch
  }

  async *readRange(first: number, last: number): AsyncIterable<Transaction> {
    let expected = first
    for (const transaction of readTransactions(this.#options.journal, first, last, () => {})) {
      expected = transaction.seq + 1
      yield transaction
    }
    if (expected <= last) this.#options.onGap({ firstSeq: expected, lastSeq: last, reason: 'not in the journal' })
  }

  async confirm(seq: number): Promise<void> {
    this.#cursor = { ...this.#cursor, confirmed: seq, epoch: this.#options.source.epoch }
    this.#save()
  }

  seek(seq: number): void {
    this.#position = seq
    this.#pending = []
    this.close()
  }

  loadState(): unknown {
    return this.#cursor.state
  }

  async saveState(state: unknown): Promise<void> {
    this.#cursor = { ...this.#cursor, state }
    this.#save()
  }

  close(): void {
    this.#reader?.close()
    this.#reader = undefined
  }

  #save(): void {
    writeAtomic(this.#file, JSON.stringify(this.#cursor))
  }

  /** The next durable transaction after the position, if there is one now. */
  #next(): Transaction | undefined {
    const ready = this.#pending.shift()
    if (ready !== undefined) {
      this.#position = ready.seq
      return ready
    }
    while (this.#position < this.durable) {
      this.#reader ??= this.#open()
      if (this.#reader === undefined) return this.#skipTo(this.durable, 'the journal has no segment for it')
      let result = this.#reader.next()
      if (result.kind !== 'batch') {
        // What was read ahead may be older than what has become durable since.
        this.#reader.seek(this.#reader.offset)
        result = this.#reader.next()
      }
      if (result.kind === 'batch') {
        const { firstSeq, count } = result.header
        if (firstSeq > this.durable) {
          // Written but not yet durable: read it again later.
          this.#reader.seek(result.offset)
          return undefined
        }
        if (firstSeq + count - 1 <= this.#position) continue
        this.#noteGap(firstSeq)
        this.#pending = decodeBatch(result.bytes, result.header).filter(({ seq }) => seq > this.#position)
        const first = this.#pending.shift() as Transaction
        this.#position = first.seq
        return first
      }
      // End of this segment, or damage: what is durable and not here is in the next one, or lost.
      const next = result.kind === 'bad' ? this.#reader.findBatch(result.offset + 1) : undefined
      if (next !== undefined) {
        this.#reader.seek(next)
        continue
      }
      const reason = result.kind === 'bad' ? result.reason : 'not in the journal'
      const following = this.#following(this.#reader.file)
      this.close()
      if (following === undefined) return this.#skipTo(this.durable, reason)
      this.#noteGap(following.firstSeq, reason)
      this.#reader = new SegmentReader(following.file)
    }
    return undefined
  }

  #noteGap(firstSeq: number, reason = 'not in the journal'): void {
    if (firstSeq <= this.#position + 1) return
    this.#options.onGap({ firstSeq: this.#position + 1, lastSeq: firstSeq - 1, reason })
    this.#position = firstSeq - 1
  }

  #skipTo(seq: number, reason: string): undefined {
    this.#noteGap(seq + 1, reason)
    return undefined
  }

  #following(file: string) {
    const segments = listSegments(this.#options.journal)
    const at = segments.findIndex((segment) => segment.file === file)
    const name = path.basename(file)
    return at === -1 ? segments.find((segment) => path.basename(segment.file) > name) : segments[at + 1]
  }

  /** The segment in which the position's successor must be. */
  #open(): SegmentReader | undefined {
    const segments = listSegments(this.#options.journal)
    const wanted = this.#position + 1
    const segment = segments.findLast((candidate) => candidate.firstSeq <= wanted) ?? segments[0]
    return segment === undefined ? undefined : new SegmentReader(segment.file)
  }
}

function rowsOf(transaction: Transaction): number {
  let rows = 1
  for (const change of transaction.changes) if ('rows' in change) rows += change.rows.count
  return rows
}
