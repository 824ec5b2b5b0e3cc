/**
 * A consumer's side of the journal: a read position over the durable transactions, and a durable cursor
 * (`cursors/<name>.json`: {version, databaseId, epoch, confirmed, state}), written atomically.
 */

import fs from 'node:fs'
import path from 'node:path'
import { type Clock, systemClock } from '../clock.ts'
import { ensureDirectory, linkOrCopy, writeOnFullDisk } from '../disk.ts'
import type { JournalConsumer } from '../plugin.ts'
import { type FoundBatch, SegmentReader } from './reader.ts'
import { decodeBatch, spillOf } from './record.ts'
import { listSegments } from './segment.ts'
import { type SpillReference, spillDamageInBackground } from './spill.ts'
import { readTransactions } from './transactions.ts'
import { isSpilled, type Transaction } from './types.ts'

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
  const isCursor =
    cursor.version === 1 &&
    Number.isSafeInteger(cursor.confirmed) &&
    cursor.confirmed >= 0 &&
    Number.isSafeInteger(cursor.epoch) &&
    /^[\w-]+$/.test(cursor.databaseId)
  if (!isCursor) throw new Error(`cursor file of unknown version or shape: ${file}`)
  return cursor
}

const notThere = 'not in the journal'

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
  #epoch: number
  #reader: SegmentReader | undefined
  #pending: Transaction[] = []
  /** The spill of the one that is pending, not yet verified. */
  #spill: SpillReference | undefined
  /** Gaps that were told: one that is passed again (after a seek) is not told again. */
  #told = new Set<string>()

  constructor(options: ConsumerOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    ensureDirectory(options.cursors, 'CURSOR:DIRECTORY')
    this.#file = path.join(options.cursors, `${options.name}.json`)
    const { databaseId, epoch } = options.source
    let cursor: CursorFile | undefined
    let confirmed = 0
    try {
      cursor = readCursor(this.#file)
    } catch {
      // It keeps its name until the new one replaces it: after a death in between it is found, and told of, again.
      const quarantined = `${this.#file}.${Date.now()}.bad`
      linkOrCopy(this.#file, quarantined, 'CURSOR:BAD')
      options.onBadCursor(this.#file, quarantined)
      // What retention has deleted was confirmed, also by this consumer: it is no gap.
      confirmed = (listSegments(options.journal)[0]?.firstSeq ?? 1) - 1
    }
    if (cursor !== undefined && cursor.databaseId !== databaseId) {
      linkOrCopy(this.#file, `${this.#file}.${cursor.databaseId}`, 'CURSOR:FOREIGN')
      cursor = undefined
    }
    this.#cursor = cursor ?? { version: 1, databaseId, epoch, confirmed, state: null }
    if (cursor === undefined) this.#save(this.#cursor)
    this.#position = this.#cursor.confirmed
    this.#epoch = this.#cursor.epoch
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

  async read(options: { maxRows: number; maxDelayMs: number; signal: AbortSignal }): Promise<Transaction[]> {
    const start = this.#position
    let batch: Transaction[] = []
    try {
      batch = await this.#collect(options)
      return batch
    } finally {
      // What was collected and not handed out, after an abort or an error, comes again.
      if (batch.length === 0 && this.#position > start) this.seek(start)
    }
  }

  async #collect({ maxRows, maxDelayMs, signal }: { maxRows: number; maxDelayMs: number; signal: AbortSignal }): Promise<Transaction[]> {
    const { source } = this.#options
    const batch: Transaction[] = []
    let rows = 0
    let deadline = Number.POSITIVE_INFINITY
    while (!signal.aborted) {
      while (rows < maxRows) {
        this.#fill()
        // One with a spill comes alone, once the spill has been verified.
        if (this.#spill !== undefined && (batch.length > 0 || !(await this.#verified(this.#spill)))) {
          if (batch.length > 0) return batch
          continue
        }
        const transaction = this.#pending.shift()
        if (transaction === undefined) break
        this.#position = transaction.seq
        if (batch.length === 0) deadline = this.#clock.monotonic() + maxDelayMs
        batch.push(transaction)
        if (isSpilled(transaction.changes)) return batch
        rows += rowsOf(transaction)
      }
      const left = deadline - this.#clock.monotonic()
      if (rows >= maxRows || (batch.length > 0 && left <= 0)) return batch
      if (batch.length === 0) await source.waitBeyond(this.#position, signal)
      else {
        const timeout = new AbortController()
        const both = AbortSignal.any([signal, timeout.signal])
        await Promise.race([source.waitBeyond(this.#position, both), this.#clock.sleep(left, both)])
        timeout.abort()
      }
    }
    return []
  }

  async *readRange(first: number, last: number): AsyncIterable<Transaction> {
    let expected = first
    let reason = notThere
    const onDamage = (damage: { reason: string }) => {
      reason = damage.reason
    }
    for (const transaction of readTransactions(this.#options.journal, first, last, onDamage)) {
      this.#tell(expected, transaction.seq - 1, reason)
      expected = transaction.seq + 1
      yield transaction
    }
    this.#tell(expected, last, reason)
  }

  async confirm(seq: number): Promise<void> {
    this.#save({ ...this.#cursor, confirmed: seq, epoch: this.#options.source.epoch })
  }

  seek(seq: number): void {
    this.#position = seq
    this.#pending = []
    this.#spill = undefined
    this.close()
  }

  loadState(): unknown {
    return this.#cursor.state
  }

  async saveState(state: unknown): Promise<void> {
    this.#save({ ...this.#cursor, state })
  }

  close(): void {
    this.#reader?.close()
    this.#reader = undefined
  }

  /** On a full disk too: only what is confirmed can be deleted, and that may be what fills it. One that cannot be written is not moved. */
  #save(cursor: CursorFile): void {
    writeOnFullDisk(this.#file, JSON.stringify(cursor), 'CURSOR:SAVE')
    this.#cursor = cursor
  }

  /** Makes the next durable transaction after the position pending, if there is one. */
  #fill(): void {
    this.#followEpoch()
    while (this.#pending.length === 0 && this.#position < this.durable) this.#advance()
  }

  /** Whether the pending transaction's spill is whole; when not, the transaction is a gap, and passed. */
  async #verified(spill: SpillReference): Promise<boolean> {
    const reason = await spillDamageInBackground(this.#options.journal, spill)
    // Somebody has sought elsewhere meanwhile.
    if (this.#spill !== spill) return false
    this.#spill = undefined
    if (reason === undefined) return true
    this.#passGap(this.#pending.shift()?.seq ?? this.#position, reason)
    return false
  }

  /**
   * A new epoch may have begun before the position: then seqs are given anew that were handed out, or even confirmed. Where it began is told by the
   * segments, whose headers have their epoch: what is durable may have passed the position again since.
   */
  #followEpoch(): void {
    const { epoch, durableSeq } = this.#options.source
    if (epoch <= this.#epoch) return
    const last = Math.min(durableSeq, this.#endOfEpoch(this.#epoch))
    this.#epoch = epoch
    if (this.#position > last) this.#tell(last + 1, this.#position, `the journal was cut back to seq ${last} after these had been read`)
    // A repair may have put another file in the place of the one that is open.
    this.seek(Math.min(this.#position, last))
    if (this.#cursor.confirmed > last) this.#cursor = { ...this.#cursor, confirmed: last }
  }

  /** The last seq before a newer epoch than this one begins. A segment without a header that can be read is passed: those behind it have theirs. */
  #endOfEpoch(epoch: number): number {
    for (const { file, firstSeq } of listSegments(this.#options.journal)) {
      const reader = new SegmentReader(file)
      reader.close()
      if ((reader.header?.epoch ?? 0) > epoch) return firstSeq - 1
    }
    return Number.POSITIVE_INFINITY
  }

  /** Fills `#pending` with the next batch, or moves the position over a gap. Called while something durable lies after the position. */
  #advance(): void {
    const { durable } = this
    for (;;) {
      const isFresh = this.#reader === undefined
      this.#reader ??= this.#open()
      const { batch, reason } = this.#find(this.#reader)
      if (batch !== undefined) {
        this.#take(batch, reason, durable)
        return
      }
      this.close()
      // The next segment begins with what is wanted; or this one was replaced (by a repair) since it was opened.
      if (!isFresh) continue
      const following = listSegments(this.#options.journal).find(({ firstSeq }) => firstSeq > this.#position + 1)
      this.#passGap(Math.min(durable, (following?.firstSeq ?? Number.POSITIVE_INFINITY) - 1), reason)
      return
    }
  }

  #take({ offset, header, bytes }: FoundBatch, reason: string, durable: number): void {
    this.#passGap(Math.min(durable, header.firstSeq - 1), reason)
    // Written but not yet durable: it is read again later.
    if (header.firstSeq > durable) {
      this.#reader?.seek(offset)
      return
    }
    const bad = new Map<number, string>()
    const transactions = decodeBatch(bytes, header, this.#options.journal, (seq, why) => bad.set(seq, why))
    const next = this.#position + 1
    const whyBad = bad.get(next)
    // What lies behind one that cannot be decoded is read again after it.
    if (bad.size > 0) this.#reader?.seek(offset)
    if (whyBad !== undefined) {
      this.#passGap(next, whyBad)
      return
    }
    this.#pending = transactions.filter(({ seq }) => seq >= next).filter(({ seq }, i) => seq === next + i)
    this.#spill = spillOf(bytes, header)?.reference
  }

  /** The first batch that holds something after the position; without one, or before it, the reason why something may be missing. */
  #find(reader: SegmentReader | undefined): { batch?: FoundBatch; reason: string } {
    let reason = notThere
    while (reader !== undefined) {
      const result = reader.next()
      if (result.kind === 'batch') {
        if (result.header.firstSeq + result.header.count - 1 > this.#position) return { batch: result, reason }
        continue
      }
      if (result.kind === 'end') break
      const next = reader.resume(result.offset)
      if (next === result.offset) continue
      reason = result.reason
      if (next === undefined) break
    }
    return { reason }
  }

  #passGap(lastSeq: number, reason: string): void {
    if (lastSeq <= this.#position) return
    this.#tell(this.#position + 1, lastSeq, reason)
    this.#position = lastSeq
  }

  #tell(firstSeq: number, lastSeq: number, reason: string): void {
    const gap = `${firstSeq}-${lastSeq}`
    if (lastSeq < firstSeq || this.#told.has(gap)) return
    this.#told.add(gap)
    this.#options.onGap({ firstSeq, lastSeq, reason })
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
