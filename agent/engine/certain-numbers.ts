/** Numbers whose conversion loses nothing: what is exact is beyond doubt, what DuckDB would have to round is not. */

import type { Cell, ColumnType } from '../journal/types.ts'

type Kind = ColumnType['kind']

const signed = (bits: bigint) => [-(1n << (bits - 1n)), (1n << (bits - 1n)) - 1n] as const
const unsigned = (bits: bigint) => [0n, (1n << bits) - 1n] as const

const ranges: Partial<Record<Kind, readonly [bigint, bigint]>> = {
  TINYINT: signed(8n),
  SMALLINT: signed(16n),
  INTEGER: signed(32n),
  BIGINT: signed(64n),
  HUGEINT: signed(128n),
  UTINYINT: unsigned(8n),
  USMALLINT: unsigned(16n),
  UINTEGER: unsigned(32n),
  UBIGINT: unsigned(64n),
  UHUGEINT: unsigned(128n),
}

/** Their cells are bigints, those of the others numbers. */
const wide = new Set<Kind>(['BIGINT', 'UBIGINT', 'HUGEINT', 'UHUGEINT'])

export function isWhole(kind: Kind): boolean {
  return ranges[kind] !== undefined
}

/** Whether a whole number is one of its type; values of other types are. */
export function isInRange({ kind }: ColumnType, cell: Cell): boolean {
  const range = ranges[kind]
  if (range === undefined || cell === null) return true
  const value = BigInt(cell as number | bigint)
  return value >= range[0] && value <= range[1]
}

/** A whole number as a value of a type of whole numbers; undefined: it is not in range. */
export function wholeCell(type: ColumnType, value: bigint): number | bigint | undefined {
  if (!isInRange(type, value)) return undefined
  return wide.has(type.kind) ? value : Number(value)
}

/** `unscaled` × 10^-scale as the unscaled value of another DECIMAL; undefined: it does not fit, or not without rounding. */
export function rescaled(unscaled: bigint, scale: number, to: { width: number; scale: number }): bigint | undefined {
  const by = 10n ** BigInt(Math.abs(to.scale - scale))
  if (to.scale < scale && unscaled % by !== 0n) return undefined
  const value = to.scale < scale ? unscaled / by : unscaled * by
  const limit = 10n ** BigInt(to.width)
  return value > -limit && value < limit ? value : undefined
}

const bits = new DataView(new ArrayBuffer(4))

/** The FLOAT that is nearest to what `double` is the nearest DOUBLE to; undefined where it may be one or the other of two, or there is none. */
export function nearestFloat(double: number): number | undefined {
  const float = Math.fround(double)
  if (float === double) return float
  if (!Number.isFinite(float)) return undefined
  bits.setFloat32(0, float)
  // Its neighbour on the other side: the bits of a float count its magnitude.
  bits.setUint32(0, bits.getUint32(0) + (Math.abs(double) > Math.abs(float) ? 1 : -1))
  const other = bits.getFloat32(0)
  return Math.abs(double - float) === Math.abs(other - double) ? undefined : float
}
