/** The keys that a transaction has inserted into one table, where they are one whole number each: few one by one, more as the range that they lie in. */

import type { Cell, Rows, Table } from '../journal/types.ts'

/** Keys that are kept one by one. */
const few = 64

export class InsertedKeys {
  /** Undefined: too many to tell. */
  #keys: Set<bigint> | undefined = new Set()
  /** Both are among them. */
  #first: bigint | undefined
  #last: bigint | undefined
  #unknown = false

  /** Rows of all columns of the table. */
  add({ primaryKey }: Table, { columns }: Rows): void {
    const [only, ...others] = primaryKey
    if (only === undefined) return
    const cells = others.length > 0 ? [null] : (columns[only] as readonly Cell[])
    if (!cells.every((cell) => typeof cell === 'bigint' || Number.isInteger(cell))) {
      this.addUnknown()
      return
    }
    // There may be millions: no object is made for each.
    if (cells.length > few) this.#keys = undefined
    const keys = cells as readonly (number | bigint)[]
    let [first, last] = [keys[0] ?? 0, keys[0] ?? 0]
    for (const key of keys) {
      if (key < first) first = key
      if (key > last) last = key
      this.#keys?.add(BigInt(key))
    }
    if (this.#keys !== undefined && this.#keys.size > few) this.#keys = undefined
    this.#first = this.#first === undefined || first < this.#first ? BigInt(first) : this.#first
    this.#last = this.#last === undefined || last > this.#last ? BigInt(last) : this.#last
  }

  /** Some of which nothing is known. */
  addUnknown(): void {
    this.#unknown = true
  }

  /** Whether this may be one of them. */
  mayHave(key: bigint): boolean {
    if (this.#unknown) return true
    if (this.#keys !== undefined) return this.#keys.has(key)
    return key >= (this.#first as bigint) && key <= (this.#last as bigint)
  }

  /** Ranges in which all of them are, both ends included; 'any': wherever. */
  get ranges(): readonly (readonly [first: bigint, last: bigint])[] | 'any' {
    if (this.#unknown) return 'any'
    if (this.#keys !== undefined) return [...this.#keys].map((key) => [key, key])
    return [[this.#first as bigint, this.#last as bigint]]
  }
}
