/** Numbers of many rows on their way to the wire, in one array: a value each costs more than its digits do. */

import type { Cell } from '../../journal/types.ts'

/** A column of a chunk of rows. */
export type ChunkColumn = readonly Cell[] | Numbers

export class Numbers {
  /** Whole ones are safe integers. */
  readonly values: readonly number[]
  /** By row from `#first` on, least significant bit first, 0 = NULL; undefined: there is none. */
  readonly #valid: Uint8Array | undefined
  readonly #first: number
  /** They are × 10^-scale; -1: doubles, or times, which their type's own encoder takes as numbers. */
  readonly scale: number
  /** Their Cells are bigints. */
  readonly #big: boolean

  constructor(values: readonly number[], valid: Uint8Array | undefined, first: number, scale: number, big: boolean) {
    this.values = values
    this.#valid = valid
    this.#first = first
    this.scale = scale
    this.#big = big
  }

  isNull(row: number): boolean {
    if (this.#valid === undefined) return false
    const at = this.#first + row
    return (((this.#valid[at >> 3] as number) >> (at & 7)) & 1) === 0
  }

  cell(row: number): Cell {
    if (this.isNull(row)) return null
    const value = this.values[row] as number
    return this.#big ? BigInt(value) : value
  }
}

export function cellAt(column: ChunkColumn, row: number): Cell {
  return column instanceof Numbers ? column.cell(row) : (column[row] as Cell)
}
