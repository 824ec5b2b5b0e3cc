/**
 * A YAML text as plain values, with the place of every key: what a schema finds wrong later can then be told by line.
 * Variables are expanded here. What the YAML library says is retold in our words, since its messages quote the source, and with it secrets.
 */

import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type ParsedNode,
  parseDocument,
  type Scalar,
  visit,
  type YAMLError,
} from 'yaml'
import { type Environment, expand } from './expand.ts'
import { type KeyPath, keyName, type Problem } from './problem.ts'

interface Place {
  line: number
  column: number
}

export interface Document {
  readonly file: string
  /** Plain values; undefined for an empty file. */
  readonly value: unknown
  readonly problems: readonly Problem[]
  /** Whether `value` can be trusted to be what was meant: false after a syntax error. */
  readonly readable: boolean
  /** The place of a value, or of its key, or of the nearest parent that is in the file; null when not even that is. */
  locate(path: KeyPath, part?: 'key' | 'value'): Place | null
  /** Whether the value came, in part or whole, out of variables. */
  isExpanded(path: KeyPath): boolean
  /** `text` without anything that came out of the environment. */
  redact(text: string): string
}

interface Options {
  file: string
  env: Environment
  /** Top-level keys to leave alone. */
  skip?: readonly string[]
}

/** More values than this (an alias of aliases of aliases) is no config. */
const maxValues = 20_000

export function readDocument(text: string, { file, env, skip = [] }: Options): Document {
  const lines = new LineCounter()
  const parsed = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: false })
  const problems: Problem[] = []
  const keys = new Map<string, Place>()
  const values = new Map<string, Place>()
  const expandedPaths = new Set<string>()
  const environment = new Map<string, string>()
  let count = 0

  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { line, column: col }
  }
  const placeOf = (node: unknown): Place | undefined => {
    const range = (node as Node | null)?.range
    return range ? placeAt(range[0]) : undefined
  }
  const report = (place: Place | undefined, path: KeyPath, message: string, hint: string) =>
    problems.push({ line: place?.line ?? null, column: place?.column ?? null, key: keyName(path), message, hint })

  for (const problem of syntaxProblems([...parsed.errors, ...parsed.warnings], parsed.contents, placeAt)) problems.push(problem)
  const readable = problems.length === 0
  const value = readable ? plain(parsed.contents, [], []) : undefined

  /** `within`: the aliased nodes under way, to refuse one that contains itself. */
  function plain(node: unknown, path: KeyPath, within: readonly unknown[]): unknown {
    if (++count === maxValues) report(placeOf(node), path, `more than ${maxValues} values`, 'write the config without nested aliases')
    if (count >= maxValues) return unknownValue
    if (isAlias(node)) {
      const target = node.resolve(parsed)
      if (target === undefined) {
        report(placeOf(node), path, 'there is no anchor of this name', 'put a value that begins with * in quotes: "*/15 * * * *"')
        return unknownValue
      }
      if (within.includes(target)) {
        report(placeOf(node), path, 'an alias inside of its own anchor', 'write the values out')
        return unknownValue
      }
      return plain(target, path, [...within, target])
    }
    if (isMap(node)) return plainMap(node.items, path, [...within, node])
    if (isSeq(node)) {
      return node.items.map((item, index) => {
        const place = placeOf(item)
        if (place) values.set(JSON.stringify([...path, index]), place)
        return plain(item, [...path, index], [...within, node])
      })
    }
    return isScalar(node) ? plainScalar(node, path) : null
  }

  function plainMap(items: readonly { key: unknown; value: unknown }[], path: KeyPath, within: readonly unknown[]): object {
    const result: Record<string, unknown> = {}
    for (const { key, value } of items) {
      const keyPlace = placeOf(key)
      const name = isScalar(key) && key.value !== null ? String(key.value) : undefined
      if (name === undefined) {
        report(keyPlace, path, 'a key must be a single word', 'write key: value')
        continue
      }
      const here = [...path, name]
      if (path.length === 0 && skip.includes(name)) continue
      const id = JSON.stringify(here)
      const earlier = Object.hasOwn(result, name) ? result[name] : undefined
      if (Object.hasOwn(result, name)) {
        report(keyPlace, here, 'the key appears twice', `keep one of the two: the first is on line ${keys.get(id)?.line ?? '?'}`)
        // A value is told by its own place, not by that of the one before. Two maps are checked as one, so that no mistake in either stays untold.
        if (!isMap(value))
          for (const places of [keys, values])
            for (const known of places.keys()) if (known.startsWith(id.slice(0, -1))) places.delete(known)
      }
      if (keyPlace) keys.set(id, keyPlace)
      const valuePlace = isScalar(value) && value.value !== null ? placeOf(value) : keyPlace
      if (valuePlace) values.set(id, valuePlace)
      // defineProperty: a key `__proto__` is a key like any other.
      const read = plain(value, here, within)
      const merged = isMap(value) && typeof earlier === 'object' ? { ...earlier, ...(read as object) } : read
      Object.defineProperty(result, name, { value: merged, enumerable: true, configurable: true, writable: true })
    }
    return result
  }

  function plainScalar(node: Scalar, path: KeyPath): unknown {
    if (typeof node.value !== 'string') return node.value
    const expansion = expand(node.value, env)
    for (const { message, hint } of expansion.mistakes) report(placeOf(node), path, message, hint)
    for (const [name, held] of expansion.values) environment.set(name, held)
    if (expansion.expanded) expandedPaths.add(JSON.stringify(path))
    // Checking goes on without it: one mistake is to be told once.
    return expansion.mistakes.length > 0 ? unknownValue : expansion.text
  }

  return {
    file,
    value,
    problems,
    readable,
    locate(path, part = 'value') {
      for (let length = path.length; length > 0; length--) {
        const id = JSON.stringify(path.slice(0, length))
        const place = part === 'value' && length === path.length ? values.get(id) : keys.get(id)
        const found = place ?? values.get(id)
        if (found) return found
      }
      return path.length === 0 ? (placeOf(parsed.contents) ?? null) : null
    },
    isExpanded: (path) => expandedPaths.has(JSON.stringify(path)),
    redact(message) {
      let safe = message
      for (const [name, held] of environment) if (held.length > 3) safe = safe.replaceAll(held, `\${${name}}`)
      return safe
    },
  }
}

