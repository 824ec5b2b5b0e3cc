/** Waiting in tests: for a condition with a deadline, never for a length of time. */

import { waitUntil } from '../../agent/clock.ts'

export { waitUntil }

/**
 * Polls until `condition` holds; throws, naming `what`, when `deadline` ms (default 30 s) have passed. A condition that throws counts as not
 * yet. Ends without an error when `signal` aborts: for the losers of a race, which would poll on.
 */
export async function waitFor(
  what: string,
  condition: () => boolean | Promise<boolean>,
  options: { deadline?: number; every?: number; signal?: AbortSignal } = {},
): Promise<void> {
  const deadline = options.deadline ?? 30_000
  let last: unknown
  const held = await waitUntil(
    async () => {
      try {
        return await condition()
      } catch (error) {
        last = error
        return false
      }
    },
    { deadline, every: options.every, signal: options.signal },
  )
  if (!held && !options.signal?.aborted) throw new Error(`waited ${deadline} ms in vain for: ${what}`, { cause: last })
}
