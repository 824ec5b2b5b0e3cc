/** What a statement is: enough of its shape to run, capture or refuse it. DuckDB still parses the whole of it. */

import { isQuery } from '../pragmas.ts'
import { SqlError } from '../sql-error.ts'
import { parseCopy } from './copy.ts'
import { type DeleteStatement, parseDelete } from './delete.ts'
import { separate, withoutStorageParameters } from './lists.ts'
import { type MergeStatement, parseMerge } from './merge.ts'
import type { Token } from './tokens.ts'

/** `[catalog.][schema.]name`, as written. */
export type QualifiedName = readonly string[]

export type Statement = { readonly text: string; readonly tokens: readonly Token[] } & (
  | { readonly kind: 'begin' | 'commit' | 'rollback' | 'query' | 'session' | 'discard' | 'pragma' | 'checkpoint' | 'vacuum' | 'probe' }
  /** Several of a kind in one transaction, answered as one. */
  | { readonly kind: 'list'; readonly parts: readonly Statement[] }
  | {
      readonly kind: 'insert'
      readonly target: QualifiedName
      /** [start, end) of the target, without an alias. */
      readonly targetText: readonly [number, number]
      readonly conflict: Conflict
      readonly returning: Clause | undefined
    }
  | {
      readonly kind: 'update'
      /** `WITH …`, or ''. */
      readonly prefix: string
      readonly target: QualifiedName
      /** The target with its alias, as written. */
      readonly targetText: string
      /** What the target's columns are qualified with: its alias or its name, as written. */
      readonly qualifier: string
      readonly set: Clause
      readonly assigned: readonly string[]
      readonly from: Clause | undefined
      readonly where: Clause | undefined
      readonly returning: Clause | undefined
    }
  | DeleteStatement
  | { readonly kind: 'truncate'; readonly target: QualifiedName; readonly targetText: string }
  | {
      readonly kind: 'copy-in'
      readonly target: QualifiedName
      readonly columns: readonly string[] | undefined
      readonly options: readonly Token[]
    }
  /** COPY … TO STDOUT: the rows of a query. */
  | { readonly kind: 'copy-out'; readonly query: string; readonly options: readonly Token[] }
  | MergeStatement
  | SchemaStatement
)

export interface SchemaStatement {
  readonly text: string
  readonly tokens: readonly Token[]
  readonly kind: 'schema'
  readonly verb: 'CREATE' | 'ALTER' | 'DROP' | 'COMMENT'
  /** 'TABLE', 'INDEX', 'VIEW', … */
  readonly object: string
  readonly temporary: boolean
  readonly name: QualifiedName
  /** For an index: the table it is on. */
  readonly on: QualifiedName | undefined
  /** CREATE TABLE … AS: where AS begins. */
  readonly asQuery: number | undefined
  readonly tag: string
}

/** A clause after its keyword: [start, end) of the text. `keyword` is where the keyword begins. */
export interface Clause {
  readonly keyword: number
  readonly start: number
  readonly end: number
}

/** What INSERT does with a row whose key exists. */
export type Conflict =
  | { readonly action: 'error' | 'nothing' }
  /** OR REPLACE: every column changes. */
  | { readonly action: 'replace' }
  | { readonly action: 'update'; readonly assigned: readonly string[] }

export function parseStatement(text: string, tokens: readonly Token[]): Statement {
  const parts = separate({ text, tokens })
  if (parts.length > 1) return { text, tokens, kind: 'list', parts: parts.map((part) => parseOne(part)) }
  return parseOne(withoutStorageParameters({ text, tokens }))
}

