import { SqlError } from '../sql-error.ts'
import type { Token } from './tokens.ts'

/** What a BEGIN asks for. Throws 0A000 for an isolation that there is not. */
export function isReadOnly(tokens: readonly Token[]): boolean {
  if (tokens.some((token) => token.text === 'serializable'))
    throw new SqlError('0A000', 'isolation is snapshot; SERIALIZABLE is not available')
  return tokens.some((token, i) => token.text === 'read' && tokens[i + 1]?.text === 'only')
}
