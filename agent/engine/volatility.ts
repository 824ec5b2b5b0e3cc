/** Whether an expression may give another value next time: a replay could not give the same. */

import type { Connection } from './duckdb.ts'
import { lowerCase, quoteString, type Token, tokenize } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

/** Keywords that DuckDB reads as functions of the clock, or a query. */
const volatileWords = new Set(['current_timestamp', 'current_date', 'current_time', 'localtime', 'localtimestamp', 'select', 'from'])
/** Macros that call macros, and so on. */
const deepest = 8

/** Looks into macros. */
export async function isVolatile(connection: Connection, tokens: readonly Token[], depth = 0): Promise<boolean> {
  if (depth > deepest || tokens.some((token) => volatileWords.has(lowerCase(token.text)))) return true
  const called = tokens.filter((token, i) => (token.kind === 'word' || token.kind === 'quoted') && tokens[i + 1]?.text === '(')
  if (called.length === 0) return false
  const names = called.map((token) => quoteString(token.text.toLowerCase())).join(', ')
  const functions = await connection.all(
    `SELECT function_type, stability, macro_definition FROM duckdb_functions() WHERE lower(function_name) IN (${names})`,
  )
  for (const [type, stability, definition] of functions) {
    if (String(type).endsWith('macro')) {
      if (await isVolatile(connection, tokenize(String(definition)), depth + 1)) return true
    } else if (stability !== 'CONSISTENT') return true
  }
  return false
}

/** Throws 0A000 for a CHECK that rows which have passed it may not pass when they are replayed. */
export async function refuseVolatileChecks(connection: Connection, tokens: readonly Token[]): Promise<void> {
  for (const [i, check] of tokens.entries()) {
    if (check.kind !== 'word' || check.text !== 'check' || tokens[i + 1]?.text !== '(') continue
    const after = tokens.slice(i + 2)
    const end = after.findIndex(({ depth }) => depth <= check.depth)
    // DuckDB takes no queries there: FROM belongs to extract() and the like.
    const expression = after.slice(0, end).filter(({ text }) => text !== 'from')
    if (await isVolatile(connection, expression))
      throw new SqlError('0A000', 'a CHECK whose answer changes with time could not be replayed', {
        hint: 'use constants and columns only',
      })
  }
}
