/**
 * The journal's writer: one per engine. Commits reserve room, append, and wait; one flusher writes and fsyncs whatever has gathered
 * (group commit), moves the mark (agent/journal/mark.ts), and tells the waiters. A batch is written only after the one before it is durable,
 * also across segments. Zero-filled space is kept allocated ahead of the end, so that a full disk is met by `reserve`, before DuckDB commits.
 * It may be met at the start as well: a writer without a segment takes nothing, and begins by itself once there is space.
 */

import { ensureDirectory, syncData, writeAll } from '../disk.ts'
import { codeOf, DaemonGuardError, isDiskFull, messageOf } from '../errors.ts'
import { step } from '../step.ts'
import { DurableMark } from './mark.ts'
import { OpenSegment } from './open-segment.ts'
import { batchBytesOf, type EncodedTransaction, encodeBatch, maxBatchBytes, stamp } from './record.ts'
import { currentBootId, segmentHeaderBytes } from './segment.ts'
import { type SpillSource, SpillWriter } from './spill.ts'

/** Pauses between attempts to get room on a full disk; they double. */
const firstPauseMs = 250
const longestPauseMs = 4_000
/** ms that the event loop may be held up by an fsync: as long as the last one took, and for so many bytes. */
const promptly = 2
const fewBytes = 1 << 16
/** A segment larger than this is followed by a new one at the next commit. */
export const defaultSegmentBytes = 64 << 20

export interface JournalWriterOptions {
  directory: string
  databaseId: string
  epoch: number
  /** The seq that the first append will have. */
  nextSeq: number
  segmentBytes?: number
  now?: () => number
  /** After each fsync, with the last durable seq. */
  onDurable?: (seq: number) => void
  /** Whether nobody would gain from what the event loop does during an fsync: then it is done there, without a turn through the thread pool. */
  mayBlock?: () => boolean
  /** A write or fsync failed: what is on disk is unknown, nothing may be answered any more. Called once. */
  onFailure: (error: Error) => void
}

interface QueuedTransaction {
  readonly seq: number
  readonly segment: OpenSegment
  readonly encoded: EncodedTransaction
  /** Upper bound of its bytes, as reserved. */
  readonly bytes: number
}

interface Waiter {
  readonly seq: number
  resolve(): void
  reject(error: Error): void
}

/** A transaction that the disk has before DuckDB: one of the two is called, once. */
export interface Ahead {
  /** DuckDB has committed it. Returns its seq; it is durable when `durable(seq)` resolves. */
  confirm(): number
  /** DuckDB has refused it. Resolves when nothing of it is left on the disk, and its seq is free again; rejects when the journal has failed. */
  withdraw(): Promise<void>
}

export class JournalWriter implements SpillSource {
  #options: JournalWriterOptions
  #mark: DurableMark | undefined
  /** The one that appends go to; undefined until the disk had room for the first. */
  #segment: OpenSegment | undefined
  #shortage: string | null = null
  #retry: NodeJS.Timeout | undefined
  /** Earlier ones that are still to be written to their end and sealed, in order. */
  #retiring: OpenSegment[] = []
  #nextSeq: number
  #durableSeq: number
  #queue: QueuedTransaction[] = []
  #flushing: Promise<void> | undefined
  #syncWanted = false
  /** How long the last fsync took, ms. */
  #syncTime = Number.POSITIVE_INFINITY
  /** An fsync has held up this turn of the event loop. */
  #blocked = false
  #waiters: Waiter[] = []
  /** The last one that was waited for. */
  #awaited: { readonly seq: number; readonly durable: Promise<void> } | undefined
  #syncWaiters: Omit<Waiter, 'seq'>[] = []
  /** Those of the fsync that is under way. */
  #syncing: Omit<Waiter, 'seq'>[] = []
  #failure: Error | undefined
  #closing = false

