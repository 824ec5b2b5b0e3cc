/**
 * Which blocks of a DuckDB file are live: all below block_count that its free list does not name. Sources: v1.5.5
 * single_file_block_manager.cpp (LoadFreeList, WriteHeader), metadata_manager.cpp, metadata_reader.cpp.
 *
 * A metadata block is a block whose payload (from byte 8) is 64 sub-blocks of floor((block size − 8) / 64 / 8) × 8 bytes. A metadata
 * pointer is a u64: low 56 bits block id, high 8 bits index of the sub-block. A stream begins at a pointer and goes on from sub-block to
 * sub-block: each starts with the pointer to the next (-1: the last), the rest is data; a value may straddle two of them.
 *
 * The free list is such a stream: u64 n, n × u64 free block ids (ascending); u64 m, m × (u64 id, u32 uses) for blocks used more than
 * once; u64 k, k × (u64 metadata block id, u64 bit mask of its free sub-blocks).
 */

import { type DatabaseHeader, noPointer } from './header.ts'

/** Thrown when the free list makes no sense although its checksums hold. */
export class BadFreeList extends Error {}

/** Reads a whole block, verified; the returned bytes stay valid. Throws whatever stands for a damaged block. */
export type ReadMetadataBlock = (blockId: number) => Promise<Buffer>

export interface BlockMap {
  /** Ascending. */
  readonly free: readonly number[]
  readonly metadata: ReadonlySet<number>
  readonly live: number
  /** Highest live block id + 1. */
  readonly liveEnd: number
  isFree(blockId: number): boolean
}

/** Parses the free list that `header` points to. Throws BadFreeList. */
export async function readBlockMap(header: DatabaseHeader, readBlock: ReadMetadataBlock): Promise<BlockMap> {
  if (header.freeList === noPointer) return createBlockMap(header, [], [])
  const stream = new MetadataStream(header, readBlock)
  const id = async (what: string) => {
    const value = await stream.u64()
    if (value >= BigInt(header.blockCount)) throw new BadFreeList(`names ${what} ${value} of ${header.blockCount} blocks`)
    return Number(value)
  }
  const count = async (what: string) => {
    const value = await stream.u64()
    if (value > BigInt(header.blockCount)) throw new BadFreeList(`claims ${value} ${what} of ${header.blockCount} blocks`)
    return Number(value)
  }
  const free: number[] = []
  for (let left = await count('free blocks'); left > 0; left--) {
    const blockId = await id('free block')
    if (blockId <= (free.at(-1) ?? -1)) throw new BadFreeList(`names free block ${blockId} after ${free.at(-1)}`)
    free.push(blockId)
  }
  for (let left = await count('shared blocks'); left > 0; left--) {
    await id('shared block')
    await stream.skip(4)
  }
  const metadata: number[] = []
  for (let left = await count('metadata blocks'); left > 0; left--) {
    metadata.push(await id('metadata block'))
    await stream.skip(8)
  }
  return createBlockMap(header, free, [...metadata, ...stream.blocks])
}

function createBlockMap(header: DatabaseHeader, free: number[], metadata: Iterable<number>): BlockMap {
  const freeSet = new Set(free)
  const metadataSet = new Set(metadata)
  for (const blockId of metadataSet) if (freeSet.has(blockId)) throw new BadFreeList(`names metadata block ${blockId} as free`)
  let liveEnd = header.blockCount
  while (liveEnd > 0 && freeSet.has(liveEnd - 1)) liveEnd--
  return { free, metadata: metadataSet, live: header.blockCount - free.length, liveEnd, isFree: (blockId) => freeSet.has(blockId) }
}

class MetadataStream {
  /** Ids of the blocks that the stream lies in. */
  readonly blocks = new Set<number>()
  #header: DatabaseHeader
  #readBlock: ReadMetadataBlock
  #subBlockBytes: number
  #next: bigint
  #seen = new Set<bigint>()
  #chunks: Buffer[] = []
  #buffered = 0
  #cached: { id: number; bytes: Buffer } | undefined

  constructor(header: DatabaseHeader, readBlock: ReadMetadataBlock) {
    this.#header = header
    this.#readBlock = readBlock
    this.#subBlockBytes = Math.floor((header.blockSize - 8) / 64 / 8) * 8
    this.#next = header.freeList
  }

  async u64(): Promise<bigint> {
    return (await this.#take(8)).readBigUInt64LE(0)
  }

  async skip(bytes: number): Promise<void> {
    await this.#take(bytes)
  }

  async #take(bytes: number): Promise<Buffer> {
    while (this.#buffered < bytes) await this.#readSubBlock()
    let chunk = this.#chunks[0] as Buffer
    if (chunk.length < bytes) {
      chunk = Buffer.concat(this.#chunks)
      this.#chunks = [chunk]
    }
    this.#chunks[0] = chunk.subarray(bytes)
    if (chunk.length === bytes) this.#chunks.shift()
    this.#buffered -= bytes
    return chunk.subarray(0, bytes)
  }

  async #readSubBlock(): Promise<void> {
    const pointer = this.#next
    if (pointer === noPointer) throw new BadFreeList('ends in the middle')
    // A chain that comes back to itself would never end.
    if (this.#seen.has(pointer)) throw new BadFreeList('runs in a circle')
    this.#seen.add(pointer)
    const id = pointer & 0x00ff_ffff_ffff_ffffn
    const index = Number(pointer >> 56n)
    if (id >= BigInt(this.#header.blockCount) || index > 63)
      throw new BadFreeList(`lies in sub-block ${index} of block ${id}, which does not exist`)
    const blockId = Number(id)
    if (this.#cached?.id !== blockId) this.#cached = { id: blockId, bytes: await this.#readBlock(blockId) }
    this.blocks.add(blockId)
    const start = 8 + index * this.#subBlockBytes
    this.#next = this.#cached.bytes.readBigUInt64LE(start)
    this.#chunks.push(this.#cached.bytes.subarray(start + 8, start + this.#subBlockBytes))
    this.#buffered += this.#subBlockBytes - 8
  }
}
