/** ALTER TABLE … ADD/DROP CONSTRAINT, as Postgres writes it. DuckDB parses none of it but ADD PRIMARY KEY; the engine gives it by a rebuild. */

import { SqlError } from '../sql-error.ts'
import { type QualifiedName, qualifiedName, type SchemaStatement } from './statement.ts'
import { lowerCase, type Token } from './tokens.ts'

export type ConstraintChange =
  | { readonly action: 'add'; readonly name: string | undefined; readonly constraint: WrittenConstraint }
  | { readonly action: 'drop'; readonly name: string; readonly ifExists: boolean; readonly cascade: boolean }

/** Names are as written; a word is in lower case. */
export type WrittenConstraint =
  | { readonly type: 'PRIMARY KEY' | 'UNIQUE'; readonly columns: readonly string[] }
  | { readonly type: 'CHECK'; readonly expression: string }
  | {
      readonly type: 'FOREIGN KEY'
      readonly columns: readonly string[]
      readonly parent: QualifiedName
      /** Undefined: the parent's primary key. */
      readonly parentColumns: readonly string[] | undefined
    }

/** What an ALTER TABLE does to a constraint; undefined where it does something else. */
export function constraintChange({ verb, object, text, tokens }: SchemaStatement): ConstraintChange | undefined {
  if (verb !== 'ALTER' || object !== 'TABLE') return undefined
  let at = 2
  if (isWord(tokens[at], 'if')) at += 2
  at = qualifiedName(tokens, at).next
  const verbAt = tokens[at]
  const isConstraint = isWord(tokens[at + 1], 'constraint')
  if (isWord(verbAt, 'drop') && isConstraint) return dropped(tokens, at + 2)
  if (!isWord(verbAt, 'add')) return undefined
  at++
  let name: string | undefined
  if (isConstraint) {
    name = tokens[at + 1]?.text
    if (name === undefined || !isName(tokens[at + 1])) throw syntax('a constraint name was expected', tokens[at + 1])
    at += 2
  }
  if (tokens[at]?.kind !== 'word') return undefined
  const reader = new Reader(text, tokens, at + 1)
  const constraint = written(tokens[at]?.text ?? '', reader)
  if (constraint === undefined) {
    if (isConstraint) throw syntax('FOREIGN KEY, UNIQUE, PRIMARY KEY or CHECK was expected', tokens[at])
    return undefined
  }
  reader.end(constraint.type === 'FOREIGN KEY')
  return { action: 'add', name, constraint }
}

function written(word: string, reader: Reader): WrittenConstraint | undefined {
  switch (word) {
    case 'foreign': {
      reader.word('key')
      const columns = reader.columns()
      reader.word('references')
      const parent = reader.name()
      return { type: 'FOREIGN KEY', columns, parent, parentColumns: reader.isOpen ? reader.columns() : undefined }
    }
    case 'primary':
      reader.word('key')
      return { type: 'PRIMARY KEY', columns: reader.columns() }
    case 'unique':
      return { type: 'UNIQUE', columns: reader.columns() }
    case 'check':
      return { type: 'CHECK', expression: reader.expression() }
  }
  return undefined
}

function dropped(tokens: readonly Token[], from: number): ConstraintChange {
  const ifExists = isWord(tokens[from], 'if')
  const at = ifExists ? from + 2 : from
  if (!isName(tokens[at])) throw syntax('a constraint name was expected', tokens[at])
  const behaviour = tokens[at + 1]
  const cascade = isWord(behaviour, 'cascade')
  const last = cascade || isWord(behaviour, 'restrict') ? at + 2 : at + 1
  if (tokens[last] !== undefined) throw syntax('one change at a time is supported', tokens[last])
  return { action: 'drop', name: (tokens[at] as Token).text, ifExists, cascade }
}

