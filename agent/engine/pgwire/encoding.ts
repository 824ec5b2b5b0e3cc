/** Values onto the wire: one encoder per column and format, chosen once per result. Binary forms are those of Postgres' *_send functions. */

import type { Cell, ColumnType, Interval } from '../../journal/types.ts'
import { SqlError } from '../sql-error.ts'
import { arrayEncoder } from './arrays.ts'
import { commonPlaces, scaledToPlaces, zeroPlaces } from './digits.ts'
import type { MessageWriter } from './messages.ts'
import { floorDivide, infiniteDate, infiniteTimestamp, unpackTimeTz } from './temporal.ts'
import { decimalText, printerOf, scaled } from './text.ts'
import { timestampBytes } from './timestamps.ts'
import { arrayOidOf, elementOf, isJson, oidOf, typeName } from './types.ts'

/** 0 text, 1 binary. */
export type Format = 0 | 1

/** Writes the length and bytes of a value that is not null. */
export type Encoder = (writer: MessageWriter, cell: Cell) => void

/** Days and microseconds from 1970-01-01 to Postgres' epoch, 2000-01-01. */
export const epochDays = 10_957
export const epochMicros = 946_684_800_000_000n

/** Throws 0A000 for a type that has no binary form here. */
export function encoderOf(type: ColumnType, format: Format): Encoder {
  return format === 0 ? textEncoderOf(type) : binaryEncoderOf(type)
}

function textEncoderOf(type: ColumnType): Encoder {
  switch (type.kind) {
    case 'VARCHAR':
    case 'ENUM':
      return (writer, cell) => writer.sizedUtf8(cell as string)
    case 'LIST':
    case 'ARRAY':
    case 'STRUCT':
    case 'MAP':
    case 'UNION':
    case 'SQLNULL': {
      const print = printerOf(type)
      return (writer, cell) => writer.sizedUtf8(print(cell))
    }
    case 'TINYINT':
    case 'SMALLINT':
    case 'INTEGER':
    case 'UTINYINT':
    case 'USMALLINT':
    case 'UINTEGER':
      return (writer, cell) => writer.sizedDecimal(cell as number, 0)
    case 'BIGINT':
    case 'UBIGINT':
    case 'DECIMAL': {
      const print = printerOf(type)
      const scale = type.kind === 'DECIMAL' ? type.scale : 0
      return (writer, cell) => {
        const value = Number(cell)
        if (Number.isSafeInteger(value)) writer.sizedDecimal(value, scale)
        else writer.sizedAscii(print(cell))
      }
    }
    case 'DOUBLE': {
      const print = printerOf(type)
      return (writer, cell) => {
        const scaled = scaledToPlaces(cell as number)
        if (scaled === undefined) return writer.sizedAscii(print(cell))
        const zeros = zeroPlaces(scaled)
        writer.sizedDecimal(scaled / (powers[zeros] as number), commonPlaces - zeros)
      }
    }
    case 'TIMESTAMP': {
      const print = printerOf(type)
      return (writer, cell) => {
        const micros = Number(cell)
        const length = timestampBytes(micros)
        if (length === undefined) writer.sizedAscii(print(BigInt(cell as bigint)))
        else writer.sizedTimestamp(micros, length)
      }
    }
    default: {
      const print = printerOf(type)
      return (writer, cell) => writer.sizedAscii(print(cell))
    }
  }
}

const powers = Array.from({ length: commonPlaces + 1 }, (_, i) => 10 ** i)

