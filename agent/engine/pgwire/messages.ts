/**
 * The framing of PostgreSQL protocol 3.0: messages are read in place from one buffer per connection and written into
 * another. https://www.postgresql.org/docs/15/protocol-message-formats.html
 */

import { isUtf8 } from 'node:buffer'
import { protocolViolation, SqlError } from '../sql-error.ts'
import { decimalBytes, writeDecimal } from './digits.ts'
import { writeTimestamp } from './timestamps.ts'

/** Type bytes of the messages that a client sends. */
export const Frontend = {
  bind: 0x42,
  close: 0x43,
  copyData: 0x64,
  copyDone: 0x63,
  copyFail: 0x66,
  describe: 0x44,
  execute: 0x45,
  flush: 0x48,
  functionCall: 0x46,
  parse: 0x50,
  password: 0x70,
  query: 0x51,
  sync: 0x53,
  terminate: 0x58,
} as const

/** Type bytes of the messages that the server sends. */
export const Server = {
  authentication: 0x52,
  backendKeyData: 0x4b,
  bindComplete: 0x32,
  closeComplete: 0x33,
  commandComplete: 0x43,
  copyIn: 0x47,
  copyOut: 0x48,
  copyData: 0x64,
  copyDone: 0x63,
  dataRow: 0x44,
  emptyQuery: 0x49,
  error: 0x45,
  negotiateVersion: 0x76,
  noData: 0x6e,
  notice: 0x4e,
  parameterDescription: 0x74,
  parameterStatus: 0x53,
  parseComplete: 0x31,
  portalSuspended: 0x73,
  readyForQuery: 0x5a,
  rowDescription: 0x54,
} as const

const maxMessage = 1024 * 1024 * 1024
/** As in Postgres: only messages that carry SQL or values may be long, so that garbage is told at once. */
const maxSmallMessage = 10_000
const maxStartup = 10_000
const nothing = Buffer.alloc(0)

/** The longest message of each type; 0: no such type. */
const limits = new Uint32Array(256)
for (const type of Object.values(Frontend)) limits[type] = maxSmallMessage
for (const type of [Frontend.query, Frontend.parse, Frontend.bind, Frontend.functionCall, Frontend.copyData, Frontend.copyFail])
  limits[type] = maxMessage

/**
 * Finds messages in a byte stream. After `next` the fields of that message are read in order; a read past its end, and
 * `finish` before it, are protocol violations (FATAL). Slices are valid until the next `push`.
 */
export class MessageReader {
  private buffer: Buffer = nothing
  private start = 0
  private end = 0
  /** Whether `buffer` is ours to write to (the first chunk of a connection that keeps up is parsed where it lies). */
  private owned = false
  private position = 0
  private limit = 0

  /** Bytes received and not yet handed out as messages. */
  get buffered(): number {
    return this.end - this.start
  }

  push(data: Buffer): void {
    const kept = this.end - this.start
    if (kept === 0) {
      this.buffer = data
      this.start = 0
      this.end = data.length
      this.owned = false
      return
    }
    if (!this.owned || this.buffer.length - this.end < data.length) {
      const needed = kept + data.length
      const target =
        this.owned && this.buffer.length >= needed && this.start >= kept ? this.buffer : Buffer.allocUnsafe(Math.max(16_384, needed * 2))
      this.buffer.copy(target, 0, this.start, this.end)
      this.buffer = target
      this.owned = true
      this.start = 0
      this.end = kept
    }
    data.copy(this.buffer, this.end)
    this.end += data.length
  }

  /** The type byte of the next whole message, 0 when there is none yet. */
  next(): number {
    const buffered = this.end - this.start
    if (buffered === 0) return 0
    const type = this.buffer[this.start]!
    const limit = limits[type]!
    if (limit === 0) throw protocolViolation(`invalid frontend message type ${type}`)
    if (buffered < 5) return 0
    const length = this.buffer.readUInt32BE(this.start + 1)
    if (length < 4 || length > limit)
      throw protocolViolation(`invalid message length ${length} of message type "${String.fromCharCode(type)}"`)
    if (buffered < length + 1) return 0
    this.position = this.start + 5
    this.start += length + 1
    this.limit = this.start
    return type
  }

