/** What consumers share: which tables they deliver, and how long they wait after a failure. */

import type { Clock } from './clock.ts'

/** Decides by `tables` of the config: "*", `trades` (any schema `main`) or `main.trades`. DuckDB's names ignore case. */
export function tableSelector(entries: readonly string[]): (table: { readonly schema: string; readonly name: string }) => boolean {
  if (entries.includes('*')) return () => true
  const names = new Set(entries.map((entry) => entry.toLowerCase()))
  return ({ schema, name }) => {
    const lower = name.toLowerCase()
    return names.has(`${schema.toLowerCase()}.${lower}`) || (schema.toLowerCase() === 'main' && names.has(lower))
  }
}

/** Waits the steps in order, then the last one for ever; `reset` after a success. */
export class Backoff {
  failures = 0
  readonly #steps: readonly number[]
  readonly #clock: Clock

  /** `steps`: milliseconds, at least one. */
  constructor(steps: readonly number[], clock: Clock) {
    this.#steps = steps
    this.#clock = clock
  }

  /** Counts a failure and waits; returns early when the signal aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    const step = this.#steps[Math.min(this.failures, this.#steps.length - 1)] ?? 0
    this.failures++
    await this.#clock.sleep(step, signal)
  }

  reset(): void {
    this.failures = 0
  }
}