function parseOne(base: { text: string; tokens: readonly Token[] }): Statement {
  const { text, tokens } = base
  const first = tokens[0]
  const word = first?.kind === 'word' ? first.text : (first?.text ?? '')
  switch (word) {
    case 'begin':
    case 'start':
      return { ...base, kind: 'begin' }
    case 'commit':
    case 'end':
      return { ...base, kind: 'commit' }
    case 'rollback':
    case 'abort':
      if (tokens.some((token) => token.text === 'to' || token.text === 'savepoint'))
        throw unsupported('SAVEPOINT', 'DuckDB has no savepoints')
      return { ...base, kind: 'rollback' }
    case 'savepoint':
    case 'release':
      throw unsupported('SAVEPOINT', 'DuckDB has no savepoints')
    case 'select':
    case 'values':
    case 'from':
    case 'table':
    case '(':
    case 'show':
    case 'describe':
    case 'desc':
    case 'summarize':
    case 'pivot':
    case 'unpivot':
      return { ...base, kind: 'query' }
    case 'explain':
      return parseExplain(base)
    case 'set':
    case 'reset':
    case 'use':
    case 'listen':
      return { ...base, kind: 'session' }
    case 'discard':
    case 'deallocate':
    case 'close':
    case 'unlisten':
      return { ...base, kind: 'discard' }
    case 'pragma':
      return { ...base, kind: isQuery(tokens) ? 'query' : 'pragma' }
    case 'checkpoint':
      return { ...base, kind: 'checkpoint' }
    case 'vacuum':
    case 'analyze':
      return { ...base, kind: 'vacuum' }
    case 'daemonguard':
      return { ...base, kind: 'probe' }
    case 'with':
      return parseDml(base, afterWith(tokens))
    case 'insert':
    case 'update':
    case 'delete':
    case 'merge':
      return parseDml(base, 0)
    case 'truncate': {
      const at = tokens[1]?.text === 'table' ? 2 : 1
      const { name, next } = qualifiedName(tokens, at)
      if (next < tokens.length) throw unsupported('TRUNCATE with options', 'truncate without options')
      return { ...base, kind: 'truncate', target: name, targetText: text.slice(tokens[at]?.start) }
    }
    case 'copy':
      return parseCopy(text, tokens)
    case 'create':
    case 'alter':
    case 'drop':
    case 'comment':
      return parseSchemaStatement(base)
    case 'call':
      throw new SqlError('42501', 'CALL is not available to SQL clients', { hint: 'daemonguard checkpoint, or a SELECT' })
    case 'attach':
    case 'detach':
    case 'export':
    case 'import':
    case 'install':
    case 'load':
    case 'force':
    case 'update_extensions':
      throw new SqlError('42501', `${word.toUpperCase()} is not available to SQL clients of a guarded database`)
    default:
      throw unsupported(
        `the statement ${JSON.stringify(first === undefined ? '' : text.slice(first.start, first.end))}`,
        'it is not known to be safe to replay',
      )
  }
}

/** DuckDB explains, and with ANALYZE runs, anything: CHECKPOINT, SET, PRAGMA. Here: queries, and plans of statements that write rows. */
function parseExplain(base: { text: string; tokens: readonly Token[] }): Statement {
  const { text, tokens } = base
  let at = 1
  let analyzes = false
  if (tokens[at]?.text === '(') {
    for (at++; at < tokens.length && (tokens[at] as Token).depth > 0; at++) if ((tokens[at] as Token).text === 'analyze') analyzes = true
    at++
  }
  for (; tokens[at]?.text === 'analyze' || tokens[at]?.text === 'verbose'; at++) if (tokens[at]?.text === 'analyze') analyzes = true
  const inner = tokens[at] === undefined ? undefined : parseStatement(text, tokens.slice(at))
  const allowed =
    inner?.kind === 'query' || (!analyzes && inner !== undefined && ['insert', 'update', 'delete', 'merge'].includes(inner.kind))
  if (!allowed)
    throw unsupported(
      `EXPLAIN${analyzes ? ' ANALYZE' : ''} of anything but a query`,
      'EXPLAIN without ANALYZE shows the plan of INSERT, UPDATE, DELETE and MERGE',
    )
  return { ...base, kind: 'query' }
}

