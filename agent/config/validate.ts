/**
 * Checks plain values by a zod schema and tells each mistake by line, key, message and hint, in an operator's words.
 * Works for any schema: the core one and every plugin's.
 */

import type { z } from 'zod'
import { type Document, unknownValue } from './document.ts'
import { type KeyPath, keyName, type Problem } from './problem.ts'
import { keysAt, placesOf } from './schema-keys.ts'
import { nearest } from './suggest.ts'

type Issue = z.core.$ZodIssue

export interface Validation<T> {
  /** The parsed value; with mistakes: what is left of it when defaults stand in for them, if that makes a whole. */
  value: T | undefined
  problems: Problem[]
  /** Key paths, as in `Problem.key`, that had a mistake or lie above one. */
  faulty: ReadonlySet<string>
}

interface Context {
  document: Document
  /** Where `raw` lies in the document. */
  base: KeyPath
  /** Where else an unknown key would be right: completes "it belongs under …". */
  elsewhere?: (key: string) => string | undefined
}

/** Validates `raw`. All mistakes at once; never throws for what an operator wrote. */
export function validate<S extends z.ZodType>(schema: S, raw: unknown, context: Context): Validation<z.output<S>> {
  const typed = retype(schema, raw, context)
  const result = schema.safeParse(typed)
  // A value that could not be expanded has been told already; what a schema says of its stand-in is noise.
  if (result.success && !holdsUnknown(typed)) return { value: result.data, problems: [], faulty: new Set() }
  const issues = result.success ? [] : result.error.issues
  const problems = issues
    .filter((issue) => valueAt(typed, keys(issue.path)) !== unknownValue)
    .flatMap((issue) => explain(issue, schema, typed, context))
  const faulty = new Set<string>()
  for (const issue of issues) {
    const path = [...context.base, ...keys(issue.path)]
    for (let length = context.base.length; length <= path.length; length++) faulty.add(keyName(path.slice(0, length)))
  }
  const rest = schema.safeParse(prune(typed, issues))
  return { value: rest.success ? rest.data : undefined, problems, faulty }
}

/** Text out of variables becomes the number or boolean that the schema asks for: `cpu_cores: ${CORES}`. */
function retype(schema: z.ZodType, raw: unknown, { document, base }: Context): unknown {
  const result = schema.safeParse(raw)
  if (result.success) return raw
  const replacements = new Map<string, unknown>()
  for (const issue of result.error.issues) {
    const path = keys(issue.path)
    const text = valueAt(raw, path)
    if (issue.code !== 'invalid_type' || typeof text !== 'string' || !document.isExpanded([...base, ...path])) continue
    const value = scalar(text.trim())
    if (value !== undefined) replacements.set(JSON.stringify(path), value)
  }
  return replacements.size === 0 ? raw : copy(raw, (path, value) => replacements.get(JSON.stringify(path)) ?? value)
}

/** A number or boolean as YAML writes it, or undefined. */
function scalar(text: string): number | boolean | undefined {
  if (text === 'true' || text === 'false') return text === 'true'
  return /^[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : undefined
}

const removed = Symbol('removed')

/** `raw` without what the issues blame; a list with a bad entry goes as a whole. */
function prune(raw: unknown, issues: readonly Issue[]): unknown {
  const bad = new Set<string>()
  for (const issue of issues) {
    const path = keys(issue.path)
    const inList = path.findIndex((key) => typeof key === 'number')
    const at = inList < 0 ? path : path.slice(0, inList)
    if (issue.code === 'unrecognized_keys') for (const key of issue.keys) bad.add(JSON.stringify([...at, ...(inList < 0 ? [key] : [])]))
    else bad.add(JSON.stringify(at))
  }
  const rest = copy(raw, (path, value) => (value === unknownValue || bad.has(JSON.stringify(path)) ? removed : value))
  return rest === removed ? undefined : rest
}

/** A deep copy of plain values; `change` sees each value before what is in it, and may say `removed`. */
function copy(value: unknown, change: (path: KeyPath, value: unknown) => unknown, path: KeyPath = []): unknown {
  const changed = change(path, value)
  if (Array.isArray(changed)) return changed.map((item, index) => copy(item, change, [...path, index])).filter((item) => item !== removed)
  if (typeof changed !== 'object' || changed === null) return changed
  const entries = Object.entries(changed).map(([key, item]) => [key, copy(item, change, [...path, key])] as const)
  return Object.fromEntries(entries.filter(([, item]) => item !== removed))
}

function holdsUnknown(value: unknown): boolean {
  if (value === unknownValue) return true
  return typeof value === 'object' && value !== null && Object.values(value).some(holdsUnknown)
}

function keys(path: readonly PropertyKey[]): (string | number)[] {
  return path.map((key) => (typeof key === 'symbol' ? String(key) : key))
}

export function valueAt(value: unknown, path: KeyPath): unknown {
  let at = value
  for (const key of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return undefined
    at = (at as Record<string | number, unknown>)[key]
  }
  return at
}

function explain(issue: Issue, schema: z.ZodType, raw: unknown, context: Context): Problem[] {
  const { document, base } = context
  const path = keys(issue.path)
  const problem = (at: KeyPath, part: 'key' | 'value', message: string, hint: string): Problem => {
    const place = document.locate([...base, ...at], part)
    return { line: place?.line ?? null, column: place?.column ?? null, key: keyName([...base, ...at]), message, hint }
  }
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => problem([...path, key], 'key', 'unknown key', unknownKeyHint(key, path, schema, context)))
  }
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    // The branch that got furthest is most likely the one that was meant.
    const depth = (branch: readonly Issue[]) => Math.max(0, ...branch.map((inner) => inner.path.length))
    const meant = issue.errors.reduce((best, branch) => (depth(branch) > depth(best) ? branch : best))
    const unionPath = issue.path
    if (depth(meant) > 0) return meant.flatMap((inner) => explain({ ...inner, path: [...unionPath, ...inner.path] }, schema, raw, context))
  }
  const [message, hint] = words(issue, valueAt(raw, path))
  return [
    problem(path, 'value', document.redact(message), document.redact(hint ?? `see ${keyName([...base, ...path])} in config.example.yaml`)),
  ]
}