  /** Starts a new segment, on a full disk later; what is in older ones stays untouched. */
  constructor(options: JournalWriterOptions) {
    this.#options = options
    this.#nextSeq = options.nextSeq
    this.#durableSeq = options.nextSeq - 1
    try {
      this.#begin()
    } catch (error) {
      if (!isDiskFull(error)) throw error
      this.#runShort(error, firstPauseMs)
    }
  }

  #now(): number {
    return (this.#options.now ?? Date.now)()
  }

  /** The seq that the next append gets. */
  get nextSeq(): number {
    return this.#nextSeq
  }

  get durableSeq(): number {
    return this.#durableSeq
  }

  /** Why there is no room for the next transactions, or null. Found out again by itself, with pauses. */
  get shortage(): string | null {
    return this.#shortage
  }

  /**
   * Makes sure, before DuckDB commits, that the journal can take these transactions. Throws DaemonGuardError (cause ENOSPC, EDQUOT, …)
   * when the disk cannot give the space; nothing has changed then. Between reserve and append nothing else may be reserved.
   */
  reserve(group: readonly EncodedTransaction[]): void {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#closing) throw new DaemonGuardError('the journal is closed')
    const bytes = group.reduce((sum, encoded) => sum + batchBytesOf(encoded), 0)
    if (bytes > maxBatchBytes) {
      throw new DaemonGuardError(`a transaction of ${bytes} bytes is larger than the journal takes (${maxBatchBytes})`, {
        hint: 'commit in smaller parts',
      })
    }
    try {
      this.#makeRoom(bytes)
    } catch (error) {
      throw this.#runShort(error, firstPauseMs)
    }
  }

