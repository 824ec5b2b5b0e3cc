/**
 * The values of a column of many rows as one parameter of a statement, which takes them apart. Each parameter that is bound costs DuckDB a look through the
 * names of all of them, and several objects: a text of all values, and DuckDB's own cast of them, cost a tenth of that on the event loop.
 */

import type { Cell, Column, ColumnType } from '../journal/types.ts'
import type { PreparedStatement } from './duckdb.ts'
import { infiniteDate, infiniteTimestamp, timeText } from './pgwire/temporal.ts'
import { decimalText } from './pgwire/text.ts'

/** Values as texts that DuckDB reads as exactly these values. */
interface Form {
  /** Text of one value. */
  readonly print: (cell: Cell) => string
  /** The value out of SQL that gives its text. */
  readonly value: (text: string) => string
  /** A text may be empty, and hold any character. */
  readonly isFree?: boolean
}

/** Undefined: of this type it is not so simple. */
function formOf({ type, sqlType }: Column): Form | undefined {
  const value = (text: string) => `(${text})::${sqlType}`
  switch (type.kind) {
    case 'BOOLEAN':
    case 'TINYINT':
    case 'SMALLINT':
    case 'INTEGER':
    case 'BIGINT':
    case 'HUGEINT':
    case 'UTINYINT':
    case 'USMALLINT':
    case 'UINTEGER':
    case 'UBIGINT':
    case 'UHUGEINT':
    case 'UUID':
      return { print: String, value }
    case 'FLOAT':
    case 'DOUBLE':
      return { print: (cell) => (Object.is(cell, -0) ? '-0' : String(cell)), value }
    case 'DECIMAL':
      return { print: (cell) => decimalText(cell as bigint, type.scale), value }
    case 'TIME':
      return { print: (cell) => timeText(cell as bigint), value }
    case 'DATE':
      return { print: String, value: (text) => finite(text, 'DATE', infiniteDate, `DATE '1970-01-01' + (${text})::INTEGER`) }
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ': {
      const make = type.kind === 'TIMESTAMP' ? 'make_timestamp' : 'make_timestamptz'
      return { print: String, value: (text) => finite(text, type.kind, infiniteTimestamp, `system.main.${make}((${text})::BIGINT)`) }
    }
    case 'VARCHAR':
      return { print: String, value: sqlType === 'VARCHAR' ? (text) => text : value, isFree: true }
    case 'ENUM':
      return { print: String, value, isFree: true }
    default:
      return undefined
  }
}

/** DuckDB's own functions of numbers refuse what is infinite. */
function finite(text: string, type: string, infinite: number | bigint, value: string): string {
  return `CASE ${text} WHEN '${infinite}' THEN ${type} 'infinity' WHEN '${-infinite}' THEN ${type} '-infinity' ELSE ${value} END`
}

/** A column out of a parameter (`$1`), taken apart, and the values out of that column. Clients may have macros of the same names as functions of DuckDB's. */
interface ColumnList {
  readonly apart: string
  readonly values: string
  bind(statement: PreparedStatement, cells: readonly Cell[], between: string): void
}

/** Of some columns, those in the order of the parameters from `$1` on. */
export class ColumnLists {
  /** Gives the rows, in columns v0, v1, … */
  readonly query: string
  #lists: readonly ColumnList[]
  /**
   * Indexes of the columns whose texts may hold any character. What separates them is a parameter as well, one for each, behind those of the columns: where DuckDB
   * finds one twice it plans the statement anew each time.
   */
  #free: readonly number[]

  constructor(columns: readonly Column[]) {
    const forms = columns.map(formOf)
    const free = forms.flatMap((form, i) => (form?.isFree ? [i] : []))
    this.#free = free
    this.#lists = columns.map((column, i) => {
      const form = forms[i]
      if (form === undefined) return listed(column, i)
      return separated(column, i, form, form.isFree ? `$${columns.length + free.indexOf(i) + 1}::VARCHAR` : "','")
    })
    const values = this.#lists.map((list, i) => `${list.values} AS v${i}`).join(', ')
    this.query = `SELECT ${values} FROM (SELECT ${this.#lists.map((list, i) => `${list.apart} AS c${i}`).join(', ')})`
  }

  /** `columns`: the cells of each. */
  bind(statement: PreparedStatement, columns: readonly (readonly Cell[])[]): void {
    const between = absentFrom(this.#free.flatMap((i) => columns[i] as string[]))
    for (const [i, list] of this.#lists.entries()) list.bind(statement, columns[i] as readonly Cell[], between)
    for (const [at] of this.#free.entries()) statement.bindText(columns.length + at, between)
  }
}

/** DuckDB's own list of values, each an object. */
function listed({ type, sqlType }: Column, index: number): ColumnList {
  const list: ColumnType = { kind: 'LIST', child: type }
  return {
    apart: `unnest($${index + 1}::${sqlType}[])`,
    values: `c${index}`,
    bind: (statement, cells) => statement.bindCell(index, list, [...cells]),
  }
}

/** `separator`: SQL of what stands between the texts. An empty one is NULL; where a value may be that too, `=` stands before each. */
function separated({ nullable }: Column, index: number, { print, value, isFree }: Form, separator: string): ColumnList {
  const text = `c${index}`
  const marked = isFree === true && nullable
  const known = marked ? `system.main.substr(${text}, 2)` : text
  return {
    apart: `unnest(system.main.string_split($${index + 1}::VARCHAR, ${separator}))`,
    values: value(nullable ? `CASE WHEN ${text} <> '' THEN ${known} END` : text),
    bind(statement, cells, between) {
      const texts = cells.map((cell) => (cell === null ? '' : marked ? `=${print(cell)}` : print(cell)))
      statement.bindText(index, texts.join(isFree ? between : ','))
    },
  }
}

const unitSeparator = '\x1f'
/** The halves of characters beyond 16 bits lie between the two. */
const [lastBefore, firstAfter] = [0xd7ff, 0xe000]

/** A character that none of the texts has. Throws RangeError where they have all of them. */
function absentFrom(texts: readonly (string | null)[]): string {
  if (!texts.some((text) => text?.includes(unitSeparator))) return unitSeparator
  const present = new Set(texts.join(''))
  let code = unitSeparator.charCodeAt(0)
  while (present.has(String.fromCodePoint(code))) code = code === lastBefore ? firstAfter : code + 1
  return String.fromCodePoint(code)
}