/** Stands for a value that is missing because of a mistake already told. */
export const unknownValue: unique symbol = Symbol('unknown value')

/** The parser's complaints in our words, the first of each line only: what follows it is mostly its echo. */
function syntaxProblems(errors: readonly YAMLError[], contents: ParsedNode | null, placeAt: (offset: number) => Place): Problem[] {
  const problems: Problem[] = []
  for (const error of errors) {
    const [message, hint] = syntaxWords(error)
    let offset = error.pos[0]
    if (error.code === 'MISSING_CHAR') {
      // A quote that is never closed is noticed at the end of the file; tell where it was opened.
      visit(contents, {
        Scalar(_, node) {
          if (node.type?.startsWith('QUOTE') && node.range && node.range[0] < offset && node.range[1] >= offset) offset = node.range[0]
        },
      })
    }
    const { line, column } = placeAt(offset)
    if (!problems.some((problem) => problem.line === line))
      problems.push({ line, column, key: '', message: `not valid YAML: ${message}`, hint })
  }
  return problems
}

/** What is wrong and what to do, by the library's error code. */
function syntaxWords(error: YAMLError): [message: string, hint: string] {
  switch (error.code) {
    case 'TAB_AS_INDENT':
      return ['a tab in the indentation', 'indent with spaces']
    case 'BAD_INDENT':
      return [
        'the indentation does not fit, or a bracket is not closed',
        'give keys of one section the same indentation; close every { and [',
      ]
    case 'MISSING_CHAR':
      return [
        /quote/.test(error.message) ? 'a quote is not closed' : 'a character is missing, such as the space after a colon',
        'close the quote; write "key: value" with a space',
      ]
    case 'BLOCK_AS_IMPLICIT_KEY':
    case 'MULTILINE_IMPLICIT_KEY':
      return ['a second ": " on one line', 'put a value that holds ": " in quotes']
    case 'BAD_SCALAR_START':
      return ['a value begins with a special character', 'put the value in quotes']
    case 'BAD_DQ_ESCAPE':
      return ['an unknown escape in a quoted text', "double the backslash, or use single quotes: 'C:\\data'"]
    case 'MULTIPLE_DOCS':
      return ['a second document begins', 'remove the --- line: a config is one document']
    case 'TAG_RESOLVE_FAILED':
      return ['an unknown tag (a word that begins with !)', 'put the value in quotes']
    case 'UNEXPECTED_TOKEN':
      return /alias/.test(error.message)
        ? ['a value begins with *', 'put it in quotes: "*/15 * * * *"']
        : ['something here does not belong', 'check the indentation and the quotes of this line and the one above']
    default:
      return ['it cannot be read here', 'check the indentation and the quotes of this line and the one above']
  }
}
