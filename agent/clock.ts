/** Time, injectable: everything that waits or stamps takes a Clock, so that tests need not sleep. */

export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. */
  now(): number
  /** Monotonic, milliseconds; for durations. */
  monotonic(): number
  /** Resolves after `ms`; at once (without an error) when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep(ms, signal) {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done, { once: true })
    })
  },
}

/** Wall clock, where the monotonic one began. ms */
let origin = performance.timeOrigin

/** Wall clock, microseconds since the Unix epoch: Date's milliseconds, and between them what has passed by the monotonic clock. */
export function wallMicros(): bigint {
  const wall = Date.now()
  const passed = performance.now()
  // The wall clock may have been set since.
  if (origin + passed < wall || origin + passed >= wall + 1) origin = wall - passed
  return BigInt(Math.floor((origin + passed) * 1000))
}

/** Polls `condition` every `every` ms until it holds; false when `deadline` ms have passed or the signal aborts. */
export async function waitUntil(
  condition: () => boolean | Promise<boolean>,
  options: { deadline: number; every?: number; clock?: Clock; signal?: AbortSignal },
): Promise<boolean> {
  const clock = options.clock ?? systemClock
  const end = clock.monotonic() + options.deadline
  while (!options.signal?.aborted) {
    if (await condition()) return true
    if (clock.monotonic() >= end) return false
    await clock.sleep(options.every ?? 20, options.signal)
  }
  return false
}

/** Waits for `work`, at most `ms`. */
export async function within(work: Promise<unknown>, ms: number, clock: Clock): Promise<void> {
  const wait = new AbortController()
  try {
    await Promise.race([work, clock.sleep(ms, wait.signal)])
  } finally {
    wait.abort()
  }
}
