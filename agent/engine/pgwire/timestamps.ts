/** Timestamps of microseconds, written where they go: a BigInt, a text and its parts for each value cost more than all the rest of its row. */

import { dateText } from '../../calendar.ts'
import { commonPlaces, zeroPlaces } from './digits.ts'

const zero = 0x30
const [blank, point, colon] = [0x20, 0x2e, 0x3a]
const secondMicros = 1_000_000
const dayMicros = 86_400 * secondMicros
/** 0001-01-01 and 10000-01-01, in microseconds since 1970: between them every date has ten characters, and no era. */
const [first, behindLast] = [-62_135_596_800_000_000, 253_402_300_800_000_000]
/** 'YYYY-MM-DD ', 'HH:MM:SS' */
const [dateBytes, clockBytes] = [11, 8]

/** Bytes of 'YYYY-MM-DD HH:MM:SS[.ffffff]'; undefined: a time (microseconds since 1970) that is written in another form. */
export function timestampBytes(micros: number): number | undefined {
  if (!(Number.isSafeInteger(micros) && micros >= first && micros < behindLast)) return undefined
  const zeros = zeroPlaces(micros)
  return dateBytes + clockBytes + (zeros === commonPlaces ? 0 : 1 + commonPlaces - zeros)
}

let lastDays = 0
/** Rows that follow each other mostly share the day. */
let lastDate = Buffer.from(dateText(lastDays), 'latin1')

/** Writes all `length` bytes of one at `at`. */
export function writeTimestamp(buffer: Uint8Array, at: number, length: number, micros: number): void {
  const days = Math.floor(micros / dayMicros)
  if (days !== lastDays) {
    lastDate = Buffer.from(dateText(days), 'latin1')
    lastDays = days
  }
  for (let i = 0; i < lastDate.length; i++) buffer[at + i] = lastDate[i] as number
  buffer[at + dateBytes - 1] = blank
  const rest = micros - days * dayMicros
  const seconds = Math.floor(rest / secondMicros)
  const minutes = (seconds / 60) | 0
  const hours = (minutes / 60) | 0
  const clock = at + dateBytes
  writeTwo(buffer, clock, hours)
  buffer[clock + 2] = colon
  writeTwo(buffer, clock + 3, minutes - hours * 60)
  buffer[clock + 5] = colon
  writeTwo(buffer, clock + 6, seconds - minutes * 60)
  const end = at + length
  if (clock + clockBytes === end) return
  buffer[clock + clockBytes] = point
  let fraction = (rest - seconds * secondMicros) | 0
  for (let place = clock + clockBytes + commonPlaces; place > clock + clockBytes; place--) {
    const tenth = (fraction / 10) | 0
    if (place < end) buffer[place] = zero + fraction - tenth * 10
    fraction = tenth
  }
}

function writeTwo(buffer: Uint8Array, at: number, value: number): void {
  const tens = (value / 10) | 0
  buffer[at] = zero + tens
  buffer[at + 1] = zero + value - tens * 10
}
