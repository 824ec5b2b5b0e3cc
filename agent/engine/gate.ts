/**
 * Who may write at the same time: many writing transactions, or one schema change or checkpoint alone. Fair: in order of arrival, so that
 * whoever waits to be alone holds up the writers that come later, for as long as it waits and no longer.
 */

import { SqlError } from './sql-error.ts'

/** One transaction's, or one checkpoint's, place at the gate. */
export interface Pass {
  mode: 'none' | 'shared' | 'exclusive'
}

interface Waiting {
  readonly pass: Pass
  readonly mode: 'shared' | 'exclusive'
  admit(): void
}

export class WriterGate {
  #holders = new Set<Pass>()
  /** In order of arrival. */
  #waiting: Waiting[] = []

  /** True while nobody writes. */
  get idle(): boolean {
    return this.#holders.size === 0
  }

  /** Who writes now. */
  get holders(): readonly Pass[] {
    return [...this.#holders]
  }

  /**
   * Enters, or raises a shared pass to exclusive. Throws 55P03 after `timeoutMs`; 40001 at once where two raise their passes, since
   * each would wait for the other. Throws the signal's reason when it aborts meanwhile.
   */
  async enter(pass: Pass, mode: 'shared' | 'exclusive', timeoutMs: number, signal?: AbortSignal): Promise<void> {
    if (pass.mode === 'exclusive' || pass.mode === mode) return
    if (this.#mayEnter({ pass, mode }, this.#waiting)) return this.#admit(pass, mode)
    if (pass.mode === 'shared' && this.#waiting.some((other) => other.pass.mode === 'shared')) {
      throw new SqlError('40001', 'two transactions with changes both wait to change the schema', { hint: 'roll back and try again' })
    }
    signal?.throwIfAborted()
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = {
        pass,
        mode,
        admit: () => {
          clearTimeout(timer)
          signal?.removeEventListener('abort', stop)
          this.#admit(pass, mode)
          resolve()
        },
      }
      const giveUp = (reason: unknown) => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', stop)
        this.#waiting = this.#waiting.filter((other) => other !== waiting)
        reject(reason)
        this.#wake()
      }
      const timer = setTimeout(() => giveUp(this.#late(pass, timeoutMs)), timeoutMs)
      const stop = () => giveUp(signal?.reason)
      signal?.addEventListener('abort', stop)
      this.#waiting.push(waiting)
    })
  }

  leave(pass: Pass): void {
    if (!this.#holders.delete(pass)) return
    pass.mode = 'none'
    this.#wake()
  }

  /**
   * Whether it may enter before those who wait in front of it. A raised pass goes before all who wait to be alone: it already holds them up. It does
   * not go before a writer that came earlier, which has waited long enough when what holds it up gives up.
   */
  #mayEnter({ pass, mode }: Pick<Waiting, 'pass' | 'mode'>, inFront: readonly Waiting[]): boolean {
    const others = [...this.#holders].filter((holder) => holder !== pass)
    if (mode === 'shared') return inFront.every((other) => other.mode === 'shared') && others.every((holder) => holder.mode === 'shared')
    return others.length === 0 && (pass.mode === 'shared' || inFront.length === 0)
  }

  #admit(pass: Pass, mode: 'shared' | 'exclusive'): void {
    pass.mode = mode
    this.#holders.add(pass)
  }

  #wake(): void {
    for (;;) {
      const at = this.#waiting.findIndex((waiting, i) => this.#mayEnter(waiting, this.#waiting.slice(0, i)))
      const [next] = at === -1 ? [] : this.#waiting.splice(at, 1)
      if (next === undefined) return
      next.admit()
    }
  }

  /** What it was that did not end in time. */
  #late(pass: Pass, timeoutMs: number): SqlError {
    const alone = [...this.#holders].some((holder) => holder !== pass && holder.mode === 'exclusive')
    const what = alone ? 'a schema change or a checkpoint was under way' : 'other transactions with changes stayed open'
    return new SqlError('55P03', `${what} for ${timeoutMs} ms`, {
      hint: alone ? 'try again' : 'end them (COMMIT or ROLLBACK) and try again',
    })
  }
}
