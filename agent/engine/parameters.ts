/**
 * Parameters whose type DuckDB leaves open until a value is bound (`SELECT $1`, `a + $1`): Postgres decides at Parse, and clients rely on its
 * answer. An open parameter becomes CAST($n AS type): the type that the client declared, else text, else the type of the operand
 * beside it, as Postgres resolves a literal of unknown type.
 */

import type { ColumnType } from '../journal/types.ts'
import type { Executor } from './executor.ts'
import { Oid, typeName } from './pgwire/types.ts'
import { tokenize } from './sql/tokens.ts'

/** More open parameters than this are not told apart by trying. */
const mostTried = 16

/** The statement's text with every open parameter cast; the text itself where none is. Throws what DuckDB throws of the statement. */
export async function settleParameters(
  executor: Executor,
  text: string,
  declared: readonly (ColumnType | null)[],
  oids: readonly number[],
): Promise<string> {
  const lists = listParameters(text)
  const open = new Set(lists)
  if (lists.size === 0) {
    const { statement, order } = await executor.prepare(text)
    for (const [at, index] of order.entries()) if (statement.parameterType(at) === null) open.add(index)
    if (open.size === 0) return text
  }
  const unknown = (index: number) => (lists.has(index) ? 'VARCHAR[]' : oids[index] === Oid.numeric ? 'DOUBLE' : 'VARCHAR')
  const types = new Map([...open].map((index) => [index, sqlName(declared[index]) ?? unknown(index)]))
  // Those that the client says nothing about may become what stands beside them.
  const undecided = new Set([...open].filter((index) => declared[index] == null && oids[index] !== Oid.numeric))
  for (;;) {
    const failure = await attempt(executor, casted(text, types))
    if (failure === undefined) return casted(text, types)
    const type = operandType(failure.message)
    const culprit =
      type === undefined || open.size > mostTried ? undefined : await culpritOf(executor, text, types, undecided, type, failure)
    if (type === undefined || culprit === undefined) throw failure
    types.set(culprit, lists.has(culprit) ? `${type}[]` : type)
    undecided.delete(culprit)
  }
}

/** Those in `= ANY ($n)`, which DuckDB reads as a table when it does not know their type. */
function listParameters(text: string): Set<number> {
  const tokens = tokenize(text)
  const lists = tokens.filter(
    ({ kind }, i) =>
      kind === 'parameter' &&
      tokens[i - 1]?.text === '(' &&
      /^(any|some|all)$/.test(tokens[i - 2]?.text ?? '') &&
      tokens[i + 1]?.text === ')',
  )
  return new Set(lists.map(({ text: name }) => Number(name.slice(1)) - 1))
}

function sqlName(type: ColumnType | null | undefined): string | undefined {
  return type == null ? undefined : typeName(type)
}

/** The parameter that has to do with the failure: given `type`, it goes away or becomes another one. */
async function culpritOf(
  executor: Executor,
  text: string,
  types: ReadonlyMap<number, string>,
  undecided: ReadonlySet<number>,
  type: string,
  failure: Error,
): Promise<number | undefined> {
  for (const index of undecided) {
    const again = await attempt(executor, casted(text, new Map([...types, [index, types.get(index)?.endsWith('[]') ? `${type}[]` : type]])))
    if (again === undefined || firstLine(again) !== firstLine(failure)) return index
  }
  return undefined
}

/** DuckDB's error, if it does not take the text. */
async function attempt(executor: Executor, text: string): Promise<Error | undefined> {
  try {
    await executor.prepare(text)
    return undefined
  } catch (error) {
    return error as Error
  }
}

function firstLine(error: Error): string {
  return error.message.split('\n', 1)[0] as string
}

/** What stands beside the text in `+(INTEGER, VARCHAR)`: a moment is moved by an interval, anything else meets its own kind. */
function operandType(message: string): string | undefined {
  const call = /function call '?"?(\S+?)\(([^"\n]*)\)/.exec(message) ?? /given name and argument types '(\S+?)\(([^'\n]*)\)'/.exec(message)
  const compared = /Cannot compare values of type (.+?) and (?:type )?(.+?)(?: in [A-Z/]+ clause)? - /.exec(message)
  if (call === null && compared === null) return undefined
  const [, name = '', list = ''] = call ?? ['', '=', `${compared?.[1]}, ${compared?.[2]}`]
  const type = list.split(/, (?![^(]*\))/).find((argument) => !/^(VARCHAR|STRING_LITERAL|UNKNOWN)$/.test(argument))
  // A function that takes no text takes a number, most likely, as in Postgres; what two texts around an operator mean nobody knows.
  if (type === undefined) return /^\w+$/.test(name) ? 'DOUBLE' : undefined
  const moment = /^(DATE|TIME|TIMESTAMP)/.test(type)
  return moment && name === '+' ? 'INTERVAL' : type.replace('INTEGER_LITERAL', 'INTEGER')
}

function casted(text: string, types: ReadonlyMap<number, string>): string {
  let out = ''
  let at = 0
  for (const token of tokenize(text)) {
    const type = token.kind === 'parameter' ? types.get(Number(token.text.slice(1)) - 1) : undefined
    if (type === undefined) continue
    out += `${text.slice(at, token.start)}CAST(${token.text} AS ${type})`
    at = token.end
  }
  return out + text.slice(at)
}
