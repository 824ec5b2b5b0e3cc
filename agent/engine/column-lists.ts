/**
 * The values of a column of many rows as one parameter of a statement, which takes them apart. Each parameter that is bound costs DuckDB a look through the
 * names of all of them, and several objects: a text of all values, and DuckDB's own cast of them, cost a tenth of that on the event loop.
 */

import type { Cell, Column, ColumnType } from '../journal/types.ts'
import type { PreparedStatement } from './duckdb.ts'
import { infiniteTimestamp } from './pgwire/temporal.ts'
import { decimalText } from './pgwire/text.ts'

export interface ColumnList {
  /** A column of DuckDB's out of a parameter (`$1`): what was bound, taken apart. Clients may have macros of the same names as functions of DuckDB's. */
  apart(parameter: string): string
  /** The values out of that column. */
  values(column: string): string
  bind(statement: PreparedStatement, index: number, cells: readonly Cell[]): void
}

type Print = (cell: Cell) => string

/** Text of one value that DuckDB reads as exactly this value; it holds no comma, and is never empty. Undefined: of this type it is not so simple. */
function printOf(type: ColumnType): Print | undefined {
  switch (type.kind) {
    case 'BOOLEAN':
    case 'TINYINT':
    case 'SMALLINT':
    case 'INTEGER':
    case 'BIGINT':
    case 'UTINYINT':
    case 'USMALLINT':
    case 'UINTEGER':
    case 'UBIGINT':
    case 'TIMESTAMP':
      return String
    case 'DOUBLE':
      return (cell) => (Object.is(cell, -0) ? '-0' : String(cell))
    case 'DECIMAL':
      return (cell) => decimalText(cell as bigint, type.scale)
    default:
      return undefined
  }
}

/** Microseconds, as text, as a TIMESTAMP. DuckDB's own function refuses infinity. */
function timestamp(text: string): string {
  const infinite = `WHEN '${infiniteTimestamp}' THEN TIMESTAMP 'infinity' WHEN '${-infiniteTimestamp}' THEN TIMESTAMP '-infinity'`
  return `CASE ${text} ${infinite} ELSE system.main.make_timestamp((${text})::BIGINT) END`
}

export function columnList({ type, sqlType, nullable }: Column): ColumnList {
  const print = printOf(type)
  if (print === undefined) {
    const list: ColumnType = { kind: 'LIST', child: type }
    return {
      apart: (parameter) => `unnest(${parameter}::${sqlType}[])`,
      values: (column) => column,
      bind: (statement, index, cells) => statement.bindCell(index, list, [...cells]),
    }
  }
  return {
    apart: (parameter) => `unnest(system.main.string_split(${parameter}::VARCHAR, ','))`,
    values: (column) => {
      const text = nullable ? `CASE WHEN ${column} <> '' THEN ${column} END` : column
      return type.kind === 'TIMESTAMP' ? timestamp(text) : `(${text})::${sqlType}`
    },
    bind: (statement, index, cells) => statement.bindText(index, cells.map((cell) => (cell === null ? '' : print(cell))).join()),
  }
}
