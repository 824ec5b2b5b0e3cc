/** Whether an expression may give another value next time: a replay could not give the same. */

import type { Connection } from './duckdb.ts'
import { lowerCase, pathEntries, quoteString, type Token, tokenize } from './sql/tokens.ts'
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

/**
 * Throws 0A000 for a CHECK that rows which have passed it may not pass when they are replayed, or that only a search path like this one can read:
 * DuckDB keeps it as written, and lists nobody any constraint at all while one of them cannot be read.
 */
export async function refuseBadChecks(connection: Connection, tokens: readonly Token[], searchPath: string): Promise<void> {
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
    const found = await foundByPath(connection, expression, pathEntries(searchPath))
    if (found !== undefined)
      throw new SqlError(
        '0A000',
        `a CHECK with the macro ${found.name}() of the schema ${found.schema} could be read with this search path only`,
        {
          hint: `write ${found.schema}.${found.name}(…)`,
        },
      )
  }
}

interface Macro {
  readonly schema: string
  readonly name: string
}

/** A macro that is called without its schema and is not in main, where everybody finds it; also one that a macro calls. */
async function foundByPath(
  connection: Connection,
  tokens: readonly Token[],
  path: readonly string[],
  depth = 0,
): Promise<Macro | undefined> {
  const called = new Map<string, boolean>()
  tokens.forEach((token, i) => {
    if ((token.kind !== 'word' && token.kind !== 'quoted') || tokens[i + 1]?.text !== '(') return
    const name = token.text.toLowerCase()
    called.set(name, (called.get(name) ?? false) || tokens[i - 1]?.text !== '.')
  })
  if (called.size === 0 || depth > deepest) return undefined
  const macros = await connection.all(
    `SELECT schema_name, function_name, macro_definition FROM duckdb_functions() WHERE function_type = 'macro' AND NOT internal AND lower(function_name) IN (${[...called.keys()].map(quoteString).join(', ')})`,
  )
  const schemas = path.map(lowerCase)
  for (const [schema, name] of macros.map((row) => row.map(String) as [string, string])) {
    if (schema !== 'main' && schemas.includes(lowerCase(schema)) && called.get(name.toLowerCase())) return { schema, name }
  }
  for (const [, , definition] of macros) {
    const found = await foundByPath(connection, tokenize(String(definition)), path, depth + 1)
    if (found !== undefined) return found
  }
  return undefined
}