  /** The type byte of the message behind the one being read, 0 when it has not arrived. Only a hint: it is not checked yet. */
  get following(): number {
    return this.end - this.start >= 5 ? (this.buffer[this.start] ?? 0) : 0
  }

  /** Whether a whole startup packet is there (no type byte: StartupMessage, SSLRequest, CancelRequest). */
  nextStartup(): boolean {
    const buffered = this.end - this.start
    if (buffered < 4) return false
    const length = this.buffer.readUInt32BE(this.start)
    if (length < 8 || length > maxStartup) throw protocolViolation(`invalid length ${length} of startup packet`)
    if (buffered < length) return false
    this.position = this.start + 4
    this.start += length
    this.limit = this.start
    return true
  }

  /** Bytes of the message not read yet. */
  get remaining(): number {
    return this.limit - this.position
  }

  /** The message must have been read to its end. */
  finish(): void {
    if (this.position !== this.limit) throw protocolViolation('invalid message format: extra bytes at its end')
  }

  uint8(): number {
    return this.buffer[this.take(1)]!
  }

  int16(): number {
    return this.buffer.readInt16BE(this.take(2))
  }

  uint16(): number {
    return this.buffer.readUInt16BE(this.take(2))
  }

  int32(): number {
    return this.buffer.readInt32BE(this.take(4))
  }

  uint32(): number {
    return this.buffer.readUInt32BE(this.take(4))
  }

  /** A view, not a copy. */
  bytes(length: number): Buffer {
    return this.bytesAt(this.skip(length), length)
  }

  /** Where the next `length` bytes lie, for `textAt` and `bytesAt`: of most, views are never needed. */
  skip(length: number): number {
    if (length < 0) throw protocolViolation('invalid message format: negative length')
    return this.take(length)
  }

  bytesAt(start: number, length: number): Buffer {
    return this.buffer.subarray(start, start + length)
  }

  /** Throws as `utf8` does. */
  textAt(start: number, length: number): string {
    return utf8(this.buffer, start, start + length)
  }

  /** Text up to a zero byte. Throws 22021 when it is not UTF-8. */
  cstring(): string {
    const zero = this.buffer.indexOf(0, this.position)
    if (zero < 0 || zero >= this.limit) throw protocolViolation('invalid message format: unterminated string')
    const start = this.position
    this.position = zero + 1
    return start === zero ? '' : utf8(this.buffer, start, zero)
  }

  private take(length: number): number {
    const at = this.position
    if (at + length > this.limit) throw protocolViolation('invalid message format: insufficient data left in message')
    this.position = at + length
    return at
  }
}

/** Decodes text as Postgres would take it. Throws 22021 instead of putting U+FFFD in place of what is not UTF-8. */
export function utf8(bytes: Buffer, start = 0, end = bytes.length): string {
  const text = bytes.toString('utf8', start, end)
  if (text.includes('\ufffd') && !isUtf8(bytes.subarray(start, end)))
    throw new SqlError('22021', 'invalid byte sequence for encoding "UTF8"')
  if (text.includes('\0')) throw new SqlError('22021', 'invalid byte sequence for encoding "UTF8": 0x00')
  return text
}

const firstBlock = 16 * 1024
const lastBlock = 128 * 1024

/** Builds messages back to back: `begin(type)`, fields, `finish()`; `take()` hands over what is there. */
export class MessageWriter {
  private buffer: Buffer = nothing
  private start = 0
  private end = 0
  private header = 0
  private block = firstBlock

  /** Bytes not taken yet. */
  get length(): number {
    return this.end - this.start
  }

  begin(type: number): void {
    this.reserve(5)
    this.buffer[this.end] = type
    this.header = this.end + 1
    this.end += 5
  }

  finish(): void {
    this.putInt32(this.end - this.header, this.header)
  }

  /** Drops the message begun last: what follows must not be preceded by half of it. */
  abandon(): void {
    this.end = this.header - 1
  }

  /** A whole message without fields. */
  empty(type: number): void {
    this.begin(type)
    this.finish()
  }

  uint8(value: number): void {
    this.reserve(1)
    this.buffer[this.end++] = value
  }

