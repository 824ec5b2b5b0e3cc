/** A clock for tests: it runs with real time, and can be set forward, so that long pauses and windows pass at once. */

import type { Clock } from '../../agent/clock.ts'

export interface TestClock extends Clock {
  /** Sets the clock forward; whoever's pause has passed by that wakes. */
  advance(ms: number): void
  /** Pauses now under way that were to last at least `ms`, as they were asked for. */
  sleeping(ms: number): number[]
}

export function createTestClock(): TestClock {
  let ahead = 0
  const sleepers = new Set<{ ms: number; until: number; wake(): void; timer: NodeJS.Timeout }>()
  const monotonic = () => performance.now() + ahead
  return {
    now: () => Date.now() + ahead,
    monotonic,
    sleep(ms, signal) {
      return new Promise((resolve) => {
        if (signal?.aborted) return resolve()
        const wake = () => {
          clearTimeout(sleeper.timer)
          sleepers.delete(sleeper)
          signal?.removeEventListener('abort', wake)
          resolve()
        }
        const sleeper = { ms, until: monotonic() + ms, wake, timer: setTimeout(wake, ms) }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', wake, { once: true })
      })
    },
    advance(ms) {
      ahead += ms
      for (const sleeper of [...sleepers])
        if (sleeper.until <= monotonic()) sleeper.wake()
        else {
          clearTimeout(sleeper.timer)
          sleeper.timer = setTimeout(sleeper.wake, sleeper.until - monotonic())
        }
    },
    sleeping: (ms) => [...sleepers].filter((sleeper) => sleeper.ms >= ms).map((sleeper) => sleeper.ms),
  }
}
