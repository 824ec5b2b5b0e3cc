/** What a pool sends before it gives a connection to the next one: DISCARD, DEALLOCATE, CLOSE, UNLISTEN. Of what is not here (cursors of SQL, notifications) there is nothing to give up. */

import type { Token } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

/** What a session can give up. */
export interface Belongings {
  readonly isInBlock: boolean
  resetSettings(): Promise<void>
  dropTemporaries(): Promise<void>
  /** The prepared statement of this name, or (undefined) all; false: there is none. */
  deallocate(name: string | undefined): boolean
}

/** Returns the command tag. Throws SqlError: 25001, 26000, 34000, 42601. */
export async function discard(tokens: readonly Token[], belongings: Belongings): Promise<string> {
  const [verb, ...rest] = tokens
  const what = verb?.text === 'deallocate' && isWord(rest[0], 'prepare') && rest.length > 1 ? rest[1] : rest[0]
  if (what === undefined) throw new SqlError('42601', `${verb?.text.toUpperCase()} what?`, { hint: 'DISCARD ALL, DEALLOCATE name' })
  switch (verb?.text) {
    case 'unlisten':
      return 'UNLISTEN'
    case 'close':
      if (isWord(what, 'all')) return 'CLOSE CURSOR ALL'
      throw new SqlError('34000', `cursor "${what.text}" does not exist`)
    case 'deallocate':
      if (isWord(what, 'all')) {
        belongings.deallocate(undefined)
        return 'DEALLOCATE ALL'
      }
      if (!belongings.deallocate(what.text)) throw new SqlError('26000', `prepared statement "${what.text}" does not exist`)
      return 'DEALLOCATE'
    default:
      return discardObjects(what, belongings)
  }
}

async function discardObjects(what: Token, belongings: Belongings): Promise<string> {
  switch (what.text) {
    case 'all':
      if (belongings.isInBlock) throw new SqlError('25001', 'DISCARD ALL cannot run inside a transaction block')
      await belongings.resetSettings()
      await belongings.dropTemporaries()
      belongings.deallocate(undefined)
      return 'DISCARD ALL'
    case 'temp':
    case 'temporary':
      await belongings.dropTemporaries()
      return 'DISCARD TEMP'
    case 'plans':
    case 'sequences':
      // Plans are made anew where the schema has changed; currval() is DuckDB's.
      return `DISCARD ${what.text.toUpperCase()}`
    default:
      throw new SqlError('42601', `syntax error at or near "${what.text}"`, { hint: 'DISCARD ALL, PLANS, SEQUENCES or TEMP' })
  }
}

function isWord(token: Token | undefined, text: string): boolean {
  return token?.kind === 'word' && token.text === text
}
