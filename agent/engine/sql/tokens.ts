/**
 * SQL text as tokens, by DuckDB's lexical rules: enough to split statements and to find clauses. DuckDB itself parses and checks every
 * statement; these tokens only say where its parts are.
 */

import { SqlError } from '../sql-error.ts'

export interface Token {
  readonly kind: 'word' | 'quoted' | 'string' | 'number' | 'parameter' | 'symbol'
  /** As written; a word in lower case; a quoted identifier without its quotes. */
  readonly text: string
  /** Offsets into the statement's text. */
  readonly start: number
  readonly end: number
  /** Depth of parentheses, brackets and braces around it. */
  readonly depth: number
}

/** What DuckDB takes for a space, tried for every character: not what JavaScript does. */
const space = /[\t\n\f\r \u00a0\u2000-\u200b\u202f\u205f\u2060\u3000\ufeff]/
/** The ASCII characters that are a token by themselves, wherever they stand. */
const alone = new Set('(),;=.:*+<>[]{}')
const letters = 'A-Za-z_\\u0080-\\u009f\\u00a1-\\u1fff\\u200c-\\u202e\\u2030-\\u205e\\u2061-\\u2fff\\u3001-\\ufefe\\uff00-\\uffff'
const word = new RegExp(`[${letters}][${letters}0-9$]*`, 'y')
const parameter = new RegExp(`\\$[${letters}0-9$]*`, 'y')
const dollarQuote = new RegExp(`\\$([${letters}][${letters}0-9]*)?\\$`, 'y')
/** An exponent without digits is a word of its own: `1e'…'` is a number and an escaped string. */
const number = /0[xX](?:_?[0-9a-fA-F])+|[0-9]+(?:_[0-9]+)*(?:\.(?:[0-9]+(?:_[0-9]+)*)?)?(?:[eE][+-]?[0-9]+)?/y

/** Splits at top-level semicolons. Comments and empty statements give statements without tokens, which are left out. */
export function splitStatements(sql: string): { text: string; tokens: Token[] }[] {
  const statements: { text: string; tokens: Token[] }[] = []
  let tokens: Token[] = []
  const finish = () => {
    const first = tokens[0]
    const last = tokens.at(-1)
    if (first !== undefined && last !== undefined) {
      const shifted = tokens.map((token) => ({ ...token, start: token.start - first.start, end: token.end - first.start }))
      statements.push({ text: sql.slice(first.start, last.end), tokens: shifted })
    }
    tokens = []
  }
  for (const token of tokenize(sql)) {
    if (token.kind === 'symbol' && token.text === ';' && token.depth === 0) finish()
    else tokens.push(token)
  }
  finish()
  return statements
}

/** `SELECT 1`, as pools ask whether a connection lives: DuckDB does not look at the database for it (tried), as it does for any function. */
export function selectsNumbers(tokens: readonly Token[]): boolean {
  return tokens.every(({ kind, text }, i) => (i === 0 ? text === 'select' : kind === 'number' || text === ','))
}

export function tokenize(sql: string): Token[] {
  const tokens: Token[] = []
  let depth = 0
  let at = 0
  const push = (kind: Token['kind'], text: string, end: number) => {
    tokens.push({ kind, text, start: at, end, depth })
    at = end
  }
  while (at < sql.length) {
    const char = sql[at] as string
    if (char === ' ' || space.test(char)) at++
    else if (alone.has(char)) {
      if (')]}'.includes(char)) depth--
      push('symbol', char, at + 1)
      if ('([{'.includes(char)) depth++
    } else if (char === '-' && sql[at + 1] === '-') at = endOfLine(sql, at)
    else if (char === '/' && sql[at + 1] === '*') at = endOfComment(sql, at)
    else if ((char === 'e' || char === 'E') && sql[at + 1] === "'") push('string', ...quotedText(sql, at + 1, "'", true))
    else if (char === "'") push('string', ...quotedText(sql, at, "'", false))
    else if (char === '"') push('quoted', ...quotedText(sql, at, '"', false))
    else if (char === '$') {
      const tag = matchAt(dollarQuote, sql, at)
      if (tag !== undefined) {
        const close = sql.indexOf(tag, at + tag.length)
        if (close === -1) throw unterminated('dollar-quoted string', at)
        push('string', sql.slice(at + tag.length, close), close + tag.length)
      } else {
        const name = matchAt(parameter, sql, at) as string
        push('parameter', name, at + name.length)
      }
    } else {
      const name = matchAt(word, sql, at)
      const digits = name === undefined ? matchAt(number, sql, at) : undefined
      if (name !== undefined) push('word', lowerCase(name), at + name.length)
      else if (digits !== undefined) push('number', digits, at + digits.length)
      else push('symbol', char, at + 1)
    }
  }
  return tokens
}

