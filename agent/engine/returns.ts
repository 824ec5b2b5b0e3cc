/**
 * Whether clients that have been answered come again at once, as programs do that write one row after the other. Then the next group is worth waiting for them; else
 * whoever waited for them would do so in vain.
 */

/** How much of what is known comes from the group that was answered last. */
const newest = 0.2
/** Part of those who were answered that has to come again before the next group is answered. */
const mostly = 0.5

export class Returns {
  /** Who was answered, and in which group. */
  #answered = new WeakMap<object, number>()
  #group = 0
  #expected = 0
  #came = 0
  #part = 0

  /** Most of them do. */
  get areUsual(): boolean {
    return this.#part >= mostly
  }

  came(caller: object): void {
    if (this.#answered.get(caller) !== this.#group) return
    this.#answered.delete(caller)
    this.#came++
  }

  answered(callers: readonly object[]): void {
    if (this.#expected > 0) this.#part += newest * (this.#came / this.#expected - this.#part)
    this.#group++
    this.#expected = callers.length
    this.#came = 0
    for (const caller of callers) this.#answered.set(caller, this.#group)
  }
}