  /** Room for so many bytes in the segment that appends go to. */
  #makeRoom(bytes: number): void {
    const begun = this.#segment ?? this.#begin()
    const isFull = begun.end > (this.#options.segmentBytes ?? defaultSegmentBytes)
    const segment = isFull ? this.#rotate(begun) : begun
    if (segment.makeRoom(bytes)) this.#syncTime = Number.POSITIVE_INFINITY
    this.#shortage = null
    clearTimeout(this.#retry)
  }

  /**
   * The disk gives no more: said until there is room again, which is looked for without waiting for the next write. (Never between
   * `reserve` and `append`: whoever has reserved has ended the shortage.)
   */
  #runShort(error: unknown, pauseMs: number): Error {
    // No shortage: what this disk holds is unknown from here on (an fsync may have failed), so nothing is tried again.
    if (['EIO', 'EROFS'].includes(codeOf(error) ?? '')) return this.#fail(error)
    const what = isDiskFull(error) ? 'the disk is full' : 'it cannot be extended'
    this.#shortage = `no room for the journal: ${what} (${codeOf(error) ?? messageOf(error)}, ${this.#options.directory})`
    clearTimeout(this.#retry)
    this.#retry = setTimeout(() => this.#tryAgain(pauseMs), pauseMs).unref()
    const hint = 'free space on the disk of the journal; writes resume by themselves'
    return new DaemonGuardError(this.#shortage, { where: this.#options.directory, hint, cause: error })
  }

  #tryAgain(pauseMs: number): void {
    if (this.#closing || this.#failure !== undefined) return
    try {
      this.#makeRoom(1)
    } catch (error) {
      this.#runShort(error, Math.min(2 * pauseMs, longestPauseMs))
    }
  }

  /** For a transaction that is too large for memory. Throws what the disk says. */
  createSpill(): SpillWriter {
    if (this.#failure !== undefined) throw this.#failure
    return new SpillWriter(this.#options.directory, this.#options.databaseId, this.#nextSeq)
  }

  /** Queues a transaction that DuckDB has committed; returns its seq. It is durable when `durable(seq)` resolves. */
  append(encoded: EncodedTransaction, time: number): number {
    const segment = this.#segment as OpenSegment
    const seq = this.#nextSeq++
    stamp(encoded, seq, time)
    const bytes = batchBytesOf(encoded)
    this.#queue.push({ seq, segment, encoded, bytes })
    segment.queued += bytes
    this.#flush()
    return seq
  }

  /** Nothing is on its way to the disk, nor waits to be sealed. */
  get isIdle(): boolean {
    return this.#flushing === undefined && this.#queue.length === 0 && this.#retiring.length === 0
  }

  /**
   * Writes a transaction that has been reserved and that DuckDB is about to commit, so that the disk and DuckDB work at the same time. Until it is confirmed it lies
   * behind the mark and all that is told to be durable, where only recovery looks (doubt.ts). To be called while the writer is idle; nothing may be
   * reserved or appended until it is confirmed or withdrawn.
   */
  writeAhead(encoded: EncodedTransaction, time: number): Ahead {
    const segment = this.#segment as OpenSegment
    const seq = this.#nextSeq
    stamp(encoded, seq, time)
    const batch = encodeBatch([encoded], { firstSeq: seq, durableBefore: segment.durable, epoch: this.#options.epoch, ahead: true })
    const at = segment.written
    const outcome = Promise.withResolvers<boolean>()
    const write = async () => {
      await segment.writeThrough(batch, at, 'AHEAD:WRITE')
      if (await outcome.promise) return this.#becameDurable(segment, seq)
      await segment.writeThrough(new Uint8Array(batch.length), at, 'AHEAD:WITHDRAW')
    }
    const written = write().catch((error) => {
      throw this.#fail(error)
    })
    this.#occupy(written.catch(() => {}))
    return {
      confirm: () => {
        this.#nextSeq = seq + 1
        segment.written = at + batch.length
        outcome.resolve(true)
        return seq
      },
      withdraw: () => {
        outcome.resolve(false)
        return written
      },
    }
  }

  /** Resolves when everything up to `seq` is fsynced; rejects when the journal has failed. */
  durable(seq: number): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (seq <= this.#durableSeq) return Promise.resolve()
    // All clients of a group wait for the same one.
    if (this.#awaited?.seq !== seq)
      this.#awaited = { seq, durable: new Promise((resolve, reject) => this.#waiters.push({ seq, resolve, reject })) }
    return this.#awaited.durable
  }

  /** One fsync of the journal, whether there is something new or not: the probe's proof that the disk answers. A full one does. */
  sync(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#closing) return Promise.reject(new DaemonGuardError('the journal is closed'))
    if (this.#segment === undefined) return Promise.resolve()
    this.#syncWanted = true
    const done = new Promise<void>((resolve, reject) => this.#syncWaiters.push({ resolve, reject }))
    this.#flush()
    return done
  }

  /** Waits for what is queued and closes the segment, cut to its end. Safe twice. */
  async close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    clearTimeout(this.#retry)
    while (this.#flushing !== undefined) await this.#flushing
    for (const segment of [...this.#retiring, ...(this.#segment === undefined ? [] : [this.#segment])]) {
      if (this.#failure === undefined) await segment.seal()
      else segment.close()
    }
    this.#mark?.close()
  }

  #flush(): void {
    if (this.#flushing !== undefined || this.#failure !== undefined) return
    // Not before all of a group is in the queue: it shares one fsync.
    this.#occupy(Promise.resolve().then(() => this.#drain()))
  }

  /** Nobody else writes until `work`, which does not fail, has ended. */
  #occupy(work: Promise<void>): void {
    this.#flushing = work.finally(() => {
      this.#flushing = undefined
      // What was queued after the last look at the queue.
      if (this.#queue.length > 0 || this.#syncWanted) this.#flush()
    })
  }

  async #drain(): Promise<void> {
    try {
      while (this.#queue.length > 0 || this.#syncWanted) {
        const segment = this.#queue[0]?.segment ?? (this.#segment as OpenSegment)
        const group: EncodedTransaction[] = []
        let last = this.#durableSeq
        let bytes = 0
        const firstSeq = this.#queue[0]?.seq ?? 0
        while (this.#queue[0]?.segment === segment && bytes + this.#queue[0].bytes <= maxBatchBytes) {
          const next = this.#queue.shift() as QueuedTransaction
          group.push(next.encoded)
          bytes += next.bytes
          last = next.seq
          if (next.encoded.spilled || this.#queue[0]?.encoded.spilled) break
        }
        this.#syncWanted = false
        this.#syncing = this.#syncWaiters.splice(0)
        if (group.length > 0) {
          const batch = encodeBatch(group, { firstSeq, durableBefore: segment.durable, epoch: this.#options.epoch })
          writeAll(segment.fd, batch, segment.written, 'JOURNAL:WRITE')
          segment.written += batch.length
          segment.queued -= bytes
        }
        const begun = this.#now()
        await syncData(segment.fd, 'JOURNAL:SYNC', this.#mayBlock(bytes))
        this.#syncTime = this.#now() - begun
        this.#becameDurable(segment, last)
        for (const done of this.#syncing.splice(0)) done.resolve()
        while (this.#retiring[0] !== undefined && this.#retiring[0] !== this.#queue[0]?.segment) {
          const done = this.#retiring.shift() as OpenSegment
          await done.seal()
        }
      }
    } catch (error) {
      this.#fail(error)
    }
  }

  /** All that is written into the segment, up to `last`: told to the mark before it is told to anybody. */
  #becameDurable(segment: OpenSegment, last: number): void {
    const isNew = last > this.#durableSeq
    segment.durable = segment.written
    this.#mark?.move({ segment: segment.firstSeq, offset: segment.durable, seq: last })
    step('JOURNAL:DURABLE')
    this.#durableSeq = last
    const released = this.#waiters.filter((waiter) => waiter.seq <= last)
    if (released.length > 0) this.#waiters = this.#waiters.filter((waiter) => waiter.seq > last)
    for (const waiter of released) waiter.resolve()
    if (isNew) this.#options.onDurable?.(last)
  }

  /** At most once in a turn of the event loop: a client that sends its statements ahead must not keep it from all else. */
  #mayBlock(bytes: number): boolean {
    if (this.#blocked || bytes > fewBytes || this.#syncTime >= promptly || !this.#options.mayBlock?.()) return false
    this.#blocked = true
    setImmediate(() => {
      this.#blocked = false
    })
    return true
  }

  /** Ends all writing. A second failure changes nothing. */
  #fail(cause: unknown): Error {
    if (this.#failure !== undefined) return this.#failure
    const where = this.#segment?.file ?? this.#options.directory
    const failure = new DaemonGuardError(`the journal could not be written: ${messageOf(cause)}`, { where, cause })
    this.#failure = failure
    clearTimeout(this.#retry)
    try {
      // Before any waiter is told: after this nothing may be answered.
      this.#options.onFailure(failure)
    } finally {
      for (const waiter of [...this.#waiters.splice(0), ...this.#syncing.splice(0), ...this.#syncWaiters.splice(0)]) waiter.reject(failure)
    }
    return failure
  }

  /** The first segment, and the mark that is moved from there on. */
  #begin(): OpenSegment {
    const { directory, databaseId } = this.#options
    ensureDirectory(directory, 'JOURNAL:DIRECTORY')
    const segment = this.#createSegment()
    try {
      const position = { segment: segment.firstSeq, offset: segmentHeaderBytes, seq: this.#durableSeq }
      this.#mark = new DurableMark(directory, databaseId, position)
    } catch (error) {
      segment.drop()
      throw error
    }
    this.#segment = segment
    return segment
  }

  /** The flusher seals the previous segment when it has written what is queued for it. */
  #rotate(previous: OpenSegment): OpenSegment {
    step('JOURNAL:ROTATE')
    const next = this.#createSegment()
    this.#retiring.push(previous)
    this.#segment = next
    return next
  }

  #createSegment(): OpenSegment {
    const { directory, databaseId, epoch } = this.#options
    const header = { firstSeq: this.#nextSeq, epoch, databaseId, bootId: currentBootId(), createdAt: this.#now() }
    this.#syncTime = Number.POSITIVE_INFINITY
    return OpenSegment.create(directory, header)
  }
}
