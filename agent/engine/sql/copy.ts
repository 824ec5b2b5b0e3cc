/** COPY, in both directions: what is copied, and the options as written. */

import { SqlError } from '../sql-error.ts'
import { isName, parseStatement, qualifiedName, type Statement, unsupported } from './statement.ts'
import { quoteIdentifier, type Token, tokenize } from './tokens.ts'

/** Throws 42501 for files and programs. */
export function parseCopy(text: string, tokens: readonly Token[]): Statement {
  if (tokens[1]?.text === 'from' && tokens[2]?.text === 'database')
    throw new SqlError('42501', 'COPY FROM DATABASE is not available to SQL clients', { hint: 'daemonguard snapshot' })
  // COPY BINARY t …, as it was before options
  const binary = tokens[1]?.text === 'binary' && (isName(tokens[2]) || tokens[2]?.text === '(') ? 1 : 0
  let at = 1 + binary
  let query: string | undefined
  if (tokens[at]?.text === '(') {
    const open = tokens[at] as Token
    for (at++; at < tokens.length && (tokens[at] as Token).depth > open.depth; at++);
    query = text.slice(open.end, tokens[at]?.start).trim()
    at++
    if (parseStatement(query, tokenize(query)).kind !== 'query')
      throw unsupported('COPY of anything but a query', 'run the statement with RETURNING')
    if (tokens[at]?.text !== 'to') throw new SqlError('42601', 'COPY (query) needs TO STDOUT')
  }
  const first = at
  const { name, next } = query === undefined ? qualifiedName(tokens, at) : { name: [], next: at }
  at = next
  let columns: string[] | undefined
  if (query === undefined && tokens[at]?.text === '(') {
    columns = []
    for (at++; at < tokens.length && (tokens[at] as Token).depth > 0; at++) if (isName(tokens[at])) columns.push((tokens[at] as Token).text)
    at++
  }
  const direction = tokens[at]?.text
  const options = [...tokens.slice(1, 1 + binary), ...tokens.slice(at + 2)]
  if (direction !== 'from' && direction !== 'to') throw new SqlError('42601', 'COPY needs FROM STDIN or TO STDOUT')
  if (tokens[at + 1]?.kind !== 'word' || tokens[at + 1]?.text !== (direction === 'from' ? 'stdin' : 'stdout'))
    throw new SqlError('42501', `COPY ${direction} a file is not available to SQL clients`, {
      hint: `COPY … ${direction === 'from' ? 'FROM STDIN' : 'TO STDOUT'}, or psql \\copy`,
    })
  if (direction === 'from') return { text, tokens, kind: 'copy-in', target: name, columns, options }
  const list = columns === undefined ? '*' : columns.map(quoteIdentifier).join(', ')
  query ??= `SELECT ${list} FROM ${text.slice(tokens[first]?.start, tokens[next - 1]?.end)}`
  return { text, tokens, kind: 'copy-out', query, options }
}