function binaryEncoderOf(type: ColumnType): Encoder {
  switch (type.kind) {
    case 'BOOLEAN':
      return sized(1, (writer, cell) => writer.uint8(cell ? 1 : 0))
    case 'TINYINT':
    case 'SMALLINT':
    case 'UTINYINT':
      return sized(2, (writer, cell) => writer.int16(Number(cell)))
    case 'INTEGER':
    case 'USMALLINT':
      return sized(4, (writer, cell) => writer.int32(Number(cell)))
    case 'BIGINT':
    case 'UINTEGER':
      return sized(8, (writer, cell) => writer.int64(BigInt(cell as bigint)))
    case 'HUGEINT':
    case 'UBIGINT':
    case 'UHUGEINT':
    case 'BIGNUM':
      return (writer, cell) => numeric(writer, cell as bigint, 0)
    case 'DECIMAL':
      return (writer, cell) => numeric(writer, cell as bigint, type.scale)
    case 'FLOAT':
      return sized(4, (writer, cell) => writer.float32(cell as number))
    case 'DOUBLE':
      return sized(8, (writer, cell) => writer.float64(cell as number))
    case 'VARCHAR':
    case 'ENUM':
      return textEncoderOf(type)
    case 'BLOB':
      return (writer, cell) => {
        writer.int32((cell as Uint8Array).length)
        writer.bytes(cell as Uint8Array)
      }
    case 'BIT':
      return (writer, cell) => {
        const bits = cell as string
        const bytes = Math.ceil(bits.length / 8)
        writer.int32(4 + bytes)
        writer.int32(bits.length)
        for (let i = 0; i < bytes; i++) writer.uint8(Number.parseInt(bits.slice(i * 8, i * 8 + 8).padEnd(8, '0'), 2))
      }
    case 'UUID':
      return sized(16, (writer, cell) => writer.bytes(Buffer.from((cell as string).replaceAll('-', ''), 'hex')))
    case 'DATE':
      return sized(4, (writer, cell) => writer.int32(binaryDate(cell as number)))
    case 'TIME':
      return sized(8, (writer, cell) => writer.int64(cell as bigint))
    case 'TIME_NS':
      return sized(8, (writer, cell) => writer.int64((cell as bigint) / 1000n))
    case 'TIMETZ':
      return sized(12, (writer, cell) => {
        const { micros, offset } = unpackTimeTz(cell as bigint)
        writer.int64(micros)
        writer.int32(-offset)
      })
    case 'TIMESTAMP':
    case 'TIMESTAMPTZ':
      return sized(8, (writer, cell) => writer.int64(binaryTimestamp(cell as bigint)))
    case 'TIMESTAMP_S':
      return sized(8, (writer, cell) => writer.int64(binaryTimestamp(scaled(cell as bigint, 1_000_000n))))
    case 'TIMESTAMP_MS':
      return sized(8, (writer, cell) => writer.int64(binaryTimestamp(scaled(cell as bigint, 1000n))))
    case 'TIMESTAMP_NS':
      return sized(8, (writer, cell) => {
        const nanos = cell as bigint
        const infinite = nanos === infiniteTimestamp || nanos === -infiniteTimestamp
        writer.int64(binaryTimestamp(infinite ? nanos : floorDivide(nanos, 1000n)))
      })
    case 'INTERVAL':
      return sized(16, (writer, cell) => {
        const { micros, days, months } = cell as Interval
        writer.int64(micros)
        writer.int32(days)
        writer.int32(months)
      })
    case 'SQLNULL':
      return textEncoderOf(type)
    default:
      // json_send is the text itself.
      if (isJson(type)) return textEncoderOf(type)
      if (type.kind === 'LIST' || type.kind === 'ARRAY') {
        const element = elementOf(type)
        if (arrayOidOf(oidOf(element)) !== 0) return arrayEncoder(type, oidOf(element), binaryEncoderOf(element))
      }
      throw new SqlError('0A000', `no binary output for type ${typeName(type)}`, {
        hint: 'Ask for this column in text format, or cast it to VARCHAR.',
      })
  }
}

function sized(length: number, write: Encoder): Encoder {
  return (writer, cell) => {
    writer.int32(length)
    write(writer, cell)
  }
}

function binaryDate(days: number): number {
  if (days >= infiniteDate) return 0x7fff_ffff
  if (days <= -infiniteDate) return -0x8000_0000
  return days - epochDays
}

function binaryTimestamp(micros: bigint): bigint {
  if (micros >= infiniteTimestamp) return infiniteTimestamp
  if (micros <= -infiniteTimestamp) return -infiniteTimestamp - 1n
  const value = micros - epochMicros
  if (value <= -infiniteTimestamp) throw new SqlError('22008', 'timestamp out of range for the binary format')
  return value
}

/** numeric_send: digits in base 10000; `weight` is the exponent of the first one. */
function numeric(writer: MessageWriter, unscaled: bigint, scale: number): void {
  const text = decimalText(unscaled < 0n ? -unscaled : unscaled, scale)
  const point = scale === 0 ? text.length : text.length - scale - 1
  const whole = text.slice(0, point)
  const fraction = text.slice(point + 1)
  const digits = whole.padStart(Math.ceil(whole.length / 4) * 4, '0') + fraction.padEnd(Math.ceil(fraction.length / 4) * 4, '0')
  let first = 0
  let last = digits.length / 4
  let weight = Math.ceil(whole.length / 4) - 1
  const group = (i: number) => Number(digits.slice(i * 4, i * 4 + 4))
  while (last > 0 && group(last - 1) === 0) last--
  while (first < last && group(first) === 0) {
    first++
    weight--
  }
  writer.int32(8 + (last - first) * 2)
  writer.int16(last - first)
  writer.int16(first === last ? 0 : weight)
  writer.uint16(unscaled < 0n ? 0x4000 : 0)
  writer.int16(scale)
  for (let i = first; i < last; i++) writer.int16(group(i))
}
