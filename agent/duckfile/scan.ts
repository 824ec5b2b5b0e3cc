/**
 * Verifies a DuckDB file without DuckDB: the main header, both database headers, the free list and every live block.
 * Free blocks and whatever lies past the last live block are left alone: there, torn writes are normal.
 *
 * Between two checkpoints the live blocks never change, so a scan beside a busy engine is exact as long as the headers stay the same. If
 * they change, the scan begins again; if they always do, the verdict is 'inconclusive'. 'clean' says: all of it was read, all of it
 * verified, at one iteration. What DuckDB's checksum can't see (agent/duckfile/checksum.ts) is not seen here either; nor is a bad sector
 * below a page that the operating system still has in its cache.
 */

import { statSync } from 'node:fs'
import { systemClock } from '../clock.ts'
import type { BlockMap } from './freelist.ts'
import type { DatabaseHeader } from './header.ts'
import {
  blocksPerRead,
  type Damage,
  DamagedFileError,
  DuckFileReader,
  describeDamage,
  MovedFileError,
  type ReadOptions,
  UnreadableFileError,
} from './reader.ts'

export { type Damage, DamagedFileError } from './reader.ts'

export interface ScanOptions extends ReadOptions {
  onProgress?(progress: { blocks: number; liveBlocks: number; bytesRead: number }): void
}

export interface ScanResult {
  verdict: 'clean' | 'damaged' | 'inconclusive'
  /** Why it is not 'clean'. */
  reason?: string
  /** null when the headers could not be read. */
  databaseHeader: { version: number; iteration: number; blockCount: number; blockSize: number; storage: string } | null
  liveBlocks: number
  bytesRead: number
  damage: Damage[]
  durationMs: number
  /** Bytes of a `.wal` beside the file, which a scan does not cover; 0: there is none. */
  walBytes: number
}

/** A file with more bad blocks than this is not looked at any further. */
const maxDamage = 1000
/** How often a scan begins again when a checkpoint came between. */
const attempts = 5

/** Scans `file`. Never throws for what it finds, a file that can't be opened included: that is 'inconclusive'. */
export async function scanFile(file: string, options: ScanOptions = {}): Promise<ScanResult> {
  const clock = options.clock ?? systemClock
  const started = clock.monotonic()
  const result: ScanResult = {
    verdict: 'inconclusive',
    databaseHeader: null,
    liveBlocks: 0,
    bytesRead: 0,
    damage: [],
    durationMs: 0,
    walBytes: 0,
  }
  let reader: DuckFileReader | undefined
  try {
    reader = await DuckFileReader.open(file, options)
    await scanUnmoved(reader, options, result)
    result.verdict = result.damage.length === 0 ? 'clean' : 'damaged'
    if (result.damage.length > 0) result.reason = summary(result.damage)
  } catch (error) {
    if (error instanceof DamagedFileError) {
      result.verdict = 'damaged'
      result.damage = [...error.damage]
      result.reason = summary(result.damage)
    } else if (error instanceof UnreadableFileError || error instanceof MovedFileError) {
      result.reason = error.message
      result.damage = []
    } else throw error
  } finally {
    await reader?.close()
  }
  result.bytesRead = reader?.bytesRead ?? 0
  result.durationMs = clock.monotonic() - started
  result.walBytes = statSync(`${file}.wal`, { throwIfNoEntry: false })?.size ?? 0
  return result
}

async function scanUnmoved(reader: DuckFileReader, options: ScanOptions, result: ScanResult): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await scanOnce(reader, options, result)
    } catch (error) {
      if (!(error instanceof MovedFileError) || attempt === attempts) throw error
    }
  }
}

async function scanOnce(reader: DuckFileReader, options: ScanOptions, result: ScanResult): Promise<void> {
  const { pages, header } = await reader.headers()
  const { version, iteration, blockCount, blockSize, storage } = header
  result.databaseHeader = { version, iteration, blockCount, blockSize, storage }
  result.damage = []
  const map = await reader.blockMap(header, pages)
  result.liveBlocks = map.live
  let blocks = 0
  for (const run of liveRuns(header, map)) {
    const { damage } = await reader.readRun(header, map, run.first, run.count, result.damage.length < 3)
    if (damage.length > 0) {
      await reader.expectUnmoved(pages)
      result.damage.push(...damage)
      if (damage.some(({ kind }) => kind === 'truncated') || result.damage.length >= maxDamage) break
    }
    blocks += run.count
    options.onProgress?.({ blocks, liveBlocks: map.live, bytesRead: reader.bytesRead })
  }
  await reader.expectUnmoved(pages)
}

interface Run {
  first: number
  count: number
}

/** Neighbouring live blocks, as many as one read takes. */
function* liveRuns(header: DatabaseHeader, map: BlockMap): Generator<Run> {
  const most = blocksPerRead(header)
  let first = 0
  while (first < map.liveEnd) {
    if (map.isFree(first)) {
      first++
      continue
    }
    let count = 1
    while (count < most && first + count < map.liveEnd && !map.isFree(first + count)) count++
    yield { first, count }
    first += count
  }
}

function summary(damage: readonly Damage[]): string {
  const first = damage[0] as Damage
  const others = damage.length === 1 ? '' : ` and ${damage.length >= maxDamage ? 'at least ' : ''}${damage.length - 1} more`
  return `${describeDamage(first)}${others}`
}
