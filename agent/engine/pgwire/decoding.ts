/** Binary parameters from the wire: the forms of Postgres' *_recv functions, as typed Cells. */

import { type Cell, type ColumnType, uuidCell } from '../../journal/types.ts'
import { SqlError } from '../sql-error.ts'
import { readArray } from './arrays.ts'
import type { Parameter } from './backend.ts'
import { epochDays, epochMicros } from './encoding.ts'
import { utf8 } from './messages.ts'
import { infiniteDate, infiniteTimestamp, packTimeTz } from './temporal.ts'
import { Oid, typeName, typeOf } from './types.ts'

const dayMicros = 86_400_000_000n
/** DuckDB's widest DECIMAL. */
const maxDigits = 38

/**
 * Decodes binary parameter `number` (from 1) by its declared OID, else by the type that the engine inferred.
 * Throws 0A000 for a type without a binary form, 22P03 for bytes that are not of it, 22003 and 22008 for values out of range.
 */
export function decodeParameter(bytes: Buffer, oid: number, inferred: ColumnType | null, number: number): Parameter {
  if (oid === Oid.numeric) return numeric(bytes, number)
  if (oid === Oid.jsonb) {
    if (bytes[0] !== 1) throw malformed(number)
    return { type: { kind: 'VARCHAR' }, cell: utf8(bytes.subarray(1)) }
  }
  const type = oid === 0 || oid === Oid.unknown ? (inferred ?? { kind: 'VARCHAR' }) : typeOf(oid)
  if (type === null) throw unsupported(number, `OID ${oid}`)
  return decode(bytes, type, number)
}

function decode(bytes: Buffer, type: ColumnType, number: number): Parameter {
  switch (type.kind) {
    case 'BOOLEAN':
      return { type, cell: sized(bytes, 1, number)[0] !== 0 }
    case 'TINYINT':
    case 'UTINYINT':
    case 'SMALLINT':
      return { type: { kind: 'SMALLINT' }, cell: sized(bytes, 2, number).readInt16BE() }
    case 'INTEGER':
    case 'USMALLINT':
      return { type: { kind: 'INTEGER' }, cell: sized(bytes, 4, number).readInt32BE() }
    case 'UINTEGER':
      // Declared: Postgres' oid, 4 bytes. Inferred: announced as int8.
      if (bytes.length === 4) return { type, cell: bytes.readUInt32BE() }
      return { type: { kind: 'BIGINT' }, cell: sized(bytes, 8, number).readBigInt64BE() }
    case 'BIGINT':
      return { type, cell: sized(bytes, 8, number).readBigInt64BE() }
    case 'HUGEINT':
    case 'UBIGINT':
    case 'UHUGEINT':
    case 'BIGNUM':
    case 'DECIMAL':
      return numeric(bytes, number)
    case 'FLOAT':
      return { type, cell: sized(bytes, 4, number).readFloatBE() }
    case 'DOUBLE':
      return { type, cell: sized(bytes, 8, number).readDoubleBE() }
    case 'VARCHAR':
    case 'ENUM':
    case 'SQLNULL':
      return { type: { kind: 'VARCHAR' }, cell: utf8(bytes) }
    case 'STRUCT':
    case 'MAP':
    case 'UNION':
      return utf8(bytes)
    case 'BLOB':
      return { type, cell: Uint8Array.prototype.slice.call(bytes) }
    case 'BIT': {
      if (bytes.length < 4 || bytes.length !== 4 + Math.ceil(bytes.readUInt32BE(0) / 8)) throw malformed(number)
      const bits = [...bytes.subarray(4)].map((byte) => byte.toString(2).padStart(8, '0')).join('')
      return { type, cell: bits.slice(0, bytes.readUInt32BE(0)) }
    }
    case 'UUID':
      return {
        type,
        cell: uuidCell(sized(bytes, 16, number).toString('hex')),
      }
    case 'DATE':
      return { type, cell: date(sized(bytes, 4, number).readInt32BE(), number) }
    case 'TIME':
    case 'TIME_NS':
      return { type: { kind: 'TIME' }, cell: timeOfDay(sized(bytes, 8, number), number) }
    case 'TIMETZ': {
      const micros = timeOfDay(sized(bytes, 12, number), number)
      const offset = -bytes.readInt32BE(8)
      if (Math.abs(offset) > 57_599) throw outOfRange(number)
      return { type, cell: packTimeTz(micros, offset) }
    }
    case 'TIMESTAMP':
    case 'TIMESTAMP_S':
    case 'TIMESTAMP_MS':
    case 'TIMESTAMP_NS':
      return { type: { kind: 'TIMESTAMP' }, cell: timestamp(sized(bytes, 8, number).readBigInt64BE(), number) }
    case 'TIMESTAMPTZ':
      return { type, cell: timestamp(sized(bytes, 8, number).readBigInt64BE(), number) }
    case 'INTERVAL':
      sized(bytes, 16, number)
      return { type, cell: { micros: bytes.readBigInt64BE(), days: bytes.readInt32BE(8), months: bytes.readInt32BE(12) } }
    case 'LIST':
    case 'ARRAY':
      return readArray(bytes, number, (element, oid) => decodeParameter(element, oid, null, number))
    default:
      throw unsupported(number, `type ${typeName(type)}`)
  }
}

