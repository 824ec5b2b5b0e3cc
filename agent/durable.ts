/** What the engine has announced as durable, across engine restarts: consumers read the journal no further than this. */

import type { EngineHello } from './control-protocol.ts'
import { DaemonGuardError } from './errors.ts'
import type { DurableSource } from './journal/consumer.ts'

export class DurableSeq implements DurableSource {
  #seq = 0
  #identity: { databaseId: string; epoch: number } | undefined
  #waiting = new Set<{ beyond: number; done: () => void }>()

  get durableSeq(): number {
    return this.#seq
  }

  get databaseId(): string {
    return this.#known().databaseId
  }

  get epoch(): number {
    return this.#known().epoch
  }

  /** What is known before an engine serves: the database, as the data directory names it. */
  expect(databaseId: string): void {
    this.#identity ??= { databaseId, epoch: 0 }
  }

  /**
   * A connection to an engine stands: its hello tells which database it serves, and how far its journal goes. That may be less than
   * before, when its recovery found the journal's end damaged: what was announced then is not there any more, and its seqs are given anew.
   */
  connected(hello: Pick<EngineHello, 'databaseId' | 'epoch' | 'durableSeq'>): void {
    this.#identity = { databaseId: hello.databaseId, epoch: hello.epoch }
    this.#seq = Math.min(this.#seq, hello.durableSeq)
    this.advance(hello.durableSeq)
  }

  /** The journal is durable up to `seq`. */
  advance(seq: number): void {
    if (seq <= this.#seq) return
    this.#seq = seq
    for (const waiter of this.#waiting) if (seq > waiter.beyond) waiter.done()
  }

  waitBeyond(seq: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted || this.#seq > seq) return resolve()
      const waiter = {
        beyond: seq,
        done: () => {
          this.#waiting.delete(waiter)
          signal.removeEventListener('abort', waiter.done)
          resolve()
        },
      }
      this.#waiting.add(waiter)
      signal.addEventListener('abort', waiter.done, { once: true })
    })
  }

  #known(): { databaseId: string; epoch: number } {
    if (this.#identity === undefined)
      throw new DaemonGuardError('the database is not known yet: the engine has not served since the agent started', {
        hint: 'daemonguard status',
      })
    return this.#identity
  }
}