function parseDml(base: { text: string; tokens: readonly Token[] }, verb: number): Statement {
  const { text, tokens } = base
  const head = tokens[verb]
  const find = (word: string, from: number) =>
    firstAtDepth(
      tokens,
      (token, i) => token.kind === 'word' && token.text === word && !(word === 'from' && tokens[i - 1]?.text === 'distinct'),
      from,
    )
  const clause = (word: string, from: number, ...until: string[]): Clause | undefined => {
    const at = find(word, from)
    if (at === -1) return undefined
    const stop = Math.min(...until.map((end) => find(end, at + 1)).filter((i) => i !== -1), tokens.length)
    return { keyword: (tokens[at] as Token).start, start: (tokens[at] as Token).end, end: tokens[stop]?.start ?? text.length }
  }
  switch (head?.text) {
    case 'insert': {
      let at = verb + 1
      let conflict: Conflict = { action: 'error' }
      if (tokens[at]?.text === 'or') {
        conflict = { action: tokens[at + 1]?.text === 'replace' ? 'replace' : 'nothing' }
        at += 2
      }
      if (tokens[at]?.text === 'into') at++
      const { name, next } = qualifiedName(tokens, at)
      const on = firstAtDepth(tokens, (token, i) => token.text === 'on' && tokens[i + 1]?.text === 'conflict', next)
      if (on !== -1) {
        const action = find('do', on)
        if (tokens[action + 1]?.text === 'nothing') conflict = { action: 'nothing' }
        else {
          const set = find('set', action)
          const stop = [find('where', set), find('returning', set)].filter((i) => i !== -1)
          conflict =
            set === -1
              ? { action: 'replace' }
              : { action: 'update', assigned: assignedColumns(tokens, set + 1, Math.min(...stop, tokens.length)) }
        }
      }
      const targetText = [(tokens[at] as Token).start, (tokens[next - 1] as Token).end] as const
      return { ...base, kind: 'insert', target: name, targetText, conflict, returning: clause('returning', next) }
    }
    case 'update': {
      const { name, next } = qualifiedName(tokens, verb + 1)
      const set = find('set', next)
      if (set === -1) throw new SqlError('42601', 'UPDATE without SET')
      const where = find('where', set)
      const alias = tokens[set - 1] as Token
      const qualifier = set > next ? text.slice(alias.start, alias.end) : text.slice(tokens[next - 1]?.start, tokens[next - 1]?.end)
      const setClause = clause('set', next, 'from', 'where', 'returning') as Clause
      const stop = tokens.findIndex((token) => token.start >= setClause.end)
      return {
        ...base,
        kind: 'update',
        prefix: text.slice(0, head.start),
        target: name,
        targetText: text.slice(tokens[verb + 1]?.start, tokens[set]?.start),
        qualifier,
        set: setClause,
        assigned: assignedColumns(tokens, set + 1, stop === -1 ? tokens.length : stop),
        from: where !== -1 && find('from', set) > where ? undefined : clause('from', set, 'where', 'returning'),
        where: clause('where', set, 'returning'),
        returning: clause('returning', set),
      }
    }
    case 'delete':
      return parseDelete(base, verb, find, clause)
    case 'merge':
      return parseMerge(base, verb)
    default:
      return { ...base, kind: 'query' }
  }
}

/** Where the statement begins that a WITH list precedes. Its names may be keywords: `WITH values AS (…) INSERT …`. */
function afterWith(tokens: readonly Token[]): number {
  let at = tokens[1]?.text === 'recursive' ? 2 : 1
  const skipParentheses = () => {
    if (tokens[at]?.text !== '(') return
    const depth = (tokens[at] as Token).depth
    for (at++; at < tokens.length && (tokens[at] as Token).depth > depth; at++);
    at++
  }
  for (;;) {
    at++
    skipParentheses()
    while (tokens[at] !== undefined && tokens[at]?.text !== '(') at++
    skipParentheses()
    if (tokens[at]?.text !== ',') return at
    at++
  }
}

