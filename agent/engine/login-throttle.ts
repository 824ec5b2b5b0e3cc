/**
 * Slows down guessing. After a failed login the next ones of the same user from the same address wait, longer with each failure, before their
 * password is looked at: right ones too, or a guesser would learn by the time. Nobody is locked out, and nobody else waits.
 */

import type { Clock } from '../clock.ts'

const firstPause = 100
const longestPause = 2_000
/** A pair that has not failed for so long begins anew. */
const memory = 10 * 60_000
/** Logins of one pair that may wait at a time: with the pause it bounds the guesses a second. */
const waitingAtMost = 20
/** Pairs kept; the one that failed longest ago is forgotten first. */
const pairsAtMost = 10_000

interface Record {
  failures: number
  at: number
  waiting: number
}

export class LoginThrottle {
  #clock: Clock
  #records = new Map<string, Record>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Waits as long as the pair's failures ask for. False: too many wait already, the login is to be refused unchecked. */
  async pass(pair: string, signal: AbortSignal): Promise<boolean> {
    const record = this.#records.get(pair)
    if (record === undefined || this.#clock.monotonic() - record.at > memory) return true
    if (record.waiting >= waitingAtMost) return false
    record.waiting += 1
    try {
      await this.#clock.sleep(Math.min(longestPause, firstPause * 2 ** (record.failures - 1)), signal)
    } finally {
      record.waiting -= 1
    }
    return true
  }

  failed(pair: string): void {
    const before = this.#records.get(pair)
    const stale = before === undefined || this.#clock.monotonic() - before.at > memory
    const record = { failures: stale ? 1 : before.failures + 1, at: this.#clock.monotonic(), waiting: before?.waiting ?? 0 }
    // Re-inserted, so that the map is in order of the last failure.
    this.#records.delete(pair)
    this.#records.set(pair, before === undefined ? record : Object.assign(before, record))
    const [oldest] = this.#records.keys()
    if (this.#records.size > pairsAtMost && oldest !== undefined) this.#records.delete(oldest)
  }

  succeeded(pair: string): void {
    this.#records.delete(pair)
  }
}
