/**
 * DuckDB's checksum of a header page or a block (src/common/checksum.cpp, v1.5):
 *
 *   r = 5381; for each little-endian 64-bit word w: r ^= w * 0xbf58476d1ce4e5b9   (mod 2^64)
 *
 * A block's first word holds the checksum of all its other words. It finds every single changed word (the factor is odd, so the
 * product differs), but it ignores the order of words and their place: swapped words, a block written in another's place and an old
 * version of a block all pass. What it can't see, nothing here can.
 *
 * JavaScript has no fast 64-bit product (BigInt 0.15 GB/s), WebAssembly has (23 GB/s on one core of a small VM): this is the one loop in it.
 * The data is read straight into the module's memory.
 */

// biome-ignore format: one instruction a line
const wasm = Uint8Array.of(
  0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0, // "\0asm", version 1
  1, 7, 1, 0x60, 2, 0x7f, 0x7f, 1, 0x7e, // type 0: (i32 $at, i32 $end) → i64
  3, 2, 1, 0, // function 0 has type 0
  5, 4, 1, 1, 16, 16, // memory 0: 16 pages of 64 KiB, never grows
  7, 21, 2, 6, 0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79, 2, 0, // export "memory"
  8, 0x63, 0x68, 0x65, 0x63, 0x6b, 0x73, 0x75, 0x6d, 0, 0, // export "checksum"
  10, 54, 1, 52, // code of function 0
  1, 2, 0x7e, // locals: i64 $r, i64 $factor
  0x42, 0x85, 0x2a, 0x21, 2, // $r = i64.const 5381
  0x42, 0xb9, 0xcb, 0x93, 0xe7, 0xd1, 0xed, 0x91, 0xac, 0xbf, 0x7f, 0x21, 3, // $factor = i64.const 0xbf58476d1ce4e5b9
  0x03, 0x40, // loop
  0x20, 2, 0x20, 0, 0x29, 3, 0, // $r, i64.load ($at)
  0x20, 3, 0x7e, 0x85, 0x21, 2, // i64.mul $factor, i64.xor, → $r
  0x20, 0, 0x41, 8, 0x6a, 0x22, 0, // $at = $at + 8
  0x20, 1, 0x49, 0x0d, 0, // br_if loop ($at < $end, unsigned)
  0x0b, 0x20, 2, 0x0b, // end; return $r
)

/** Bytes that one buffer holds; a multiple of every block size. */
export const bufferBytes = 1024 * 1024

/** A buffer of 1 MiB whose parts can be checked in place. Each belongs to one scan or copy: they run side by side. */
export interface ChecksumBuffer {
  readonly bytes: Buffer
  /** The stored and the computed checksum of the page or block at `start`, `length` bytes long (a multiple of 8, at least 16). */
  check(start: number, length: number): { expected: bigint; found: bigint }
}

/** The part of WebAssembly's API that is used here; the compiler knows it only together with the browser's. */
interface WasmApi {
  Module: new (code: Uint8Array) => object
  Instance: new (module: object) => { exports: { memory: { buffer: ArrayBuffer }; checksum(at: number, end: number): bigint } }
}

const wasmApi = (globalThis as unknown as { WebAssembly: WasmApi }).WebAssembly
let compiled: object | undefined
/** Not in use. */
const idle: ChecksumBuffer[] = []
/** Kept of those: a scan and a copy beside it. A new one for each would have V8 collect garbage, by all its threads, after every few. */
const mostIdle = 2

/** To be given back when nobody uses it any more. Its content is what the last user left. */
export function takeChecksumBuffer(): ChecksumBuffer {
  return idle.pop() ?? create()
}

export function giveChecksumBuffer(buffer: ChecksumBuffer): void {
  if (idle.length < mostIdle) idle.push(buffer)
}

function create(): ChecksumBuffer {
  compiled ??= new wasmApi.Module(wasm)
  const { memory, checksum } = new wasmApi.Instance(compiled).exports
  const bytes = Buffer.from(memory.buffer)
  return {
    bytes,
    check: (start, length) => ({
      expected: bytes.readBigUInt64LE(start),
      found: BigInt.asUintN(64, checksum(start + 8, start + length)),
    }),
  }
}
