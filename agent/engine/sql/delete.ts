/** DELETE FROM: where its target and its clauses stand. */

import { type Clause, type QualifiedName, qualifiedName } from './statement.ts'
import type { Token } from './tokens.ts'

export interface DeleteStatement {
  readonly text: string
  readonly tokens: readonly Token[]
  readonly kind: 'delete'
  /** `WITH …`, or ''. */
  readonly prefix: string
  readonly target: QualifiedName
  /** The target with its alias, as written. */
  readonly targetText: string
  /** What the target's columns are qualified with: its alias or its name, as written. */
  readonly qualifier: string
  readonly using: Clause | undefined
  readonly where: Clause | undefined
  readonly returning: Clause | undefined
}

/** `verb`: where DELETE stands. `find` gives a keyword's place outside of parentheses, or -1; `clause` what follows it. */
export function parseDelete(
  base: { text: string; tokens: readonly Token[] },
  verb: number,
  find: (word: string, from: number) => number,
  clause: (word: string, from: number, ...until: string[]) => Clause | undefined,
): DeleteStatement {
  const { text, tokens } = base
  const { name, next } = qualifiedName(tokens, verb + 2)
  const clauses = ['using', 'where', 'returning'].map((keyword) => find(keyword, next)).filter((i) => i !== -1)
  const stop = Math.min(...clauses, tokens.length)
  const [first, last, named] = [tokens[verb + 2], tokens[stop - 1], tokens[next - 1]] as [Token, Token, Token]
  return {
    ...base,
    kind: 'delete',
    prefix: text.slice(0, tokens[verb]?.start),
    target: name,
    targetText: text.slice(first.start, last.end),
    qualifier: stop > next ? text.slice(last.start, last.end) : text.slice(named.start, named.end),
    using: clause('using', next, 'where', 'returning'),
    where: clause('where', next, 'returning'),
    returning: clause('returning', next),
  }
}
