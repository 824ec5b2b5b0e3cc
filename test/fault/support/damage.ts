/** What a failing disk or a stray write does: one flipped bit, in a place that matters. */

import fs from 'node:fs'
import { readBlockMap } from '../../../agent/duckfile/freelist.ts'
import { blockOffset, headerBytes, pageBytes, parseDatabaseHeader, parseMainHeader } from '../../../agent/duckfile/header.ts'
import type { Random } from '../../support/random.ts'

/** A part of a DuckDB file: all of it is covered by one checksum. */
export interface Place {
  what: string
  offset: number
  length: number
}

/** The three header pages and every live block of a file that no checkpoint is changing, by kind. */
export async function placesOf(file: string): Promise<{ headers: Place[]; metadata: Place[]; data: Place[] }> {
  const bytes = fs.readFileSync(file)
  const main = parseMainHeader(bytes.subarray(0, headerBytes))
  if (main === null) throw new Error(`${file} is no DuckDB file`)
  const header = parseDatabaseHeader(main.version, bytes.subarray(0, headerBytes))
  if (typeof header === 'string') throw new Error(header)
  const at = (block: number) => blockOffset(header, block)
  const map = await readBlockMap(header, async (block) => bytes.subarray(at(block), at(block) + header.blockSize))
  const live = Array.from({ length: map.liveEnd }, (_, block) => block).filter((block) => !map.isFree(block))
  const place = (block: number) => ({
    what: `${map.metadata.has(block) ? 'metadata' : 'data'} block ${block}`,
    offset: at(block),
    length: header.blockSize,
  })
  return {
    headers: ['main header', 'header 1', 'header 2'].map((what, i) => ({ what, offset: i * pageBytes, length: pageBytes })),
    metadata: live.filter((block) => map.metadata.has(block)).map(place),
    data: live.filter((block) => !map.metadata.has(block)).map(place),
  }
}

/** Flips one bit of the place, any of them; resolves with where. */
export function flipIn(file: string, place: Place, random: Random): { offset: number; bit: number } {
  const offset = place.offset + random.int(0, place.length - 1)
  const bit = random.int(0, 7)
  flipBit(file, offset, bit)
  return { offset, bit }
}

export function flipBit(file: string, offset: number, bit: number): void {
  const fd = fs.openSync(file, 'r+')
  try {
    const byte = Buffer.alloc(1)
    fs.readSync(fd, byte, 0, 1, offset)
    fs.writeSync(fd, Buffer.from([(byte[0] as number) ^ (1 << bit)]), 0, 1, offset)
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** What DuckDB writes into `.wal` while it checkpoints a file that it attached with NO_WAL_WRITES; the identifier in it is some database's. */
export const checkpointNote = Buffer.from(
  '6400626500026600107e7f709c011b2701cc0184012b9601e501b90171ca017e670002ffff0c00000000000000e38edf040cf9be63' +
    '6400636500650008ffffffff0500000000000000e7fe7d722fed3d5e640064ffff',
  'hex',
)
