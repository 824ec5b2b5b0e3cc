/** Who may write at the same time: many writing transactions, or one schema change or checkpoint alone. Fair: a waiting exclusive holds up new writers. */

import { SqlError } from './sql-error.ts'

/** One transaction's, or one checkpoint's, place at the gate. */
export interface Pass {
  mode: 'none' | 'shared' | 'exclusive'
}

interface Waiting {
  pass: Pass
  mode: 'shared' | 'exclusive'
  admit(): void
}

export class WriterGate {
  #holders = new Set<Pass>()
  #waiting: Waiting[] = []

  /** True while nobody writes. */
  get idle(): boolean {
    return this.#holders.size === 0
  }

  /**
   * Enters, or raises a shared pass to exclusive. Throws 55P03 after `timeoutMs`; 40001 at once where two raise their passes, since
   * each would wait for the other. Throws the signal's reason when it aborts meanwhile.
   */
  async enter(pass: Pass, mode: 'shared' | 'exclusive', timeoutMs: number, signal?: AbortSignal): Promise<void> {
    if (pass.mode === 'exclusive' || pass.mode === mode) return
    if (this.#admits(pass, mode) && (pass.mode === 'shared' || this.#waiting.length === 0)) return this.#admit(pass, mode)
    if (pass.mode === 'shared' && this.#waiting.some((other) => other.pass.mode === 'shared')) {
      throw new SqlError('40001', 'two transactions with changes both wait to change the schema', { hint: 'roll back and try again' })
    }
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
        this.#wake()
        reject(reason)
      }
      const late = new SqlError('55P03', `other transactions with changes stayed open for ${timeoutMs} ms`, {
        hint: 'end them (COMMIT or ROLLBACK) and try again',
      })
      const timer = setTimeout(() => giveUp(late), timeoutMs)
      const stop = () => giveUp(signal?.reason)
      signal?.addEventListener('abort', stop)
      // A raised pass goes first: it already holds up everybody who waits.
      if (pass.mode === 'shared') this.#waiting.unshift(waiting)
      else this.#waiting.push(waiting)
    })
  }

  leave(pass: Pass): void {
    if (!this.#holders.delete(pass)) return
    pass.mode = 'none'
    this.#wake()
  }

  #admits(pass: Pass, mode: 'shared' | 'exclusive'): boolean {
    const others = [...this.#holders].filter((holder) => holder !== pass)
    if (mode === 'exclusive') return others.length === 0
    return others.every((holder) => holder.mode === 'shared')
  }

  #admit(pass: Pass, mode: 'shared' | 'exclusive'): void {
    pass.mode = mode
    this.#holders.add(pass)
  }

  #wake(): void {
    for (;;) {
      const next = this.#waiting[0]
      if (next === undefined || !this.#admits(next.pass, next.mode)) return
      this.#waiting.shift()
      next.admit()
    }
  }
}
