/** A map that keeps so many entries: those that were used last. */

export class LastUsed<Key, Value> {
  #most: number
  /** The one used last at the end. */
  #entries = new Map<Key, Value>()
  #dropped: (value: Value) => void

  /** `dropped` is told of each value that has to make room. */
  constructor(most: number, dropped: (value: Value) => void = () => {}) {
    this.#most = most
    this.#dropped = dropped
  }

  get(key: Key): Value | undefined {
    const value = this.#entries.get(key)
    if (value !== undefined) this.#append(key, value)
    return value
  }

  set(key: Key, value: Value): void {
    this.#append(key, value)
    if (this.#entries.size <= this.#most) return
    const [oldest] = this.#entries
    if (oldest === undefined) return
    this.#entries.delete(oldest[0])
    this.#dropped(oldest[1])
  }

  values(): Iterable<Value> {
    return this.#entries.values()
  }

  clear(): void {
    this.#entries.clear()
  }

  #append(key: Key, value: Value): void {
    this.#entries.delete(key)
    this.#entries.set(key, value)
  }
}
