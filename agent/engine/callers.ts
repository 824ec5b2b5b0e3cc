/** Whether one client has the engine to itself: then nothing is gained by letting others work while it waits, and each change of threads only costs it time. */

/** ms for which nobody else has asked for anything. */
const quietTime = 100

export class Callers {
  #now: () => number
  #last: object | undefined
  /** When one asked that was not the last one, ms. */
  #changed: number

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
    this.#changed = now()
  }

  /** `caller` asks for something. */
  heard(caller: object): void {
    if (caller === this.#last) return
    this.#last = caller
    this.#changed = this.#now()
  }

  get isOne(): boolean {
    return this.#now() - this.#changed > quietTime
  }
}
