/** What SQL clients may not name, wherever it stands in a statement: the engine's schema, and functions that reach around the guard. */

import { ownSchema, ownSchemaDenied } from './catalog.ts'
import { SqlError } from './sql-error.ts'
import { lowerCase, type Token } from './sql/tokens.ts'

/** They write the database file, run text that was not looked at, or change how the instance works. */
const denied = new Set([
  ...['checkpoint', 'force_checkpoint', 'query', 'query_table', 'json_execute_serialized_sql', 'setval'],
  ...['enable_logging', 'disable_logging', 'truncate_duckdb_logs', 'enable_profiling', 'disable_profiling', 'write_log', 'sleep_ms'],
  ...['check_peg_parser', 'enable_peg_parser', 'disable_peg_parser', 'arrow_scan', 'arrow_scan_dumb', 'seq_scan'],
])

/**
 * They read files. DuckDB refuses most of it by itself where external access is off, but not the database's own file: closing a
 * descriptor of that would drop the lock that keeps other processes out.
 */
const readsFiles = /^(read_\w+|parquet_\w+|glob|sniff_csv|st_read\w*)$/

/** Throws 42501 for a statement that names what belongs to the guard. */
export function refuseForbidden(tokens: readonly Token[]): void {
  tokens.forEach((token, i) => {
    if (token.kind === 'string' && opensFile(tokens, i)) throw fileDenied()
    if (token.kind !== 'word' && token.kind !== 'quoted') return
    const name = lowerCase(token.text)
    if (name === ownSchema) throw ownSchemaDenied()
    if (token.kind === 'quoted' && opensFile(tokens, i)) throw fileDenied()
    if (tokens[i + 1]?.text !== '(') return
    if (denied.has(name)) throw new SqlError('42501', `the function ${name}() is not available to SQL clients`, { hint: 'daemonguard checkpoint makes a checkpoint' })
    if (readsFiles.test(name)) throw fileDenied()
  })
}

/** `FROM 'file'`: DuckDB opens what looks like a file of a kind that it knows. */
function opensFile(tokens: readonly Token[], at: number): boolean {
  const before = tokens[at - 1]?.text
  if (before !== 'from' && before !== 'join' && before !== ',' && before !== 'table' && before !== 'describe' && before !== 'summarize') return false
  return /[/\\]|\.(duckdb|db|csv|tsv|parquet|json|jsonl|ndjson|txt|gz|zst)$/i.test(tokens[at]?.text ?? '')
}

function fileDenied(): SqlError {
  return new SqlError('42501', 'files are not available to SQL clients', { hint: 'COPY … FROM STDIN, or psql \\copy' })
}
