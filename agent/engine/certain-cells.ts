/** Values of bound parameters whose meaning is beyond doubt: what DuckDB's own cast into a column would make of them is known here. */

import type { Cell, Column, ColumnType } from '../journal/types.ts'
import { isWhole, rescaled, wholeCell } from './certain-numbers.ts'
import { cellFromText } from './certain-texts.ts'
import type { Parameter } from './pgwire/backend.ts'

/** The value that a bound parameter has beyond doubt in a column, as DuckDB would cast it; undefined where that is for DuckDB to decide, or none was bound. */
export function cellOf({ type, sqlType }: Column, parameter: Parameter | undefined): Cell | undefined {
  if (parameter === undefined || parameter === null) return parameter
  return typeof parameter === 'string' ? cellFromText(type, sqlType, parameter) : cellFrom(type, sqlType, parameter.type, parameter.cell)
}

/** A typed value: binary drivers send numbers in types of their own, and texts as such. */
function cellFrom(type: ColumnType, sqlType: string, from: ColumnType, cell: Cell): Cell | undefined {
  switch (from.kind) {
    case 'VARCHAR':
      return cellFromText(type, sqlType, cell as string)
    case 'DECIMAL':
      return fromDecimal(type, cell as bigint, from.scale)
    case 'FLOAT':
    case 'DOUBLE':
      return fromDouble(type, cell as number)
    case 'LIST':
    case 'ARRAY':
    case 'STRUCT':
    case 'MAP':
    case 'UNION':
    case 'ENUM':
      return undefined
    default:
      if (from.kind === type.kind) return cell
      if (!isWhole(from.kind)) return undefined
      return type.kind === 'DOUBLE' || type.kind === 'FLOAT'
        ? fromDouble(type, exactly(cell))
        : fromDecimal(type, BigInt(cell as number), 0)
  }
}

function fromDecimal(type: ColumnType, unscaled: bigint, scale: number): Cell | undefined {
  if (type.kind === 'DECIMAL') return rescaled(unscaled, scale, type)
  if (type.kind === 'DOUBLE') return quotient(unscaled, scale)
  if (!isWhole(type.kind)) return undefined
  const value = rescaled(unscaled, scale, { width: 38, scale: 0 })
  return value === undefined ? undefined : wholeCell(type, value)
}

/** Undefined where a FLOAT would have to round it. */
function fromDouble(type: ColumnType, value: number | undefined): number | undefined {
  if (value === undefined || type.kind === 'DOUBLE') return value
  return type.kind === 'FLOAT' && Object.is(Math.fround(value), value) ? value : undefined
}

/** A whole number as a double, where there is such a one. */
function exactly(cell: Cell): number | undefined {
  const value = Number(cell as number | bigint)
  return Number.isSafeInteger(value) ? value : undefined
}

/** Powers of ten that are doubles. */
const powers = Array.from({ length: 23 }, (_, i) => Number(`1e${i}`))

/** A quotient of two doubles is the nearest one, to DuckDB as to everybody. */
function quotient(unscaled: bigint, scale: number): number | undefined {
  const power = powers[scale]
  const value = exactly(unscaled)
  return power === undefined || value === undefined ? undefined : value / power
}
