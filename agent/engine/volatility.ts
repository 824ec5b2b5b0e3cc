/** Whether an expression may give another value next time: a replay could not give the same. */

import type { Connection } from './duckdb.ts'
import { lowerCase, quoteString, type Token } from './sql/tokens.ts'

/** Keywords that DuckDB reads as functions of the clock, or a query. */
const volatileWords = new Set(['current_timestamp', 'current_date', 'current_time', 'localtime', 'localtimestamp', 'select', 'from'])

/** Macros may hide anything. */
export async function isVolatile(connection: Connection, tokens: readonly Token[]): Promise<boolean> {
  if (tokens.some((token) => volatileWords.has(lowerCase(token.text)))) return true
  const called = tokens.filter((token, i) => (token.kind === 'word' || token.kind === 'quoted') && tokens[i + 1]?.text === '(')
  if (called.length === 0) return false
  const names = called.map((token) => quoteString(token.text.toLowerCase())).join(', ')
  const found = await connection.all(
    `SELECT 1 FROM duckdb_functions() WHERE lower(function_name) IN (${names}) AND (stability IS DISTINCT FROM 'CONSISTENT' OR function_type LIKE '%macro') LIMIT 1`,
  )
  return found.length > 0
}