  int16(value: number): void {
    this.reserve(2)
    this.end = this.buffer.writeInt16BE(value, this.end)
  }

  uint16(value: number): void {
    this.reserve(2)
    this.end = this.buffer.writeUInt16BE(value, this.end)
  }

  int32(value: number): void {
    this.reserve(4)
    this.putInt32(value, this.end)
    this.end += 4
  }

  uint32(value: number): void {
    this.reserve(4)
    this.end = this.buffer.writeUInt32BE(value, this.end)
  }

  int64(value: bigint): void {
    this.reserve(8)
    this.end = this.buffer.writeBigInt64BE(value, this.end)
  }

  float32(value: number): void {
    this.reserve(4)
    this.end = this.buffer.writeFloatBE(value, this.end)
  }

  float64(value: number): void {
    this.reserve(8)
    this.end = this.buffer.writeDoubleBE(value, this.end)
  }

  bytes(value: Uint8Array): void {
    this.reserve(value.length)
    this.buffer.set(value, this.end)
    this.end += value.length
  }

  /** Zero-terminated; a zero byte inside is left out, since the wire can't carry it. */
  cstring(text: string): void {
    this.utf8(text.includes('\0') ? text.replaceAll('\0', '') : text)
    this.uint8(0)
  }

  /** Without length or terminator. */
  utf8(text: string): void {
    this.reserve(text.length < 4096 ? text.length * 3 : Buffer.byteLength(text))
    this.end += this.buffer.write(text, this.end, 'utf8')
  }

  /** Length (int32) and text. */
  sizedUtf8(text: string): void {
    const at = this.beginSized()
    this.utf8(text)
    this.endSized(at)
  }

  /** Length (int32) and text that is known to be ASCII: numbers, dates. Faster than a call into native code for short ones. */
  sizedAscii(text: string): void {
    const length = text.length
    this.int32(length)
    this.reserve(length)
    const { buffer, end } = this
    if (length > 40) buffer.write(text, end, 'latin1')
    else for (let i = 0; i < length; i++) buffer[end + i] = text.charCodeAt(i)
    this.end = end + length
  }

  /** Length (int32) and text of `unscaled` × 10^-scale; a safe integer. */
  sizedDecimal(unscaled: number, scale: number): void {
    const length = decimalBytes(unscaled, scale)
    this.int32(length)
    this.reserve(length)
    writeDecimal(this.buffer, this.end, length, unscaled, scale)
    this.end += length
  }

  /** Length (int32) and text of a time in microseconds since 1970, of so many bytes (timestampBytes). */
  sizedTimestamp(micros: number, length: number): void {
    this.int32(length)
    this.reserve(length)
    writeTimestamp(this.buffer, this.end, length, micros)
    this.end += length
  }

  /** Opens a value whose length (int32) is written by `endSized`. The mark stays valid when the buffer grows. */
  beginSized(): number {
    this.reserve(4)
    this.end += 4
    return this.end - this.start
  }

  endSized(mark: number): void {
    const at = mark + this.start
    this.putInt32(this.end - at, at - 4)
  }

  /** Everything since the last `take`, undefined when nothing. The bytes are not written to again. */
  take(): Buffer | undefined {
    if (this.end === this.start) return undefined
    const bytes = this.buffer.subarray(this.start, this.end)
    this.start = this.end
    return bytes
  }

  /** As Buffer's own method does, several times faster: each row has many lengths. */
  private putInt32(value: number, at: number): void {
    const { buffer } = this
    buffer[at] = value >> 24
    buffer[at + 1] = value >> 16
    buffer[at + 2] = value >> 8
    buffer[at + 3] = value
  }

  private reserve(length: number): void {
    if (this.buffer.length - this.end >= length) return
    const kept = this.end - this.start
    if (kept > 0) this.block = Math.min(lastBlock, this.block * 2)
    const grown = Buffer.allocUnsafeSlow(Math.max(this.block, kept === 0 ? length : (kept + length) * 2))
    this.buffer.copy(grown, 0, this.start, this.end)
    this.header -= this.start
    this.buffer = grown
    this.start = 0
    this.end = kept
  }
}
