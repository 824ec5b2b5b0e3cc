/** One byte of a database file, flipped where it hurts: what a failing disk or a stray write does. */

import fs from 'node:fs'
import { openForWriting, syncOpen, writeAll } from '../disk.ts'
import { BadFreeList, readBlockMap } from '../duckfile/freelist.ts'
import { blockOffset, headerBytes, pageBytes, parseDatabaseHeader, parseMainHeader } from '../duckfile/header.ts'

export interface Damage {
  block: number
  /** Byte offset in the file. */
  offset: number
}

/**
 * Flips the lowest bit of one byte in a block that holds table data; null when the file has no such block (yet), or is
 * being checkpointed. `choice` picks among the blocks, so that another attempt can take another one.
 */
export async function flipByte(file: string, choice: number): Promise<Damage | null> {
  const fd = openForWriting(file, 'r+', 'DEMO:DAMAGE')
  try {
    const pages = readAt(fd, 0, headerBytes)
    const main = parseMainHeader(pages)
    const header = main === null ? 'no DuckDB file' : parseDatabaseHeader(main.version, pages)
    if (typeof header === 'string') return null
    const map = await readBlockMap(header, async (block) => readAt(fd, blockOffset(header, block), header.blockSize))
    const blocks = Array.from({ length: map.liveEnd }, (_, block) => block).filter(
      (block) => !map.isFree(block) && !map.metadata.has(block),
    )
    const block = blocks[choice % blocks.length]
    if (block === undefined) return null
    const offset = blockOffset(header, block) + pageBytes
    const byte = readAt(fd, offset, 1)
    writeAll(fd, Uint8Array.of((byte[0] as number) ^ 1), offset, 'DEMO:DAMAGE')
    syncOpen(fd, 'DEMO:DAMAGE')
    return { block, offset }
  } catch (error) {
    if (error instanceof BadFreeList || error instanceof RangeError) return null
    throw error
  } finally {
    fs.closeSync(fd)
  }
}

function readAt(fd: number, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length)
  const read = fs.readSync(fd, buffer, 0, length, position)
  if (read < length) throw new RangeError(`the file ends at ${position + read}`)
  return buffer
}
