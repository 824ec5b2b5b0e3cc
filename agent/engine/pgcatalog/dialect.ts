/**
 * What clients of Postgres write about the catalog, in DuckDB's words: names in pg_catalog lead to the views and macros of relations.ts,
 * casts to regclass and the like become lookups, and what a session is asked about itself (its user, its settings) is answered from here.
 */

import { lowerCase, quoteString, type Token } from '../sql/tokens.ts'
import { catalogColumns } from './columns.ts'
import { macroNames } from './macros.ts'
import { catalogSchema, informationSchema, informationViews } from './relations.ts'

/** What a session knows of itself. */
export interface SessionFacts {
  readonly user: string
  /** The client knows it as its backend's pid. */
  readonly id: number
  readonly version: string
  /** The value that SHOW gives. */
  setting(name: string): string | undefined
}

interface Edit {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** Casts to a name of something: from text to its oid, from an oid to its name. */
const lookups: Readonly<Record<string, readonly [toOid: string, toName: string, rest: string]>> = {
  regclass: ['_class_oid', '_class_name', ''],
  regnamespace: ['_namespace_oid', '_namespace_name', ''],
  regtype: ['_typename_oid', 'format_type', ', -1'],
  regproc: ['_function_oid', 'pg_get_functiondef', ''],
  regprocedure: ['_function_oid', 'pg_get_functiondef', ''],
  regrole: ['pg_get_userbyid', 'pg_get_userbyid', ''],
}

/** Types that only Postgres has. */
const plainTypes: Readonly<Record<string, string>> = {
  name: 'VARCHAR',
  char: 'VARCHAR',
  xid: 'BIGINT',
  oidvector: 'BIGINT[]',
  int2vector: 'BIGINT[]',
}

const whoAmI = new Set(['current_user', 'session_user', 'current_role'])

/** The query as DuckDB understands it; undefined when it is the same. */
export function translate(text: string, tokens: readonly Token[], facts: SessionFacts): string | undefined {
  const edits: Edit[] = []
  for (let i = 0; i < tokens.length; i++) i = editAt(tokens, i, facts, edits)
  if (edits.length === 0) return undefined
  let out = ''
  let at = 0
  // Stable: what is put before an operand comes before what replaces its beginning.
  for (const edit of edits.sort((a, b) => a.start - b.start || a.end - b.end)) {
    out += text.slice(at, edit.start) + edit.text
    at = edit.end
  }
  return out + text.slice(at)
}

/** Adds what is to change at token `at`; returns the last token that it has dealt with. */
function editAt(tokens: readonly Token[], at: number, facts: SessionFacts, edits: Edit[]): number {
  const token = tokens[at] as Token
  const is = (offset: number, text: string) => tokens[at + offset]?.text === text
  if (token.kind === 'symbol') return token.text === ':' && is(1, ':') ? castAt(tokens, at, edits) : at
  if (token.kind !== 'word' || is(-1, '.')) return at
  const replace = (last: number, by: string) => {
    edits.push({ start: token.start, end: (tokens[last] as Token).end, text: by })
    return last
  }
  const name = token.text
  if (name === 'operator' && is(1, '(') && is(2, 'pg_catalog')) {
    const close = tokens.findIndex((candidate, i) => i > at && candidate.text === ')')
    if (close === -1) return at
    const symbols = tokens.slice(at + 4, close).map((symbol) => symbol.text)
    return replace(close, ` ${symbols.join('')} `)
  }
  if (name === 'collate') {
    const last = is(1, 'pg_catalog') ? at + 3 : at + 1
    const collation = lowerCase(tokens[last]?.text ?? '')
    return last > at + 1 || collation === 'default' || collation === 'c' ? replace(last, '') : at
  }
  if (name === 'information_schema' && is(1, '.') && informationViews[lowerCase(tokens[at + 2]?.text ?? '')] !== undefined)
    return replace(at + 2, `${informationSchema}.${lowerCase(tokens[at + 2]?.text ?? '')}`)
  if (name === 'information_schema' && is(1, '.') && is(2, '_pg_expandarray')) return replace(at + 2, `${catalogSchema}.pg_expandarray`)
  if (whoAmI.has(name) && !is(1, '.') && !is(1, '(')) return replace(at, named(tokens, at, at, quoteString(facts.user), name))
  const own = name === 'pg_catalog' && is(1, '.') ? at + 2 : at
  const called = own === at ? name : lowerCase(tokens[own]?.text ?? '')
  if (own > at && is(-1, 'as')) return replace(own, plainTypes[called] ?? called)
  if (tokens[own + 1]?.text === '(') return callAt(tokens, at, own, called, facts, edits, replace)
  if (own > at && tokens[own + 1]?.text === '.') return replace(own, called)
  if (Object.hasOwn(catalogColumns, called) && tokens[own + 1]?.text !== '.') return replace(own, `${catalogSchema}.${called}`)
  return at
}

function callAt(
  tokens: readonly Token[],
  at: number,
  own: number,
  called: string,
  facts: SessionFacts,
  edits: Edit[],
  replace: (last: number, by: string) => number,
): number {
  if (tokens[own + 2]?.text === ')') {
    const answer = called === 'version' ? quoteString(facts.version) : called === 'pg_backend_pid' ? String(facts.id) : undefined
    if (answer !== undefined) return replace(own + 2, named(tokens, at, own + 2, answer, called))
  }
  const close = tokens.findIndex((candidate, i) => i > own + 1 && candidate.depth === tokens[own + 1]?.depth && candidate.text === ')')
  if (called === 'current_setting' && tokens[own + 2]?.kind === 'string') {
    const value = facts.setting(lowerCase(tokens[own + 2]?.text ?? ''))
    if (value !== undefined && close !== -1) return replace(close, named(tokens, at, close, quoteString(value), called))
  }
  if (called === 'pg_partition_ancestors' && tokens[close + 2]?.text === 'ordinality') {
    // Nothing is partitioned: a relation is its only ancestor.
    edits.push({ start: (tokens[close] as Token).start, end: (tokens[close + 2] as Token).end, text: ', 1)' })
    return replace(own + 1, '(SELECT ')
  }
  // A column without a name of its own is called as the function.
  const last = tokens[close]
  if ((own > at || macroNames.has(called)) && last !== undefined && named(tokens, at, close, '', called) !== '')
    edits.push({ start: last.end, end: last.end, text: ` AS "${called}"` })
  if (macroNames.has(called)) return replace(own, `${catalogSchema}.${called}`)
  if (called === 'generate_series' && own > at) {
    // In Postgres the alias of such a function is its value as well.
    const alias = tokens[close + 1]
    if (alias?.kind === 'word' && tokens[close + 2]?.text !== '(') edits.push({ start: alias.end, end: alias.end, text: `(${alias.text})` })
  }
  return own > at ? replace(own, called) : at
}

/** An answer in the place of a call keeps the name that its column would have had. */
function named(tokens: readonly Token[], first: number, last: number, answer: string, name: string): string {
  const before = tokens[first - 1]
  const after = tokens[last + 1]
  const alone =
    (before?.text === 'select' || before?.text === ',') && (after === undefined || [',', 'from', 'where', 'union'].includes(after.text))
  return alone && tokens[first]?.depth === 0 ? `${answer} AS "${name}"` : answer
}

/** `::type`, where type may be one that only Postgres has. */
function castAt(tokens: readonly Token[], at: number, edits: Edit[]): number {
  const qualified = tokens[at + 2]?.text === 'pg_catalog' && tokens[at + 3]?.text === '.'
  const typeAt = qualified ? at + 4 : at + 2
  const type = tokens[typeAt]
  if (type === undefined) return at + 1
  const name = lowerCase(type.text)
  const lookup = lookups[name]
  const { start } = tokens[at] as Token
  if (lookup !== undefined && at > 0) {
    const [toOid, toName, rest] = lookup
    const operand = operandBefore(tokens, at)
    const kind = tokens[at - 1]?.kind
    const given = operand === at - 1 && (kind === 'string' || kind === 'parameter')
    const begin = (tokens[operand] as Token).start
    edits.push({ start: begin, end: begin, text: `${catalogSchema}.${given ? toOid : toName}(` })
    edits.push({ start, end: type.end, text: `${given ? '' : rest})` })
  } else if (plainTypes[name] !== undefined && (qualified || name !== 'char' || type.kind === 'quoted')) {
    edits.push({ start, end: type.end, text: `::${plainTypes[name]}` })
  } else if (qualified) edits.push({ start, end: type.end, text: `::${name}` })
  return typeAt
}

/** Where the operand of a cast at `at` begins: a constant, a name, a call, or parentheses, perhaps cast before. */
function operandBefore(tokens: readonly Token[], at: number): number {
  let first = at - 1
  const last = tokens[first] as Token
  if (last.text === ')' || last.text === ']') {
    for (first--; first > 0 && (tokens[first] as Token).depth > last.depth; first--);
    const before = tokens[first - 1]
    if (before?.kind === 'word' || before?.kind === 'quoted') first--
  }
  while (tokens[first - 1]?.text === '.' && first >= 2) first -= 2
  if (tokens[first - 1]?.text === ':' && tokens[first - 2]?.text === ':') return operandBefore(tokens, first - 2)
  return first
}
