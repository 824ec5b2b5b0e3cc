/** Numbers of several rounds, and of many latencies, in a few. */

export interface Summary {
  readonly min: number
  readonly median: number
  readonly max: number
}

/** Throws on an empty list: a row without a measurement has failed. */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0) throw new Error('nothing was measured')
  const sorted = values.toSorted((a, b) => a - b)
  return { min: sorted[0] as number, median: percentile(sorted, 50), max: sorted.at(-1) as number }
}

/** The value that `percent` of `sorted` (ascending) do not exceed; between two values of an even number, their mean. */
export function percentile(sorted: ArrayLike<number>, percent: number): number {
  if (sorted.length === 0) throw new Error('nothing was measured')
  const rank = (sorted.length * percent) / 100
  const below = sorted[Math.max(0, Math.ceil(rank) - 1)] as number
  const above = sorted[Math.min(sorted.length - 1, Math.floor(rank))] as number
  return (below + above) / 2
}
