/** Decimal digits of numbers, written where they go: a string for each value costs as much as all the rest of its row. */

const zero = 0x30
const point = 0x2e
const minus = 0x2d
const nineDigits = 1_000_000_000

/** Digits of an integer from 0 to 2^53. */
function digitsOf(value: number): number {
  let digits = 1
  let rest = value
  if (rest >= nineDigits) {
    rest = Math.floor(rest / nineDigits)
    digits = 10
  }
  for (; rest >= 10; rest = (rest / 10) | 0) digits++
  return digits
}

/** Bytes of `unscaled` × 10^-scale as text. */
export function decimalBytes(unscaled: number, scale: number): number {
  const digits = Math.max(digitsOf(Math.abs(unscaled)), scale + 1)
  return digits + (scale > 0 ? 1 : 0) + (unscaled < 0 ? 1 : 0)
}

/** Writes `unscaled` (a safe integer) × 10^-scale, all of its `length` bytes, at `start`: (-5, 2) is '-0.05'. */
export function writeDecimal(buffer: Uint8Array, start: number, length: number, unscaled: number, scale: number): void {
  const value = Math.abs(unscaled)
  let high = Math.floor(value / nineDigits)
  // Halves that fit into 32 bits: V8 divides those by multiplying.
  let rest = (value - high * nineDigits) | 0
  let at = start + length - 1
  const pointAt = scale > 0 ? at - scale : -1
  const first = unscaled < 0 ? start + 1 : start
  for (let written = 0; at >= first; at--) {
    if (at === pointAt) {
      buffer[at] = point
      continue
    }
    const tenth = (rest / 10) | 0
    buffer[at] = zero + rest - tenth * 10
    rest = tenth
    if (++written === 9) {
      rest = high | 0
      high = 0
    }
  }
  if (unscaled < 0) buffer[start] = minus
}

/** Places behind the point to which most prices and quantities are given. */
export const commonPlaces = 6
const scaleOfPlaces = 10 ** commonPlaces
/** Numbers below it have at most 15 digits with those places. Postgres writes an exponent below the other. */
const [mostWhole, leastPlain] = [1e9, 1e-4]

/**
 * A double that is a decimal number of so few places, × 10^places; undefined for all others. No two decimal numbers of up to 15 digits are the same
 * double: it is the shortest text that reads back the same.
 */
export function scaledToPlaces(value: number): number | undefined {
  const magnitude = Math.abs(value)
  if (!(magnitude < mostWhole && magnitude >= leastPlain)) return undefined
  const scaled = Math.round(value * scaleOfPlaces)
  return scaled / scaleOfPlaces === value ? scaled : undefined
}

/** How many of its places are zeros at the end. */
export function zeroPlaces(scaled: number): number {
  const value = Math.abs(scaled)
  let rest = (value - Math.floor(value / scaleOfPlaces) * scaleOfPlaces) | 0
  if (rest === 0) return commonPlaces
  let zeros = 0
  for (; rest % 10 === 0; rest = (rest / 10) | 0) zeros++
  return zeros
}