function unknownKeyHint(key: string, path: KeyPath, schema: z.ZodType, { base, elsewhere }: Context): string {
  const known = keysAt(schema, path)
  const meant = nearest(key, known)
  if (meant !== undefined) return `did you mean ${meant}?`
  const places = placesOf(schema, key).map((place) => keyName([...base, ...place]) || 'no other key')
  const place = places.length > 0 ? places.join(' or ') : elsewhere?.(key)
  if (place !== undefined) return `it belongs under ${place}: check the indentation`
  return known.length === 0 ? 'remove it' : `remove it; the keys here are ${known.join(', ')}`
}

const typeNames: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'a map (key: value)',
  record: 'a map (key: value)',
  array: 'a list',
  null: 'nothing',
  date: 'a date',
  bigint: 'a whole number',
}

/** What stands there, by kind: never the value itself. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'number') return Number.isInteger(value) ? 'a number' : 'a number with a fraction'
  return { string: 'a text', boolean: 'true or false', object: 'a map' }[typeof value as string] ?? typeof value
}

const typeHints: Record<string, string> = {
  string: 'put it in quotes',
  boolean: 'write true or false, without quotes',
  number: 'write digits, without quotes or unit',
  int: 'write digits, without quotes, unit or fraction',
  object: 'write its keys on the lines below, indented',
  record: 'write its keys on the lines below, indented',
  array: 'write [a, b], or one "- entry" a line',
}

/** Message, and hint if there is a better one than the example file. */
function words(issue: Issue, value: unknown): [message: string, hint?: string] {
  switch (issue.code) {
    case 'invalid_type': {
      const expected = typeNames[issue.expected] ?? issue.expected
      return [
        `${value === undefined ? 'missing: ' : ''}expected ${expected}${value === undefined ? '' : `, got ${kindOf(value)}`}`,
        typeHints[issue.expected],
      ]
    }
    case 'invalid_value': {
      const allowed = issue.values.map(String)
      const meant = typeof value === 'string' ? nearest(value, allowed) : undefined
      return [
        `expected ${allowed.length === 1 ? '' : 'one of '}${allowed.join(', ')}`,
        meant === undefined ? `write ${allowed.join(' or ')}` : `did you mean ${meant}?`,
      ]
    }
    case 'too_small':
      return size('at least', issue.minimum, issue.origin, issue.inclusive)
    case 'too_big':
      return size('at most', issue.maximum, issue.origin, issue.inclusive)
    case 'invalid_format':
      return [`not a valid ${issue.format === 'regex' ? 'value' : issue.format}`]
    case 'custom': {
      const hint = issue.params?.hint
      return [issue.message === 'Invalid input' ? 'not a valid value' : issue.message, typeof hint === 'string' ? hint : undefined]
    }
    case 'invalid_union':
      return [`${kindOf(value)} cannot stand here`]
    default:
      return [issue.message]
  }
}

function size(word: string, bound: number | bigint, origin: string, inclusive: boolean | undefined): [string, string] {
  const unit = { string: ' characters', array: ' entries', set: ' entries' }[origin] ?? ''
  if (unit !== '' && word === 'at least' && Number(bound) === 1) return ['must not be empty', 'write something, or remove the key']
  const limit = inclusive === false ? `${word === 'at least' ? 'more than' : 'less than'} ${bound}` : `${word} ${bound}`
  return [`expected ${limit}${unit}`, `write ${limit}${unit}`]
}
