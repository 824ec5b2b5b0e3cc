/** What SQL clients may not name, wherever it stands in a statement: the engine's schema, and functions that reach around the journal. */

import { ownSchema, ownSchemaDenied } from './catalog.ts'
import { SqlError } from './sql-error.ts'
import type { Token } from './sql/tokens.ts'

/** They write the file, or run text that was not looked at. `read_…` and COPY are refused by DuckDB itself: external access is off. */
const deniedFunctions = new Set(['checkpoint', 'force_checkpoint', 'query', 'query_table', 'setval'])

/** Throws 42501 for a statement that names what belongs to the guard. */
export function refuseForbidden(tokens: readonly Token[]): void {
  tokens.forEach((token, i) => {
    if (token.kind !== 'word' && token.kind !== 'quoted') return
    const name = token.text.toLowerCase()
    // As a schema it is followed or preceded by a dot, or stands as a name of its own; only as an alias would it be harmless.
    if (name === ownSchema) throw ownSchemaDenied()
    if (deniedFunctions.has(name) && tokens[i + 1]?.text === '(') {
      throw new SqlError('42501', `the function ${name}() is not available to SQL clients`, { hint: 'daemonguard checkpoint makes a checkpoint' })
    }
  })
}
