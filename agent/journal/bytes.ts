/** Little-endian byte writer and reader of the journal's payloads, with LEB128 varints for lengths. */

export class ByteWriter {
  #buffer: Buffer
  #length = 0

  constructor(capacity = 256) {
    this.#buffer = Buffer.allocUnsafe(capacity)
  }

  get length(): number {
    return this.#length
  }

  /** What was written; a view that the next write may invalidate. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  /** Makes room and returns the offset of the next `size` bytes. */
  #grow(size: number): number {
    const start = this.#length
    const end = start + size
    if (end > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(end, this.#buffer.length * 2))
      this.#buffer.copy(larger, 0, 0, start)
      this.#buffer = larger
    }
    this.#length = end
    return start
  }

  u8(value: number): void {
    const at = this.#grow(1)
    this.#buffer[at] = value
  }
  i8(value: number): void {
    const at = this.#grow(1)
    this.#buffer.writeInt8(value, at)
  }
  i16(value: number): void {
    const at = this.#grow(2)
    this.#buffer.writeInt16LE(value, at)
  }
  u16(value: number): void {
    const at = this.#grow(2)
    this.#buffer.writeUInt16LE(value, at)
  }
  i32(value: number): void {
    const at = this.#grow(4)
    this.#buffer.writeInt32LE(value, at)
  }
  u32(value: number): void {
    const at = this.#grow(4)
    this.#buffer.writeUInt32LE(value, at)
  }
  i64(value: bigint): void {
    const at = this.#grow(8)
    this.#buffer.writeBigInt64LE(value, at)
  }
  u64(value: bigint): void {
    const at = this.#grow(8)
    this.#buffer.writeBigUInt64LE(value, at)
  }
  f32(value: number): void {
    const at = this.#grow(4)
    this.#buffer.writeFloatLE(value, at)
  }
  f64(value: number): void {
    const at = this.#grow(8)
    this.#buffer.writeDoubleLE(value, at)
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

  /** Length-prefixed UTF-8. */
  text(value: string): void {
    const size = Buffer.byteLength(value)
    this.varint(size)
    const at = this.#grow(size)
    this.#buffer.write(value, at, size, 'utf8')
  }
}

export class ByteReader {
  #buffer: Buffer
  #at: number

  constructor(buffer: Buffer, at = 0) {
    this.#buffer = buffer
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
    if (at + size > this.#buffer.length) throw new RangeError(`journal payload ends at byte ${this.#buffer.length}, ${size} more were expected at ${at}`)
    this.#at = at + size
    return at
  }

  u8(): number {
    return this.#buffer[this.#take(1)] as number
  }
  i8(): number {
    return this.#buffer.readInt8(this.#take(1))
  }
  i16(): number {
    return this.#buffer.readInt16LE(this.#take(2))
  }
  u16(): number {
    return this.#buffer.readUInt16LE(this.#take(2))
  }
  i32(): number {
    return this.#buffer.readInt32LE(this.#take(4))
  }
  u32(): number {
    return this.#buffer.readUInt32LE(this.#take(4))
  }
  i64(): bigint {
    return this.#buffer.readBigInt64LE(this.#take(8))
  }
  u64(): bigint {
    return this.#buffer.readBigUInt64LE(this.#take(8))
  }
  f32(): number {
    return this.#buffer.readFloatLE(this.#take(4))
  }
  f64(): number {
    return this.#buffer.readDoubleLE(this.#take(8))
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
    return this.blob().toString('utf8')
  }
}
