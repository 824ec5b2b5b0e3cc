/** Statements that Postgres has and DuckDB has not, as those that mean the same: a list of objects one by one, a table without storage parameters. */

import { lowerCase, type Token, tokenize } from './tokens.ts'

interface Piece {
  readonly text: string
  readonly tokens: readonly Token[]
}

/** `DROP TABLE a, b` and `TRUNCATE a, b` as one statement for each; anything else as it is. They run in one transaction. */
export function separate({ text, tokens }: Piece): readonly Piece[] {
  const first = tokens[0]?.text
  if (first !== 'drop' && first !== 'truncate') return [{ text, tokens }]
  const commas = tokens.filter((token) => token.kind === 'symbol' && token.text === ',' && token.depth === 0)
  if (commas.length === 0) return [{ text, tokens }]
  let names = first === 'drop' ? 2 : 1
  if (first === 'truncate' && tokens[1]?.text === 'table') names = 2
  if (first === 'drop' && tokens[names]?.text === 'if') names += 2
  const start = tokens[names]?.start ?? text.length
  const last = tokens.at(-1)
  const behavior = last?.kind === 'word' && (last.text === 'cascade' || last.text === 'restrict') ? last : undefined
  const end = behavior?.start ?? text.length
  const bounds = [start, ...commas.map((comma) => comma.end)]
  return bounds.map((from, i) => {
    const piece = `${text.slice(0, start)}${text.slice(from, commas[i]?.start ?? end).trim()} ${behavior?.text ?? ''}`.trimEnd()
    return { text: piece, tokens: tokenize(piece) }
  })
}

/** `DROP TABLE parent, child`: a list is one thing to Postgres, and DuckDB wants those first that refer to others. */
export function childrenFirst<Part extends { readonly name: string }>(
  parts: readonly Part[],
  references: readonly (readonly [child: string, parent: string])[],
): Part[] {
  const left = [...parts]
  const sorted: Part[] = []
  while (left.length > 0) {
    const isFree = ({ name }: Part) =>
      !references.some(([child, parent]) => parent === name && child !== name && left.some((other) => other.name === child))
    // In a circle of references any is as good as another.
    const at = Math.max(0, left.findIndex(isFree))
    sorted.push(...left.splice(at, 1))
  }
  return sorted
}

/** How Postgres lays out its pages: without meaning here, and pgbench writes it. */
const storageParameters = /^(fillfactor|autovacuum_\w+|toast_\w+|parallel_workers)$/

/** CREATE TABLE … WITH (fillfactor = 100) without what says nothing here. */
export function withoutStorageParameters({ text, tokens }: Piece): Piece {
  if (tokens[0]?.text !== 'create') return { text, tokens }
  const at = tokens.findIndex(
    (token, i) => token.kind === 'word' && token.text === 'with' && token.depth === 0 && tokens[i + 1]?.text === '(',
  )
  if (at === -1) return { text, tokens }
  let close = at + 2
  while (close < tokens.length && (tokens[close] as Token).depth > 0) close++
  const inside = tokens.slice(at + 2, close)
  const names = inside.filter((_, i) => i === 0 || inside[i - 1]?.text === ',')
  if (names.length === 0 || !names.every((token) => storageParameters.test(lowerCase(token.text)))) return { text, tokens }
  const piece = `${text.slice(0, tokens[at]?.start)}${text.slice(tokens[close]?.end)}`.trimEnd()
  return { text: piece, tokens: tokenize(piece) }
}