function sized(bytes: Buffer, length: number, number: number): Buffer {
  if (bytes.length !== length) throw malformed(number)
  return bytes
}

function date(days: number, number: number): Cell {
  if (days === 0x7fff_ffff) return infiniteDate
  if (days === -0x8000_0000) return -infiniteDate
  if (days + epochDays >= infiniteDate) throw outOfRange(number)
  return days + epochDays
}

function timeOfDay(bytes: Buffer, number: number): bigint {
  const micros = bytes.readBigInt64BE()
  if (micros < 0n || micros > dayMicros) throw outOfRange(number)
  return micros
}

function timestamp(micros: bigint, number: number): Cell {
  if (micros === infiniteTimestamp) return infiniteTimestamp
  if (micros === -infiniteTimestamp - 1n) return -infiniteTimestamp
  const value = micros + epochMicros
  if (value >= infiniteTimestamp) throw outOfRange(number)
  return value
}

/** numeric_recv. NaN and infinities, which DECIMAL does not have, come as DOUBLE. */
function numeric(bytes: Buffer, number: number): Parameter {
  if (bytes.length < 8) throw malformed(number)
  const count = bytes.readUInt16BE(0)
  const weight = bytes.readInt16BE(2)
  const sign = bytes.readUInt16BE(4)
  const announcedScale = bytes.readUInt16BE(6)
  sized(bytes, 8 + count * 2, number)
  const special =
    sign === 0xc000 ? Number.NaN : sign === 0xd000 ? Number.POSITIVE_INFINITY : sign === 0xf000 ? Number.NEGATIVE_INFINITY : undefined
  if (special !== undefined) return { type: { kind: 'DOUBLE' }, cell: special }
  if (sign !== 0 && sign !== 0x4000) throw malformed(number)
  let text = ''
  for (let i = 0; i < count; i++) {
    const digit = bytes.readUInt16BE(8 + i * 2)
    if (digit > 9999) throw malformed(number)
    text += String(digit).padStart(4, '0')
  }
  // The last group of four digits counts 10 ** exponent.
  const exponent = (weight - count + 1) * 4
  text = text.replace(/^0+/, '')
  let scale = Math.max(0, -exponent)
  if (exponent > 0 && text !== '') text = text.padEnd(text.length + Math.min(exponent, maxDigits + 1), '0')
  while (scale > announcedScale && (text === '' || text.endsWith('0'))) {
    text = text.slice(0, -1)
    scale--
  }
  if (text === '') scale = Math.min(announcedScale, maxDigits)
  else if (scale < announcedScale) {
    // Trailing zeros that the sender announced but did not send; as many as fit.
    const zeros = Math.min(announcedScale - scale, Math.max(0, maxDigits - text.length))
    text += '0'.repeat(zeros)
    scale += zeros
  }
  const width = Math.max(text.length, scale, 1)
  const integer = scale === 0 && text.length < 50 ? BigInt(text === '' ? 0 : text) * (sign === 0x4000 ? -1n : 1n) : undefined
  if (width > maxDigits && integer !== undefined && integer >= -(1n << 127n) && integer < 1n << 128n)
    return { type: { kind: integer < 1n << 127n ? 'HUGEINT' : 'UHUGEINT' }, cell: integer }
  if (width > maxDigits) throw new SqlError('22003', `value of parameter $${number} has more than ${maxDigits} digits`)
  const unscaled = BigInt(text === '' ? 0 : text)
  return { type: { kind: 'DECIMAL', width, scale }, cell: sign === 0x4000 ? -unscaled : unscaled }
}

function malformed(number: number): SqlError {
  return new SqlError('22P03', `incorrect binary data format in bind parameter ${number}`)
}

function outOfRange(number: number): SqlError {
  return new SqlError('22008', `date or time of bind parameter ${number} is out of range`)
}

function unsupported(number: number, what: string): SqlError {
  return new SqlError('0A000', `no binary input for ${what} (parameter $${number})`, { hint: 'Send this parameter in text format.' })
}
