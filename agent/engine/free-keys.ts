/**
 * Whole numbers that no row of a table has as its key, as far as is known: ranges between keys that are there. Whoever inserts keys in ascending order
 * finds them in the range behind the last one, whatever others insert elsewhere.
 */

interface Range {
  /** Both are in it. */
  readonly first: bigint
  readonly last: bigint
}

/** Of a table. Keys that leave gaps leave a range for each. */
const mostRanges = 1_024

export class FreeKeys {
  /** Apart from each other, in ascending order. */
  #ranges: Range[] = []
  /** The same, the one that was found or made last at the end. */
  #used = new Set<Range>()

  has(key: bigint): boolean {
    return this.#find(key) !== undefined
  }

  /** These (both ends included) may be used from now on. False: none of them was known to be free. */
  take(first: bigint, last = first): boolean {
    const touched = this.#touching(first, last)
    const [left, right] = [touched[0], touched.at(-1)]
    if (left === undefined || right === undefined) return false
    this.#replace(touched, [
      { first: left.first, last: first - 1n },
      { first: last + 1n, last: right.last },
    ])
    return true
  }

  /** These are free, as of now. */
  add(first: bigint, last: bigint): void {
    const touched = this.#touching(first - 1n, last + 1n)
    const [left, right] = [touched[0], touched.at(-1)]
    const from = left !== undefined && left.first < first ? left.first : first
    const to = right !== undefined && right.last > last ? right.last : last
    this.#replace(touched, [{ first: from, last: to }])
  }

  clear(): void {
    this.#ranges = []
    this.#used.clear()
  }

  /** Those that have one of these in them. */
  #touching(first: bigint, last: bigint): Range[] {
    const from = this.#place(first)
    let to = from
    while (to < this.#ranges.length && (this.#ranges[to] as Range).first <= last) to++
    return this.#ranges.slice(from, to)
  }

  #find(key: bigint): Range | undefined {
    const range = this.#ranges[this.#place(key)]
    return range !== undefined && range.first <= key ? range : undefined
  }

  /** Index of the first range that does not end before `key`. */
  #place(key: bigint): number {
    let [low, high] = [0, this.#ranges.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#ranges[middle] as Range).last < key) low = middle + 1
      else high = middle
    }
    return low
  }

  /** `old` lie beside each other, and where the others (in order; empty ones are left out) belong. */
  #replace(old: readonly Range[], others: readonly Range[]): void {
    const made = others.filter(({ first, last }) => first <= last)
    const place = this.#place(old[0]?.last ?? made[0]?.first ?? 0n)
    this.#ranges.splice(place, old.length, ...made)
    for (const range of old) this.#used.delete(range)
    for (const range of made) this.#used.add(range)
    const [oldest] = this.#used
    if (this.#ranges.length > mostRanges && oldest !== undefined) this.#replace([oldest], [])
  }
}
