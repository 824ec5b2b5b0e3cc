/** Checkpoints (R3): only when nobody writes and the journal is fsynced up to the last commit, and with the watermark in it. */

import path from 'node:path'
import { freeBytes } from '../disk.ts'
import { DaemonGuardError, messageOf } from '../errors.ts'
import { step } from '../step.ts'
import { type CommitPipeline, leastFreeBytes } from './commit.ts'
import type { Connection } from './duckdb.ts'
import type { Pass, WriterGate } from './gate.ts'
import { writeWatermark } from './own-schema.ts'
import { quoteIdentifier } from './sql/tokens.ts'

/** How long writers may hold a checkpoint up before it is put off. */
const gateTimeout = 5_000

export interface CheckpointOptions {
  connection: Connection
  catalog: string
  databaseId: string
  databasePath: string
  gate: WriterGate
  pipeline: CommitPipeline
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

  /** One checkpoint; a second caller joins one that is under way. Throws, harmlessly, when it is held or open transactions stand in the way. */
  async run(): Promise<{ watermark: number }> {
    this.#running ??= this.#once().finally(() => {
      this.#running = undefined
    })
    return this.#running as Promise<{ watermark: number }>
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
    await gate.enter(pass, 'exclusive', gateTimeout)
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
        await connection.run(`CHECKPOINT ${quoteIdentifier(catalog)}`)
      } catch (error) {
        // The one refusal that leaves the instance sound (duckdb.md 2).
        if (!/Cannot CHECKPOINT/i.test(messageOf(error))) return suspect(`CHECKPOINT failed: ${messageOf(error)}`)
        throw new DaemonGuardError('open transactions stand in the way of a checkpoint', {
          hint: 'end them (COMMIT or ROLLBACK); it is tried again',
          cause: error,
        })
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
