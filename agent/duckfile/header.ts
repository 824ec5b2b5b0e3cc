/**
 * The first 12 KiB of a DuckDB file, read without DuckDB. Little endian. Sources: src/storage/single_file_block_manager.cpp and
 * src/include/duckdb/storage/storage_info.hpp of DuckDB v1.5.5; every number was tried against files that 1.5.5 wrote.
 *
 *      0  main header, one page of 4096 bytes: u64 checksum of bytes 8…4095
 *           8 "DUCK" · 12 u64 storage version · 20 4 × u64 flags (bit 0 of the first: encrypted)
 *   4096  h1, 8192  h2: database headers, a page each: u64 checksum of bytes 8…4095, then u64s:
 *           8 iteration · 16 meta_block · 24 free_list · 32 block_count · 40 block size · 48 vector size · 56 serialization compatibility
 *  12288  block 0, block 1, … of block size each: u64 checksum of the rest of the block
 *
 * A checkpoint writes the header that is not active, with the next iteration. Active is h1 if h1.iteration > h2.iteration, else h2.
 * DuckDB verifies both when it opens a file: a bad inactive header makes the file as unopenable as a bad active one.
 * The last header field means something only when the storage version is not 64. In a file without any content both iterations are 0
 * and both pointers are -1.
 */

export const pageBytes = 4096
export const headerBytes = 3 * pageBytes
/** A pointer to nothing. */
export const noPointer = 0xffff_ffff_ffff_ffffn

/** Storage versions that this reader knows, with the first DuckDB release that writes them (storage_info.cpp). */
const storageVersions: Readonly<Record<number, string>> = { 64: 'v0.10.2', 65: 'v1.2.0', 66: 'v1.3.0', 67: 'v1.4.0', 68: 'v1.5.0' }

export interface MainHeader {
  /** Storage version, 64… */
  version: number
  encrypted: boolean
}

/** The active database header. */
export interface DatabaseHeader {
  version: number
  /** The first DuckDB release that writes this storage version. */
  storage: string
  /** Rises by one with each checkpoint. */
  iteration: number
  /** Blocks that the file has room for, free ones included. */
  blockCount: number
  /** Bytes. */
  blockSize: number
  /** Metadata pointer to the free list; -1 (noPointer): none. */
  freeList: bigint
}

/** Reads the main header's page; null when it is no DuckDB file's. The checksum is the caller's business. */
export function parseMainHeader(page: Buffer): MainHeader | null {
  if (page.toString('latin1', 8, 12) !== 'DUCK') return null
  return { version: Number(page.readBigUInt64LE(12)), encrypted: (page.readUInt8(20) & 1) === 1 }
}

/** The active one of h1 and h2, or in words why this reader does not understand it. Checksums are the caller's business. */
export function parseDatabaseHeader(version: number, pages: Buffer): DatabaseHeader | string {
  const storage = storageVersions[version]
  if (storage === undefined) return `storage version ${version} is unknown here (known: ${Object.keys(storageVersions).join(', ')})`
  const word = (header: number, field: number) => pages.readBigUInt64LE(header * pageBytes + 8 + field * 8)
  const active = word(1, 0) > word(2, 0) ? 1 : 2
  // 0 stands for the default in files of old releases.
  const blockSize = Number(word(active, 4)) || 262144
  const vectorSize = Number(word(active, 5)) || 2048
  if (blockSize < 16384 || blockSize > 262144 || (blockSize & (blockSize - 1)) !== 0)
    return `a block size of ${blockSize} bytes is unknown here`
  if (vectorSize !== 2048) return `a vector size of ${vectorSize} is unknown here`
  const blockCount = word(active, 3)
  if (blockCount > 1n << 34n) return `${blockCount} blocks are more than this reader takes`
  return { version, storage, iteration: Number(word(active, 0)), blockCount: Number(blockCount), blockSize, freeList: word(active, 2) }
}

/** Where a block begins, in bytes. */
export function blockOffset(header: Pick<DatabaseHeader, 'blockSize'>, blockId: number): number {
  return headerBytes + blockId * header.blockSize
}
