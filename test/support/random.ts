/**
 * Seeded randomness. Every run prints its seed, and `SEED=<n>` sets it. Without that, `npm test` draws the same each time, so that what has
 * passed passes again; it is the soak that takes a new seed for every run.
 */

import { createHash } from 'node:crypto'

export interface Random {
  readonly seed: number
  /** A float in [0, 1). */
  float(): number
  /** An integer from `low` to `high`, both included. */
  int(low: number, high: number): number
  /** True with probability `p`. */
  chance(p: number): boolean
  pick<T>(items: readonly T[]): T
  /** A shuffled copy. */
  shuffle<T>(items: readonly T[]): T[]
  bytes(length: number): Uint8Array
}

/** A generator (mulberry32) seeded by `seed`, else by env SEED, else by the label; prints the seed, labelled. */
export function seededRandom(label: string, seed = seedOf(label)): Random {
  process.stdout.write(`[${label}: SEED=${seed}] `)
  let state = seed >>> 0
  function float(): number {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  function int(low: number, high: number): number {
    return low + Math.floor(float() * (high - low + 1))
  }
  return {
    seed,
    float,
    int,
    chance: (p) => float() < p,
    pick<T>(items: readonly T[]): T {
      if (items.length === 0) throw new Error('pick from nothing')
      return items[int(0, items.length - 1)] as T
    },
    shuffle<T>(items: readonly T[]): T[] {
      const copy = [...items]
      for (let i = copy.length - 1; i > 0; i--) {
        const j = int(0, i)
        ;[copy[i], copy[j]] = [copy[j] as T, copy[i] as T]
      }
      return copy
    },
    bytes: (length) => Uint8Array.from({ length }, () => int(0, 255)),
  }
}

/** The seed that a run with this label has. */
export function seedOf(label: string): number {
  const given = process.env.SEED
  if (given === undefined || given === '') return createHash('sha256').update(label).digest().readUInt32LE(0) >>> 1
  const seed = Number(given)
  if (!Number.isSafeInteger(seed)) throw new Error(`SEED=${given} is not an integer`)
  return seed
}
