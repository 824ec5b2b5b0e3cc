/**
 * How often the engine may be restarted, and how soon. Two things are counted inside the restart window, and must not cancel
 * each other out (style: s6, monit):
 *   failed restarts   the engine died before its first successful probe. `maxRestarts` of them: stop and call for help.
 *   deaths            of any kind. The first `maxRestarts` are answered at once; then the pauses grow, 250 ms to 30 s ("flapping").
 * Five minutes of service reset both. The counts are kept in a file, so that restarting the agent is no way around them.
 */

export interface RestartLimits {
  /** Failed restarts inside the window after which the supervisor stops. */
  maxRestarts: number
  restartWindowMs: number
}

export const defaultLimits: RestartLimits = { maxRestarts: 3, restartWindowMs: 600_000 }
export const stablePeriodMs = 300_000
const firstPauseMs = 250
const longestPauseMs = 30_000

/** Times (milliseconds since the Unix epoch) as they are kept in the supervisor's state file. */
export interface RestartTimes {
  deaths: number[]
  failed: number[]
}

export type RestartDecision = { readonly giveUp: true } | { readonly giveUp: false; readonly pauseMs: number; readonly flapping: boolean }

export class RestartCount {
  limits: RestartLimits
  #deaths: number[]
  #failed: number[]
  /** Starts in a row that never served. */
  #unserved = 0

  constructor(limits: RestartLimits = defaultLimits, times: RestartTimes = { deaths: [], failed: [] }) {
    this.limits = limits
    this.#deaths = [...times.deaths]
    this.#failed = [...times.failed]
  }

  /**
   * Counts one death and decides. `served`: it had passed a probe; `restart`: its start was itself a restart;
   * `servedMs`: how long it had served.
   */
  died(now: number, death: { served: boolean; restart: boolean; servedMs?: number }): RestartDecision {
    if ((death.servedMs ?? 0) >= stablePeriodMs) this.reset()
    this.#forget(now)
    this.#deaths.push(now)
    this.#unserved = death.served ? 0 : this.#unserved + 1
    if (!death.served) {
      if (death.restart) this.#failed.push(now)
      if (this.#failed.length >= this.limits.maxRestarts) return { giveUp: true }
    }
    const excess = this.#deaths.length - this.limits.maxRestarts
    const pauseMs = Math.max(growing(excess), Math.min(growing(this.#unserved), this.#longestUnserved()))
    return { giveUp: false, pauseMs, flapping: excess > 0 }
  }

  /** Forgets everything: the engine has been stable, or the operator has stepped in. */
  reset(): void {
    this.#deaths = []
    this.#failed = []
    this.#unserved = 0
  }

  /** Counts inside the window that ends now. */
  inWindow(now: number): { deaths: number; failed: number } {
    this.#forget(now)
    return { deaths: this.#deaths.length, failed: this.#failed.length }
  }

  times(): RestartTimes {
    return { deaths: [...this.#deaths], failed: [...this.#failed] }
  }

  /** All pauses up to the limit fit into a quarter of the window: else failures would drop out of it before the limit is met. */
  #longestUnserved(): number {
    return this.limits.restartWindowMs / 4 / this.limits.maxRestarts
  }

  /** Drops what is older than the window, and what lies in the future because the wall clock was set back. */
  #forget(now: number): void {
    const recent = (time: number) => time <= now && now - time < this.limits.restartWindowMs
    this.#deaths = this.#deaths.filter(recent)
    this.#failed = this.#failed.filter(recent)
  }
}

/** 0 for n ≤ 0, then 250 ms, 500 ms, 1 s … 30 s. */
function growing(n: number): number {
  return n <= 0 ? 0 : Math.min(firstPauseMs * 2 ** (n - 1), longestPauseMs)
}
