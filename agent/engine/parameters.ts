/**
 * Parameters whose type DuckDB leaves open until a value is bound (`SELECT $1`, `a + $1`): Postgres decides at Parse, and clients rely on its
 * answer. An open parameter becomes CAST($n AS type): the type that the client declared, else text, else the type of the operand
 * beside it, as Postgres resolves a literal of unknown type.
 */

import type { ColumnType } from '../journal/types.ts'
import type { Executor } from './executor.ts'
import { Oid } from './pgwire/types.ts'
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
  const { statement, order } = await executor.prepare(text)
  const open = order.filter((_, at) => statement.parameterType(at) === null)
  if (open.length === 0) return text
  const types = new Map<number, string>(
    open.map((index) => [index, declared[index]?.kind ?? (oids[index] === Oid.numeric ? 'DOUBLE' : 'VARCHAR')]),
  )
  // Those that the client says nothing about may become what stands beside them.
  const undecided = new Set(open.filter((index) => types.get(index) === 'VARCHAR' && declared[index] == null))
  for (;;) {
    const failure = await attempt(executor, casted(text, types))
    if (failure === undefined) return casted(text, types)
    const type = operandType(failure.message)
    const culprit =
      type === undefined || open.length > mostTried ? undefined : await culpritOf(executor, text, types, undecided, type, failure)
    if (type === undefined || culprit === undefined) throw failure
    types.set(culprit, type)
    undecided.delete(culprit)
  }
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
    const again = await attempt(executor, casted(text, new Map([...types, [index, type]])))
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
  const compared = /Cannot compare values of type (.+?) and type (.+?) - /.exec(message)
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
