/**
 * Dates and times as text and back, over DuckDB's whole range (JavaScript's Date ends at ±271,821 years).
 * Proleptic Gregorian, astronomical years: `2021-01-08`, `-0043-03-15` (44 BC), `+12345-01-01`; times `HH:MM:SS.ffffff`.
 */

/** Day number (days since 1970-01-01) to a date, in eras of 400 years that begin on March 1 (howardhinnant.github.io/date_algorithms.html). */
export function dateOf(days: number): { year: number; month: number; day: number } {
  const shifted = days + 719_468
  const era = Math.floor(shifted / 146_097)
  const dayOfEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  )
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153)
  const month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
  return {
    year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1,
  }
}

/** Days since 1970-01-01 to `YYYY-MM-DD`. */
export function dateText(days: number): string {
  const { year, month, day } = dateOf(days)
  const sign = year < 0 ? '-' : year > 9999 ? '+' : ''
  return `${sign}${String(Math.abs(year)).padStart(4, '0')}-${two(month)}-${two(day)}`
}

/** `YYYY-MM-DD` to days since 1970-01-01. Throws on any other text. */
export function dateDays(text: string): number {
  const match = /^([+-]?\d{4,})-(\d\d)-(\d\d)$/.exec(text)
  if (match === null) throw new Error(`not a date: ${text}`)
  return daysOf(Number(match[1]), Number(match[2]), Number(match[3]))
}

/** Days since 1970-01-01 of a date; the inverse of dateOf. */
export function daysOf(year: number, month: number, day: number): number {
  const fromMarch = year - (month <= 2 ? 1 : 0)
  const era = Math.floor(fromMarch / 400)
  const yearOfEra = fromMarch - era * 400
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return era * 146_097 + dayOfEra - 719_468
}

/** Whether there is such a day. */
export function dateExists(year: number, month: number, day: number): boolean {
  if (month < 1 || month > 12 || day < 1) return false
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0)
  return day <= (month === 2 ? (leap ? 29 : 28) : 30 + ((month + (month >> 3)) & 1))
}

/** Time of day in units of 10^-digits seconds to `HH:MM:SS[.fff…]`; 24:00:00 included. */
export function timeText(value: bigint, digits: number): string {
  const unit = 10n ** BigInt(digits)
  const seconds = Number(value / unit)
  const fraction = digits === 0 ? '' : `.${String(value % unit).padStart(digits, '0')}`
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}${fraction}`
}

/** The inverse of timeText. Throws on any other text. */
export function timeValue(text: string, digits: number): bigint {
  const match = /^(\d\d):(\d\d):(\d\d)(?:\.(\d+))?$/.exec(text)
  if (match === null) throw new Error(`not a time: ${text}`)
  const seconds = BigInt(Number(match[1]) * 3600 + Number(match[2]) * 60 + Number(match[3]))
  return seconds * 10n ** BigInt(digits) + BigInt((match[4] ?? '').padEnd(digits, '0').slice(0, digits) || '0')
}

/** Units of 10^-digits seconds since 1970 to `YYYY-MM-DD HH:MM:SS[.fff…]`. */
export function timestampText(value: bigint, digits: number): string {
  const perDay = 86_400n * 10n ** BigInt(digits)
  let day = value / perDay
  let rest = value % perDay
  if (rest < 0n) {
    rest += perDay
    day -= 1n
  }
  return `${dateText(Number(day))} ${timeText(rest, digits)}`
}

/** The inverse of timestampText. */
export function timestampValue(text: string, digits: number): bigint {
  const space = text.indexOf(' ')
  if (space < 0) throw new Error(`not a timestamp: ${text}`)
  const perDay = 86_400n * 10n ** BigInt(digits)
  return BigInt(dateDays(text.slice(0, space))) * perDay + timeValue(text.slice(space + 1), digits)
}

function two(value: number): string {
  return value < 10 ? `0${value}` : String(value)
}
