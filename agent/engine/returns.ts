/**
 * Who comes again as soon as it has been answered, as programs do that write one row after the other: such clients are worth waiting for, others would be
 * waited for in vain. It is known of each by itself: one quick client says nothing about a slow one beside it.
 */

/** ms after its answer in which a client that comes again at once does so. */
const promptly = 1
/** How much of what is known of a client comes from the last time. */
const newest = 0.2
/** Part of the times that makes a habit. */
const mostly = 0.5

interface Habit {
  /** Of the times that it was answered, the part after which it came promptly; the last ones count most. */
  prompt: number
  /** Infinity: it was not answered yet, since it was committed. */
  answeredAt: number
}

export class Returns {
  #now: () => number
  #habits = new WeakMap<object, Habit>()
  /** Have been committed, and not come again. */
  #awaited = new Set<object>()

  /** `now`: ms. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** How many are to come, by their habit, who were committed lately. */
  get awaited(): number {
    return this.#awaited.size
  }

  /** A client has come; it may have sent its next row ahead of its answer. */
  came(caller: object): void {
    this.#awaited.delete(caller)
    const habit = this.#habits.get(caller)
    if (habit !== undefined) habit.prompt += newest * (Number(this.#now() - habit.answeredAt <= promptly) - habit.prompt)
  }

  /** These were committed; `waiting` are there already. */
  committed(callers: readonly object[], waiting: readonly object[]): void {
    for (const caller of callers) {
      const habit = this.#habits.get(caller) ?? { prompt: 0, answeredAt: 0 }
      habit.answeredAt = Number.POSITIVE_INFINITY
      this.#habits.set(caller, habit)
      if (habit.prompt >= mostly && !waiting.includes(caller)) this.#awaited.add(caller)
    }
  }

  answered(callers: readonly object[]): void {
    const now = this.#now()
    for (const caller of callers) {
      const habit = this.#habits.get(caller)
      if (habit !== undefined) habit.answeredAt = now
    }
  }

  /** They were waited for in vain. */
  forget(): void {
    this.#awaited.clear()
  }
}
