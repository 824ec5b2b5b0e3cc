/** The smallest part of a list that still fails: fast-check leaves out what it can. */

import fc from 'fast-check'

/** `fails` says what goes wrong with a part of the list, or '' when nothing does. The whole list is known to fail. */
export async function shrunk<T>(
  list: readonly T[],
  fails: (part: readonly T[]) => Promise<string>,
  milliseconds: number,
): Promise<{ part: readonly T[]; why: string }> {
  const end = Date.now() + milliseconds
  const indexes = list.map((_, i) => i)
  let smallest = { part: list, why: '' }
  await fc.check(
    fc.asyncProperty(fc.subarray(indexes), async (chosen) => {
      if (Date.now() > end) return true
      const part = chosen.map((i) => list[i] as T)
      const why = await fails(part)
      if (why !== '' && part.length <= smallest.part.length) smallest = { part, why }
      return why === ''
    }),
    { examples: [[indexes]], numRuns: 1 },
  )
  return smallest
}
