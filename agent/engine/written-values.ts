/**
 * Values that stand in the text of an INSERT or UPDATE, as people write them, and drivers that know no parameters (psycopg2): the same statement with parameters,
 * which is one for all rows, and what these are.
 */

import type { ColumnType } from '../journal/types.ts'
import { cellFromText } from './certain-texts.ts'
import type { Parameter } from './pgwire/backend.ts'
import type { Statement } from './sql/statement.ts'
import { lowerCase, separated, type Token, tokensOf } from './sql/tokens.ts'

export interface WithParameters {
  readonly text: string
  readonly parameters: readonly Parameter[]
}

/** Longer ones are typed text, or have many rows. */
const mostCharacters = 4_096
/** DuckDB's widest DECIMAL. */
const maxDigits = 38

/** Undefined for a statement of any other shape, or with a value that is no plain constant. */
export function withParameters(statement: Statement): WithParameters | undefined {
  if (statement.text.length > mostCharacters) return undefined
  const values =
    statement.kind === 'insert' ? insertedValues(statement) : statement.kind === 'update' ? updatedValues(statement) : undefined
  if (values === undefined || values.length === 0) return undefined
  const parameters: Parameter[] = []
  let text = ''
  let at = 0
  for (const tokens of values) {
    const parameter = constantOf(statement.text, tokens)
    const [first, last] = [tokens[0], tokens.at(-1)]
    if (parameter === undefined || first === undefined || last === undefined) return undefined
    text += `${statement.text.slice(at, first.start)}$${parameters.push(parameter)}`
    at = last.end
  }
  return { text: text + statement.text.slice(at), parameters }
}

/** `INSERT INTO … VALUES (a, b) [ON CONFLICT …]`: one row. */
function insertedValues({ tokens }: Statement): readonly (readonly Token[])[] | undefined {
  const values = tokens.findIndex(({ kind, text, depth }) => kind === 'word' && text === 'values' && depth === 0)
  if (values === -1 || tokens[values + 1]?.text !== '(') return undefined
  const close = tokens.findIndex(({ text, depth }, i) => i > values && text === ')' && depth === 0)
  const isRow = close !== -1 && (close === tokens.length - 1 || tokens[close + 1]?.text === 'on')
  return isRow ? separated(tokens.slice(values + 2, close), 1) : undefined
}

/** `UPDATE … SET a = 1, b = b + 2 WHERE id = 3`. */
function updatedValues(statement: Extract<Statement, { kind: 'update' }>): readonly (readonly Token[])[] | undefined {
  const { tokens, set, where } = statement
  if (where === undefined) return undefined
  const values: Token[][] = []
  for (const [column, equals, ...value] of [...separated(tokensOf(tokens, set), 0), tokensOf(tokens, where)]) {
    if (column === undefined || equals?.text !== '=') return undefined
    const isSum = value.length > 2 && (value[1]?.text === '+' || value[1]?.text === '-')
    // What DuckDB makes of a number and a text is its own affair.
    if (isSum && value.at(-1)?.kind !== 'number') return undefined
    values.push(isSum ? value.slice(2) : value)
  }
  return values
}

const namedTypes: Readonly<Record<string, ColumnType>> = {
  boolean: { kind: 'BOOLEAN' },
  date: { kind: 'DATE' },
  time: { kind: 'TIME' },
  timestamp: { kind: 'TIMESTAMP' },
  timestamptz: { kind: 'TIMESTAMPTZ' },
  uuid: { kind: 'UUID' },
  varchar: { kind: 'VARCHAR' },
}

/** A constant as written in `text`: a value that DuckDB would give the same column as this parameter. Undefined: it is no constant, or not so simple. */
export function constantOf(text: string, tokens: readonly Token[]): Parameter | undefined {
  const [first, second, third, fourth, fifth] = tokens
  if (first === undefined) return undefined
  const isText = (token: Token | undefined) => token?.kind === 'string' && text[token.start] === "'"
  switch (tokens.length) {
    case 1:
      if (isText(first)) return first.text
      if (first.kind === 'number') return numberOf(first.text, false)
      if (first.kind !== 'word') return undefined
      if (first.text === 'null') return null
      return first.text === 'true' || first.text === 'false' ? { type: { kind: 'BOOLEAN' }, cell: first.text === 'true' } : undefined
    case 2:
      if (first.text === '-' && second?.kind === 'number') return numberOf(second.text, true)
      // TIMESTAMP '…'
      return first.kind === 'word' && second !== undefined && isText(second) ? typed(first.text, second.text) : undefined
    case 4:
      // '…'::timestamp
      if (!isText(first) || second?.text !== ':' || third?.text !== ':' || second.end !== third.start) return undefined
      return fourth?.kind === 'word' ? typed(fourth.text, first.text) : undefined
    case 6:
      // CAST('…' AS type)
      if (first.kind !== 'word' || first.text !== 'cast' || second?.text !== '(' || !isText(third) || fourth?.text !== 'as')
        return undefined
      return fifth?.kind === 'word' || fifth?.kind === 'quoted' ? typed(lowerCase(fifth.text), (third as Token).text) : undefined
    default:
      return undefined
  }
}

function typed(name: string, text: string): Parameter | undefined {
  const type = Object.hasOwn(namedTypes, name) ? namedTypes[name] : undefined
  const cell = type === undefined ? undefined : cellFromText(type, type.kind, text)
  return type === undefined || cell === undefined ? undefined : { type, cell }
}

/** A number as DuckDB reads it: whole, with a point a DECIMAL of just its digits, with an exponent a DOUBLE. */
function numberOf(text: string, negative: boolean): Parameter | undefined {
  const sign = negative ? '-' : ''
  if (/^\d{1,17}(\.\d{0,17})?e[+-]?\d{1,2}$/i.test(text)) return { type: { kind: 'DOUBLE' }, cell: Number(sign + text) }
  const [, whole, fraction] = /^(\d+)(?:\.(\d*))?$/.exec(text) ?? []
  if (whole === undefined) return undefined
  const digits = whole + (fraction ?? '')
  if (digits.length > maxDigits) return undefined
  const cell = BigInt(digits) * (negative ? -1n : 1n)
  if (fraction === undefined) return { type: { kind: 'HUGEINT' }, cell }
  return { type: { kind: 'DECIMAL', width: digits.length, scale: fraction.length }, cell }
}
