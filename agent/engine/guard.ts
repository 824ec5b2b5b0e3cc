/** What SQL clients may not name, wherever it stands in a statement: the engine's schema, and functions that reach around the guard. */

import { ownSchema, ownSchemaDenied } from './catalog.ts'
import { lowerCase, type Token } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

/** They write the database file, run text that was not looked at, or change how the instance works. */
const denied = new Set([
  ...['checkpoint', 'force_checkpoint', 'query', 'query_table', 'json_execute_serialized_sql', 'setval'],
  ...['enable_logging', 'disable_logging', 'truncate_duckdb_logs', 'enable_profiling', 'disable_profiling', 'write_log', 'sleep_ms'],
  ...['duckdb_secrets', 'which_secret', 'duckdb_extensions'],
  ...['check_peg_parser', 'enable_peg_parser', 'disable_peg_parser', 'arrow_scan', 'arrow_scan_dumb', 'seq_scan'],
])

/**
 * They read files. DuckDB refuses most of it by itself where external access is off, but not the database's own file: closing a
 * descriptor of that would drop the lock that keeps other processes out.
 */
const readsFiles = /^(read_\w+|parquet_\w+|glob|sniff_csv|st_read\w*)$/

/** They take the name of a table or a sequence as text. */
const takesNames = new Set(['pragma_table_info', 'pragma_show', 'pragma_storage_info', 'duckdb_table_sample', 'nextval', 'currval'])
const namesOwnSchema = new RegExp(`(^|[.\\s"])${ownSchema}["\\s]*\\.`, 'i')

/** Throws 42501 for a statement that names what belongs to the guard. */
export function refuseForbidden(tokens: readonly Token[], externalAccess: boolean): void {
  if (tokens[0]?.text === 'pragma' && tokens.some((token) => lowerCase(token.text).includes(ownSchema))) throw ownSchemaDenied()
  tokens.forEach((token, i) => {
    if ((token.kind === 'string' || token.kind === 'quoted') && !externalAccess && opensFile(tokens, i)) throw fileDenied()
    if (token.kind === 'string' && namesOwnSchema.test(token.text) && takesNames.has(functionAround(tokens, i) ?? ''))
      throw ownSchemaDenied()
    if (token.kind !== 'word' && token.kind !== 'quoted') return
    const name = lowerCase(token.text)
    if (name === ownSchema) throw ownSchemaDenied()
    if (tokens[i + 1]?.text !== '(') return
    if (denied.has(name))
      throw new SqlError('42501', `the function ${name}() is not available to SQL clients`, {
        hint: 'daemonguard checkpoint makes a checkpoint',
      })
    if (!externalAccess && readsFiles.test(name)) throw fileDenied()
  })
}

/** `FROM 'file'`: DuckDB opens what looks like a file of a kind that it knows. */
function opensFile(tokens: readonly Token[], at: number): boolean {
  const looksLikeFile = /[/\\]|\.(duckdb|db|csv|tsv|parquet|json|jsonl|ndjson|txt|gz|zst)$/i
  if (!looksLikeFile.test(tokens[at]?.text ?? '')) return false
  const before = tokens[at - 1]
  if (before?.text === ',' && before.kind === 'symbol') return isInFromList(tokens, at)
  // FROM alias: 'file', but not {key: 'value'} or list[1:'x'] or a cast
  if (before?.text === ':' && before.kind === 'symbol')
    return tokens[at - 2]?.text !== ':' && !'{['.includes(bracketAround(tokens, at) ?? '-')
  if (before?.kind !== 'word' || !beforeTable.has(before.text)) return false
  return tokens[at - 2]?.text !== 'distinct' && !takesFrom.has(functionAround(tokens, at) ?? '')
}

const beforeTable = new Set([
  ...['from', 'only', 'join', 'using', 'into', 'table', 'describe', 'desc', 'show', 'summarize'],
  ...['pivot', 'pivot_wider', 'unpivot', 'pivot_longer'],
])

function bracketAround(tokens: readonly Token[], at: number): string | undefined {
  const depth = tokens[at]?.depth ?? 0
  return tokens.slice(0, at).findLast((token) => token.depth < depth)?.text
}

/** `extract(year FROM …)` and the like. */
const takesFrom = new Set(['extract', 'substring', 'trim', 'overlay'])

function functionAround(tokens: readonly Token[], at: number): string | undefined {
  const depth = tokens[at]?.depth ?? 0
  for (let i = at - 1; i >= 0; i--) if ((tokens[i] as Token).depth < depth) return tokens[i - 1]?.text
  return undefined
}

const clauses = new Set(['select', 'from', 'join', 'on', 'using', 'where', 'group', 'having', 'order', 'values', 'set', 'by', 'returning'])

function isInFromList(tokens: readonly Token[], at: number): boolean {
  const depth = tokens[at]?.depth ?? 0
  for (let i = at - 1; i >= 0 && (tokens[i] as Token).depth >= depth; i--) {
    const token = tokens[i] as Token
    if (token.depth === depth && token.kind === 'word' && clauses.has(token.text))
      return ['from', 'join', 'on', 'using'].includes(token.text)
  }
  return false
}

function fileDenied(): SqlError {
  return new SqlError('42501', 'files are not available to SQL clients', { hint: 'COPY … FROM STDIN, or psql \\copy' })
}
