/** The options of COPY, in both directions. */

import type { CopyOptions } from './pgwire/copy.ts'
import type { Token } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

/** `WITH (FORMAT csv, HEADER, …)` and the older `CSV HEADER DELIMITER ','`. */
export function copyOptions(tokens: readonly Token[]): CopyOptions {
  const words = tokens.filter((token) => !(token.kind === 'symbol' && '(),='.includes(token.text)))
  const options: { -readonly [K in keyof CopyOptions]: CopyOptions[K] } = { format: 'text' }
  for (let i = 0; i < words.length; i++) {
    const word = words[i]?.text.toLowerCase()
    const value = () => {
      if (words[i + 1]?.text.toLowerCase() === 'as') i++
      return words[++i]?.text ?? ''
    }
    const flag = () => (/^(true|false|on|off|1|0)$/i.test(words[i + 1]?.text ?? '') ? /^(true|on|1)$/i.test(value()) : true)
    switch (word) {
      case 'with':
        break
      case 'csv':
        options.format = 'csv'
        break
      case 'format': {
        const format = value().toLowerCase()
        if (format !== 'csv' && format !== 'text' && format !== 'binary')
          throw new SqlError('22023', `COPY format "${format}" not recognized`, { hint: 'text, csv or binary' })
        options.format = format
        break
      }
      case 'header':
        options.header = flag()
        break
      case 'delimiter':
        options.delimiter = value()
        break
      case 'null':
        options.null = value()
        break
      case 'quote':
        options.quote = value()
        break
      case 'escape':
        options.escape = value()
        break
      case 'freeze': // about Postgres' pages
        flag()
        break
      case 'encoding':
        if (!/^utf-?8$/i.test(value())) throw new SqlError('0A000', 'COPY takes UTF-8 only')
        break
      case 'binary':
        options.format = 'binary'
        break
      default:
        throw new SqlError('42601', `unknown COPY option: ${word}`)
    }
  }
  return options
}
