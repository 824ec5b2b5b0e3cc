/** Little-endian byte writer and reader of the journal's payloads, with LEB128 varints for lengths. */

/** Text below this length is first taken for ASCII: for short strings the way into Node's native code costs more than the loop. */
const shortText = 64

/** A buffer and its DataView, which V8 compiles to plain loads and stores (Buffer's own read and write methods are several times slower). */
function viewOf(buffer: Buffer): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength)
}

/** A value that does not fit is an error before the commit, never another value in the journal. */
function unfit(value: unknown, width: string): never {
  throw new RangeError(`${value} does not fit into ${width} of the journal`)
}

export class ByteWriter {
  #buffer: Buffer
  #view: DataView
  #length = 0

  constructor(capacity = 256) {
    this.#buffer = Buffer.allocUnsafe(capacity)
    this.#view = viewOf(this.#buffer)
  }

  get length(): number {
    return this.#length
  }

  get capacity(): number {
    return this.#buffer.length
  }

  /** What was written; a view that the next write may invalidate. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  /** A copy of what was written. */
  copy(): Buffer {
    const copy = Buffer.allocUnsafe(this.#length)
    this.#buffer.copy(copy, 0, 0, this.#length)
    return copy
  }

  /** Begins anew. */
  clear(): void {
    this.#length = 0
  }

  /** Makes room and returns the offset of the next `size` bytes. */
  #grow(size: number): number {
    const start = this.#length
    const end = start + size
    if (end > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(end, this.#buffer.length * 2))
      this.#buffer.copy(larger, 0, 0, start)
      this.#buffer = larger
      this.#view = viewOf(larger)
    }
    this.#length = end
    return start
  }

  u8(value: number): void {
    if ((value & 0xff) !== value) unfit(value, 'u8')
    const at = this.#grow(1)
    this.#view.setUint8(at, value)
  }
  i8(value: number): void {
    if ((value << 24) >> 24 !== value) unfit(value, 'i8')
    const at = this.#grow(1)
    this.#view.setInt8(at, value)
  }
  i16(value: number): void {
    if ((value << 16) >> 16 !== value) unfit(value, 'i16')
    const at = this.#grow(2)
    this.#view.setInt16(at, value, true)
  }
  u16(value: number): void {
    if ((value & 0xffff) !== value) unfit(value, 'u16')
    const at = this.#grow(2)
    this.#view.setUint16(at, value, true)
  }
  i32(value: number): void {
    if ((value | 0) !== value) unfit(value, 'i32')
    const at = this.#grow(4)
    this.#view.setInt32(at, value, true)
  }
  u32(value: number): void {
    if (value >>> 0 !== value) unfit(value, 'u32')
    const at = this.#grow(4)
    this.#view.setUint32(at, value, true)
  }
  i64(value: bigint): void {
    if (BigInt.asIntN(64, value) !== value) unfit(value, 'i64')
    const at = this.#grow(8)
    this.#view.setBigInt64(at, value, true)
  }
  u64(value: bigint): void {
    if (BigInt.asUintN(64, value) !== value) unfit(value, 'u64')
    const at = this.#grow(8)
    this.#view.setBigUint64(at, value, true)
  }
  f32(value: number): void {
    const at = this.#grow(4)
    this.#view.setFloat32(at, value, true)
  }
  f64(value: number): void {
    const at = this.#grow(8)
    this.#view.setFloat64(at, value, true)
  }

  /** Unsigned, up to 2^53 − 1. */
  varint(value: number): void {
    let rest = value
    while (rest >= 0x80) {
      this.u8((rest % 0x80) | 0x80)
      rest = Math.floor(rest / 0x80)
    }
    this.u8(rest)
  }

  raw(data: Uint8Array): void {
    const at = this.#grow(data.length)
    this.#buffer.set(data, at)
  }

  /** Length-prefixed bytes. */
  blob(data: Uint8Array): void {
    this.varint(data.length)
    this.raw(data)
  }

  /** Length-prefixed bytes, those of `data` from `start` to `end`. */
  part(data: Uint8Array, start: number, end: number): void {
    const size = end - start
    this.varint(size)
    const at = this.#grow(size)
    // For few bytes a view of them costs more than the loop.
    if (size >= shortText) this.#buffer.set(data.subarray(start, end), at)
    else for (let i = 0; i < size; i++) this.#buffer[at + i] = data[start + i] as number
  }

  /** Length-prefixed UTF-8. */
  text(value: string): void {
    if (value.length < shortText && this.#shortAscii(value)) return
    const size = Buffer.byteLength(value)
    this.varint(size)
    const at = this.#grow(size)
    this.#buffer.write(value, at, size, 'utf8')
  }

  /** False, with nothing written, when it is not ASCII. */
  #shortAscii(value: string): boolean {
    const size = value.length
    const at = this.#grow(size + 1)
    const view = this.#view
    view.setUint8(at, size)
    for (let i = 0; i < size; i++) {
      const code = value.charCodeAt(i)
      if (code >= 0x80) {
        this.#length = at
        return false
      }
      view.setUint8(at + 1 + i, code)
    }
    return true
  }
}

export class ByteReader {
  #buffer: Buffer
  #view: DataView
  #at: number

  constructor(buffer: Buffer, at = 0) {
    this.#buffer = buffer
    this.#view = viewOf(buffer)
    this.#at = at
  }

  get offset(): number {
    return this.#at
  }

  get done(): boolean {
    return this.#at >= this.#buffer.length
  }

  #take(size: number): number {
    const at = this.#at
    if (at + size > this.#buffer.length)
      throw new RangeError(`journal payload ends at byte ${this.#buffer.length}, ${size} more were expected at ${at}`)
    this.#at = at + size
    return at
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1))
  }
  i8(): number {
    return this.#view.getInt8(this.#take(1))
  }
  i16(): number {
    return this.#view.getInt16(this.#take(2), true)
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2), true)
  }
  i32(): number {
    return this.#view.getInt32(this.#take(4), true)
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), true)
  }
  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true)
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true)
  }
  f32(): number {
    return this.#view.getFloat32(this.#take(4), true)
  }
  f64(): number {
    return this.#view.getFloat64(this.#take(8), true)
  }

  varint(): number {
    let value = 0
    let scale = 1
    for (;;) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
      scale *= 0x80
    }
  }

  raw(size: number): Buffer {
    const at = this.#take(size)
    return this.#buffer.subarray(at, at + size)
  }

  blob(): Buffer {
    return this.raw(this.varint())
  }

  text(): string {
    const size = this.varint()
    const at = this.#take(size)
    return this.#buffer.toString('utf8', at, at + size)
  }
}