function matchAt(pattern: RegExp, text: string, at: number): string | undefined {
  pattern.lastIndex = at
  return pattern.exec(text)?.[0]
}

/** Lower case as DuckDB compares names: ASCII letters only. */
export function lowerCase(name: string): string {
  return /[A-Z]/.test(name) ? name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) : name
}

/** A comment ends at a carriage return as well. */
function endOfLine(sql: string, from: number): number {
  for (let at = from; at < sql.length; at++) if (sql[at] === '\n' || sql[at] === '\r') return at + 1
  return sql.length
}

/** Block comments nest, as in Postgres' lexer, which DuckDB's is. */
function endOfComment(sql: string, from: number): number {
  let depth = 0
  for (let at = from; at < sql.length - 1; at++) {
    if (sql[at] === '/' && sql[at + 1] === '*') {
      depth++
      at++
    } else if (sql[at] === '*' && sql[at + 1] === '/') {
      depth--
      at++
      if (depth === 0) return at + 1
    }
  }
  throw unterminated('comment', from)
}

function quotedText(sql: string, open: number, quote: string, escapes: boolean): [text: string, end: number] {
  for (let at = open + 1; at < sql.length; at++) {
    if (escapes && sql[at] === '\\') at++
    else if (sql[at] === quote) {
      if (sql[at + 1] === quote) at++
      else return [sql.slice(open + 1, at).replaceAll(quote + quote, quote), at + 1]
    }
  }
  throw unterminated(quote === '"' ? 'quoted identifier' : 'string', open)
}

function unterminated(what: string, at: number): SqlError {
  return new SqlError('42601', `unterminated ${what}`, { position: at + 1 })
}

/** An identifier as SQL text. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** The statement that makes a catalog a connection's own. With its schema: a lone name is to DuckDB a schema of the present catalog's, if that has one of this name. */
export function useCatalog(name: string): string {
  return `USE ${quoteIdentifier(name)}.main`
}

/** A string as SQL text. */
export function quoteString(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** The schemas of a search path as DuckDB prints it: names, quoted or not, each perhaps after its catalog. */
export function pathEntries(searchPath: string): string[] {
  const entries: string[] = []
  let last: string | undefined
  for (const token of tokenize(searchPath)) {
    if (token.kind === 'symbol' && token.text === ',') {
      if (last !== undefined) entries.push(last)
      last = undefined
    } else if (token.kind !== 'symbol') last = token.kind === 'quoted' ? token.text : searchPath.slice(token.start, token.end)
  }
  if (last !== undefined) entries.push(last)
  return entries
}

/** Those of a part of the text, [start, end). */
export function tokensOf(tokens: readonly Token[], { start, end }: { readonly start: number; readonly end: number }): Token[] {
  return tokens.filter((token) => token.start >= start && token.end <= end)
}

/** The items between the commas of a list, whose parentheses are `depth` deep. */
export function separated(tokens: readonly Token[], depth: number): Token[][] {
  const items: Token[][] = [[]]
  for (const token of tokens) {
    if (token.depth === depth && token.kind === 'symbol' && token.text === ',') items.push([])
    else items.at(-1)?.push(token)
  }
  return items
}
