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
    for (const cell of cells) {
      if (typeof cell !== 'bigint' && !Number.isInteger(cell)) {
        this.addUnknown()
        return
      }
      const key = BigInt(cell as number | bigint)
      if (this.#first === undefined || key < this.#first) this.#first = key
      if (this.#last === undefined || key > this.#last) this.#last = key
      this.#keys?.add(key)
    }
    if (this.#keys !== undefined && this.#keys.size > few) this.#keys = undefined
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
