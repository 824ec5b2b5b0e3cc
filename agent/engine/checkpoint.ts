/** Checkpoints (R3): only when nobody writes and the journal is fsynced up to the last commit, and with the watermark in it. */

import path from 'node:path'
import { freeBytes } from '../disk.ts'
import { DaemonGuardError, messageOf } from '../errors.ts'
import { step } from '../step.ts'
import { type Blockers, type Obstacle, ObstructedError } from './blockers.ts'
import { type CommitPipeline, leastFreeBytes } from './commit.ts'
import type { Connection } from './duckdb.ts'
import type { Pass, WriterGate } from './gate.ts'
import { writeWatermark } from './own-schema.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

/** How long writers may hold a checkpoint up, and it those that come after them, before it is put off. Milliseconds. */
const gateTimeout = 5_000

export interface CheckpointOptions {
  connection: Connection
  catalog: string
  databaseId: string
  databasePath: string
  gate: WriterGate
  pipeline: CommitPipeline
  blockers: Blockers
  /** Seq and header iteration of the file as it was opened. */
  watermark: number
  iteration: number
  suspect: (reason: string) => never
  now: () => number
}

export class Checkpoints {
  #options: CheckpointOptions
  #watermark: number
  #iteration: number
  #lastAt: number | null = null
  #running: Promise<unknown> | undefined
  #holds = new Set<object>()
  /** Who wrote for so long that the last one was put off. */
  #inTheWay: readonly Pass[] = []

  constructor(options: CheckpointOptions) {
    this.#options = options
    this.#watermark = options.watermark
    this.#iteration = options.iteration
  }

  /** Seq that the file holds. */
  get watermark(): number {
    return this.#watermark
  }

  get iteration(): number {
    return this.#iteration
  }

  /** Milliseconds since the Unix epoch, or null before the first one of this process. */
  get lastAt(): number | null {
    return this.#lastAt
  }

  /** Keeps checkpoints away until `release(holder)`. Waits for one that is under way. */
  async hold(holder: object): Promise<{ watermark: number; iteration: number }> {
    step('CHECKPOINT:HOLD')
    this.#holds.add(holder)
    await this.#running?.catch(() => {})
    return { watermark: this.#watermark, iteration: this.#iteration }
  }

  release(holder: object): void {
    this.#holds.delete(holder)
  }

  /**
   * One checkpoint; a second caller joins one that is under way. Throws, harmlessly, when it is held or open transactions stand in the way
   * (ObstructedError), of which the oldest is ended first where a bound is passed.
   */
  async run(): Promise<{ watermark: number }> {
    this.#running ??= this.#untilNobodyBlocks().finally(() => {
      this.#running = undefined
    })
    return this.#running as Promise<{ watermark: number }>
  }

  async #untilNobodyBlocks(): Promise<{ watermark: number }> {
    const { blockers } = this.#options
    const askedAt = performance.now()
    for (;;) {
      try {
        const made = await this.#once()
        blockers.cleared()
        return made
      } catch (error) {
        if (!(error instanceof ObstructedError) || !(await blockers.makeWay(error.obstacle, askedAt))) throw error
      }
    }
  }

  /** Waits until nobody writes. While one still does for which the last checkpoint was put off, nobody is made to wait for it again. */
  async #enterGate(pass: Pass): Promise<void> {
    const { gate } = this.#options
    if (this.#inTheWay.some(({ mode }) => mode !== 'none')) throw this.#obstructed('writers')
    const there = gate.holders
    try {
      await gate.enter(pass, 'exclusive', gateTimeout)
    } catch (error) {
      if (!(error instanceof SqlError)) throw error
      this.#inTheWay = there
      throw this.#obstructed('writers', error)
    }
  }

  #obstructed(obstacle: Obstacle, cause?: unknown): ObstructedError {
    return new ObstructedError(obstacle, this.#options.blockers.describe(obstacle), cause)
  }

  async #once(): Promise<{ watermark: number }> {
    const { gate, pipeline, connection, catalog, databaseId, databasePath, suspect, now } = this.#options
    if (this.#holds.size > 0) throw new DaemonGuardError('a scan or a snapshot holds checkpoints', { hint: 'try again when it has ended' })
    if (freeBytes(path.dirname(databasePath)) < leastFreeBytes) {
      throw new DaemonGuardError('not enough free space for a checkpoint', {
        where: path.dirname(databasePath),
        hint: 'free space on this disk',
      })
    }
    const pass: Pass = { mode: 'none' }
    await this.#enterGate(pass)
    try {
      step('CHECKPOINT:BEGIN')
      const seq = pipeline.writer.nextSeq - 1
      await pipeline.writer.durable(seq)
      const iteration = this.#iteration + 1
      step('CHECKPOINT:WATERMARK')
      try {
        await writeWatermark(connection, { databaseId, seq, iteration })
      } catch (error) {
        return suspect(`the watermark could not be written: ${messageOf(error)}`)
      }
      step('CHECKPOINT:RUN')
      try {
        await connection.runAlone(`CHECKPOINT ${quoteIdentifier(catalog)}`)
      } catch (error) {
        // The one refusal that leaves the instance sound (duckdb.md 2).
        if (!/Cannot CHECKPOINT/i.test(messageOf(error))) return suspect(`CHECKPOINT failed: ${messageOf(error)}`)
        throw this.#obstructed('readers', error)
      }
      step('CHECKPOINT:DONE')
      this.#watermark = seq
      this.#iteration = iteration
      this.#lastAt = now()
      return { watermark: seq }
    } finally {
      gate.leave(pass)
    }
  }
}