/** Names that a CREATE TABLE gives to constraints: the `nth` (from 0) of its type. */
export function constraintNamesIn(tokens: readonly Token[]): { type: WrittenConstraint['type']; nth: number; name: string }[] {
  const names: { type: WrittenConstraint['type']; nth: number; name: string }[] = []
  const counts = { 'PRIMARY KEY': 0, UNIQUE: 0, CHECK: 0, 'FOREIGN KEY': 0 }
  const types = { primary: 'PRIMARY KEY', unique: 'UNIQUE', check: 'CHECK', references: 'FOREIGN KEY' } as const
  let name: string | undefined
  for (const [i, token] of tokens.entries()) {
    if (token.depth !== 1 || token.kind !== 'word' || isWord(tokens[i - 1], 'constraint')) continue
    const type = types[token.text as keyof typeof types]
    if (token.text === 'constraint') name = tokens[i + 1]?.text
    else if (token.text === 'null' || token.text === 'default') name = undefined
    else if (type !== undefined) {
      if (name !== undefined) names.push({ type, nth: counts[type], name })
      counts[type]++
      name = undefined
    }
  }
  return names
}

class Reader {
  #text: string
  #tokens: readonly Token[]
  #at: number

  constructor(text: string, tokens: readonly Token[], at: number) {
    this.#text = text
    this.#tokens = tokens
    this.#at = at
  }

  get isOpen(): boolean {
    return this.#tokens[this.#at]?.text === '(' && this.#tokens[this.#at]?.kind === 'symbol'
  }

  word(expected: string): void {
    if (!isWord(this.#tokens[this.#at], expected)) throw syntax(`${expected.toUpperCase()} was expected`, this.#tokens[this.#at])
    this.#at++
  }

  name(): QualifiedName {
    const { name, next } = qualifiedName(this.#tokens, this.#at)
    this.#at = next
    return name
  }

  /** `(a, b)` */
  columns(): string[] {
    const inside = this.#parentheses()
    const columns = inside.filter((_, i) => i % 2 === 0)
    const commas = inside.filter((_, i) => i % 2 === 1)
    if (columns.length === commas.length || !columns.every(isName) || !commas.every(({ text }) => text === ','))
      throw syntax('a list of columns was expected', inside[0])
    return columns.map(({ text }) => text)
  }

  expression(): string {
    const tokens = this.#parentheses()
    const [first, last] = [tokens[0], tokens.at(-1)]
    if (first === undefined || last === undefined) throw syntax('an expression was expected', this.#tokens[this.#at])
    return this.#text.slice(first.start, last.end)
  }

  /** What may follow says what is so anyway. */
  end(references: boolean): void {
    const rest = this.#tokens
      .slice(this.#at)
      .map(({ text }) => text)
      .join(' ')
    const accepted = references
      ? /^((match simple|on (delete|update) (no action|restrict)|not deferrable|initially immediate) ?)*$/
      : /^((not deferrable|initially immediate) ?)*$/
    if (accepted.test(rest)) return
    if (/\b(cascade|set (null|default))\b/.test(rest))
      throw new SqlError('0A000', 'DuckDB has no ON DELETE CASCADE, SET NULL or SET DEFAULT', {
        hint: 'change the children first, in the same transaction',
      })
    throw new SqlError('0A000', `${rest} is not supported after a constraint`, { hint: 'one constraint at a time, checked at once' })
  }

  #parentheses(): Token[] {
    if (!this.isOpen) throw syntax('( was expected', this.#tokens[this.#at])
    const depth = (this.#tokens[this.#at] as Token).depth
    const start = this.#at + 1
    for (this.#at = start; (this.#tokens[this.#at]?.depth ?? depth) > depth; this.#at++);
    this.#at++
    return this.#tokens.slice(start, this.#at - 1)
  }
}

function isWord(token: Token | undefined, text: string): boolean {
  return token?.kind === 'word' && token.text === text
}

function isName(token: Token | undefined): boolean {
  return token?.kind === 'word' || token?.kind === 'quoted'
}

function syntax(message: string, token: Token | undefined): SqlError {
  return new SqlError('42601', message, token === undefined ? {} : { position: token.start + 1 })
}

/** Whether two names mean the same to DuckDB. */
export function sameName(one: string, other: string): boolean {
  return lowerCase(one) === lowerCase(other)
}