/** The columns on the left of `=` in a SET list: `a = …, (b, c) = …, t.d = …`. */
export function assignedColumns(tokens: readonly Token[], from: number, to: number): string[] {
  const columns: string[] = []
  let atStart = true
  for (let i = from; i < to; i++) {
    const token = tokens[i] as Token
    if (token.depth === 0 && token.text === ',' && token.kind === 'symbol') atStart = true
    else if (atStart && token.depth === 0 && token.text === '(') {
      for (i++; i < to && (tokens[i] as Token).depth > 0; i++) if (isName(tokens[i])) columns.push((tokens[i] as Token).text)
      atStart = false
    } else if (atStart && isName(token)) {
      let name = token.text
      while (tokens[i + 1]?.text === '.' && i + 2 < to) {
        i += 2
        name = (tokens[i] as Token).text
      }
      columns.push(name)
      atStart = false
    }
  }
  return columns
}

const objects = new Set(['TABLE', 'VIEW', 'INDEX', 'SCHEMA', 'SEQUENCE', 'TYPE', 'MACRO', 'FUNCTION'])

function parseSchemaStatement(base: { text: string; tokens: readonly Token[] }): Statement {
  const { tokens } = base
  const verb = (tokens[0] as Token).text.toUpperCase() as SchemaStatement['verb']
  let at = 1
  let temporary = false
  const modifiers = new Set(['or', 'replace', 'unique', 'on', 'recursive', 'local'])
  for (; at < tokens.length; at++) {
    const text = (tokens[at] as Token).text
    if (text === 'temp' || text === 'temporary') temporary = true
    else if (!modifiers.has(text)) break
  }
  const object = (tokens[at]?.text ?? '').toUpperCase()
  if (!objects.has(object) && !(verb === 'COMMENT' && object === 'COLUMN')) {
    throw unsupported(`${verb} ${object}`, 'a guarded database has tables, views, indexes, schemas, sequences, types and macros')
  }
  at++
  if (tokens[at]?.text === 'concurrently') at++
  if (tokens[at]?.text === 'if') at += tokens[at + 1]?.text === 'not' ? 3 : 2
  let on: QualifiedName | undefined
  let name: QualifiedName = []
  if (object === 'INDEX' && verb === 'CREATE') {
    const onAt = tokens.findIndex((token, i) => i >= at && token.depth === 0 && token.text === 'on')
    if (onAt > at) name = qualifiedName(tokens, at).name
    on = qualifiedName(tokens, onAt + 1).name
  } else name = qualifiedName(tokens, at).name
  let asQuery: number | undefined
  if (verb === 'CREATE' && object === 'TABLE') {
    const as = firstAtDepth(tokens, (token) => token.kind === 'word' && token.text === 'as', at)
    if (as !== -1) asQuery = (tokens[as] as Token).end
  }
  const tag = verb === 'COMMENT' ? 'COMMENT' : `${verb} ${object}`
  return { ...base, kind: 'schema', verb, object, temporary, name, on, asQuery, tag }
}

/** Reads `a.b.c` from the token at `at` on. */
export function qualifiedName(tokens: readonly Token[], at: number): { name: QualifiedName; next: number } {
  const name: string[] = []
  let next = at
  while (isName(tokens[next])) {
    name.push((tokens[next] as Token).text)
    next++
    if (tokens[next]?.text !== '.') break
    next++
  }
  if (name.length === 0) throw new SqlError('42601', 'a table name was expected', { position: (tokens[at]?.start ?? 0) + 1 })
  return { name, next }
}

export function isName(token: Token | undefined): boolean {
  return token !== undefined && (token.kind === 'word' || token.kind === 'quoted')
}

function firstAtDepth(tokens: readonly Token[], matches: (token: Token, index: number) => boolean, from: number): number {
  for (let i = Math.max(0, from); i < tokens.length; i++) {
    const token = tokens[i] as Token
    if (token.depth === 0 && matches(token, i)) return i
  }
  return -1
}

export function unsupported(what: string, hint: string): SqlError {
  return new SqlError('0A000', `${what} is not supported`, { hint })
}
