/** Which keys a zod schema knows, and where: what a "did you mean" needs. Reads zod's definition tree, wrappers looked through. */

import type { z } from 'zod'
import type { KeyPath } from './problem.ts'

/** The parts of zod's definitions that lead on to other schemas. */
interface Definition {
  type: string
  shape?: Record<string, z.ZodType>
  innerType?: z.ZodType
  in?: z.ZodType
  out?: z.ZodType
  element?: z.ZodType
  valueType?: z.ZodType
  options?: readonly z.ZodType[]
  getter?: () => z.ZodType
}

const definition = (schema: z.ZodType) => schema._zod.def as unknown as Definition

/** The schemas behind wrappers (default, optional, pipe, …) and unions. */
function behind(schema: z.ZodType, depth = 0): z.ZodType[] {
  const { innerType, in: before, out: after, options, getter } = definition(schema)
  const next = [innerType, before, after, ...(options ?? []), getter?.()].filter((inner) => inner !== undefined)
  return next.length === 0 || depth > 20 ? [schema] : next.flatMap((inner) => behind(inner, depth + 1))
}

/** Keys that an object at `path` may have; none when no object stands there. */
export function keysAt(schema: z.ZodType, path: KeyPath): string[] {
  const [first, ...rest] = path
  const found = behind(schema).flatMap((inner) => {
    const { shape, element, valueType } = definition(inner)
    if (first === undefined) return Object.keys(shape ?? {})
    const next = typeof first === 'number' ? element : shape !== undefined && Object.hasOwn(shape, first) ? shape[first] : valueType
    return next === undefined ? [] : keysAt(next, rest)
  })
  return [...new Set(found)]
}

/** Paths of the objects that have this key, to point out a wrong indentation. */
export function placesOf(schema: z.ZodType, key: string, path: KeyPath = []): KeyPath[] {
  if (path.length > 6) return []
  return behind(schema).flatMap((inner) => {
    const shape = definition(inner).shape ?? {}
    const here = Object.hasOwn(shape, key) ? [path] : []
    return [...here, ...Object.entries(shape).flatMap(([name, next]) => placesOf(next, key, [...path, name]))]
  })
}
