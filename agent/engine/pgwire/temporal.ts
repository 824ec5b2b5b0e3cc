/** Dates, times and intervals as Postgres prints them: DateStyle 'ISO, MDY', IntervalStyle 'postgres', TimeZone UTC. */

import { dateOf } from '../../calendar.ts'
import type { Interval } from '../../journal/types.ts'

export const infiniteDate = 2147483647
export const infiniteTimestamp = 9223372036854775807n
const dayMicros = 86_400_000_000

const pad = (value: number, width: number) => String(value).padStart(width, '0')
const two = Array.from({ length: 100 }, (_, i) => pad(i, 2))

let lastDays = 0
let lastDate = '1970-01-01'

/** 'YYYY-MM-DD' without the era; rows that follow each other mostly share the day. `bc` tells the era. */
function civil(days: number): string {
  if (days === lastDays) return lastDate
  const { year, month, day } = dateOf(days)
  lastDays = days
  lastDate = `${pad(year > 0 ? year : 1 - year, 4)}-${two[month]}-${two[day]}`
  return lastDate
}

/** Day number of 0001-01-01; all before it is BC. */
const firstDayAd = -719_162
const era = (days: number) => (days < firstDayAd ? ' BC' : '')

/** A fraction of a second in `digits` digits, without trailing zeros; '' when zero. */
function fraction(value: number, digits: number): string {
  return value === 0 ? '' : `.${pad(value, digits).replace(/0+$/, '')}`
}

/** 'HH:MM:SS[.ffffff]' of microseconds since midnight, 24:00:00 included. `nanos`: 0-999 more. */
function clock(micros: number, nanos = 0): string {
  const seconds = Math.floor(micros / 1_000_000)
  const rest = micros - seconds * 1_000_000
  const tail = nanos === 0 ? fraction(rest, 6) : fraction(rest * 1000 + nanos, 9)
  return `${two[Math.floor(seconds / 3600)]}:${two[Math.floor(seconds / 60) % 60]}:${two[seconds % 60]}${tail}`
}

/** DATE: days since 1970-01-01. */
export function dateText(days: number): string {
  if (days >= infiniteDate) return 'infinity'
  if (days <= -infiniteDate) return '-infinity'
  return civil(days) + era(days)
}

/** TIME: microseconds since midnight. */
export function timeText(micros: bigint): string {
  return clock(Number(micros))
}

/** TIME_NS: nanoseconds since midnight. */
export function timeNanosText(nanos: bigint): string {
  return clock(Number(nanos / 1000n), Number(nanos % 1000n))
}

/** Microseconds since midnight, and seconds east of UTC, of DuckDB's packed TIMETZ (40 bits, then 24 bits of 57599 - offset). */
export function unpackTimeTz(packed: bigint): { micros: bigint; offset: number } {
  return { micros: BigInt.asUintN(40, packed >> 24n), offset: 57_599 - Number(BigInt.asUintN(24, packed)) }
}

export function packTimeTz(micros: bigint, offset: number): bigint {
  return (micros << 24n) | BigInt(57_599 - offset)
}

/** TIMETZ: 'HH:MM:SS+HH[:MM[:SS]]'. */
export function timeTzText(packed: bigint): string {
  const { micros, offset } = unpackTimeTz(packed)
  const [hours, minutes, seconds] = [Math.floor(Math.abs(offset) / 3600), Math.floor(Math.abs(offset) / 60) % 60, Math.abs(offset) % 60]
  const tail = seconds > 0 ? `:${two[minutes]}:${two[seconds]}` : minutes > 0 ? `:${two[minutes]}` : ''
  return `${clock(Number(micros))}${offset < 0 ? '-' : '+'}${two[hours]}${tail}`
}

/** TIMESTAMP: microseconds since 1970; `zone` ('+00') comes before the era. `nanos`: 0-999 more. */
export function timestampText(micros: bigint, zone = '', nanos = 0): string {
  if (micros >= infiniteTimestamp) return 'infinity'
  if (micros <= -infiniteTimestamp) return '-infinity'
  let days: number
  let rest: number
  const value = Number(micros)
  if (Number.isSafeInteger(value)) {
    days = Math.floor(value / dayMicros)
    rest = value - days * dayMicros
  } else {
    const remainder = micros % 86_400_000_000n
    rest = Number(remainder < 0n ? remainder + 86_400_000_000n : remainder)
    days = Number((micros - BigInt(rest)) / 86_400_000_000n)
  }
  return `${civil(days)} ${clock(rest, nanos)}${zone}${era(days)}`
}

/** TIMESTAMP_NS: nanoseconds since 1970. */
export function timestampNanosText(nanos: bigint): string {
  if (nanos >= infiniteTimestamp) return 'infinity'
  if (nanos <= -infiniteTimestamp) return '-infinity'
  const micros = floorDivide(nanos, 1000n)
  return timestampText(micros, '', Number(nanos - micros * 1000n))
}

/** Towards minus infinity, where BigInt's own division goes towards zero. */
export function floorDivide(value: bigint, by: bigint): bigint {
  const quotient = value / by
  return value < 0n && quotient * by !== value ? quotient - 1n : quotient
}

/** INTERVAL: '1 year 2 mons -3 days +04:05:06.7'; zero is '00:00:00'. */
export function intervalText(interval: Interval): string {
  const parts: string[] = []
  let negative = false
  const add = (value: number, unit: string) => {
    if (value === 0) return
    parts.push(`${negative && value > 0 ? '+' : ''}${value} ${unit}${value === 1 ? '' : 's'}`)
    negative = value < 0
  }
  add(Math.trunc(interval.months / 12), 'year')
  add(interval.months % 12, 'mon')
  add(interval.days, 'day')
  if (interval.micros !== 0n || parts.length === 0) {
    const below = interval.micros < 0n
    const micros = below ? -interval.micros : interval.micros
    const hours = micros / 3_600_000_000n
    const rest = Number(micros - hours * 3_600_000_000n)
    const sign = below ? '-' : negative ? '+' : ''
    parts.push(`${sign}${hours.toString().padStart(2, '0')}${clock(rest).slice(2)}`)
  }
  return parts.join(' ')
}
