/**
 * Answers of many clients that may go at the same moment, since one fsync has let them go, leave in one call into the kernel (send-ring.ts). A call for each would
 * cost more than itself: each wakes a client, which takes the processor from the event loop there and then, sends one message, and sleeps again. So
 * they find all their answers when they wake.
 */

import { messageOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { mostSends, type Send, SendRing } from './send-ring.ts'

/** One client's bytes that may go. */
export interface Sendable {
  /** Undefined: it sends them by itself; as it does when they are `alone`. Else they are sent for it, and `sent` is called at once. */
  offer(alone: boolean): Send | undefined
  /** So many bytes of its offer have left, or a negative errno; undefined: nobody knows how many. */
  sent(offer: Send, bytes: number | undefined): void
  /** All that could go has gone, of every client. */
  settled(): void
}

type Batch = { readonly sendable: Sendable; readonly send: Send }[]

export class BatchSender {
  #log: Log
  /** Null: there is none to be had. */
  #ring: SendRing | null | undefined
  #waiting: Sendable[] = []

  constructor(log: Log) {
    this.#log = log
  }

  /** It goes with all others that say so before the microtasks of this turn are through: whoever waits for the same fsync does. */
  enlist(sendable: Sendable): void {
    if (this.#waiting.push(sendable) === 1) queueMicrotask(() => this.#deliver())
  }

  #deliver(): void {
    const all = this.#waiting
    this.#waiting = []
    const together = all.length > 1 && this.#open() !== null
    let batch: Batch = []
    for (const sendable of all) {
      const send = sendable.offer(!together)
      if (send === undefined) continue
      batch.push({ sendable, send })
      if (batch.length < mostSends) continue
      this.#send(batch)
      batch = []
    }
    this.#send(batch)
    for (const sendable of all) sendable.settled()
  }

  #send(batch: Batch): void {
    if (batch.length === 0) return
    const results = this.#ring?.send(batch.map(({ send }) => send)) ?? batch.map(() => 0)
    if (results.includes(undefined)) {
      // A result that came later would be taken for another's.
      this.#ring = null
      this.#log.warn('answers are sent one by one from now on: the kernel has not said what became of some that were sent together')
    }
    for (const [i, { sendable, send }] of batch.entries()) sendable.sent(send, results[i])
  }

  #open(): SendRing | null {
    if (this.#ring !== undefined) return this.#ring
    this.#ring = null
    if (process.platform !== 'linux') return null
    try {
      this.#ring = new SendRing()
    } catch (error) {
      this.#log.info(`answers are sent one by one: ${messageOf(error)}`)
    }
    return this.#ring
  }
}
