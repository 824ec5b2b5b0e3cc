/**
 * Copies a DuckDB file without DuckDB, verifying each live block on the way: exactly the bytes that the headers reach
 * (block_count blocks, or the whole file if it ends earlier: a checkpoint cuts free blocks off the end). For files that nobody
 * checkpoints meanwhile: the engine's while it is held, snapshots, files that no engine has open. A `.wal` is not copied.
 */

import { createHash } from 'node:crypto'
import path from 'node:path'
import { moveDurably, removeDurably } from '../disk.ts'
import { DaemonGuardError } from '../errors.ts'
import { LargeFile } from '../large-file.ts'
import { removeLeftovers, underWay } from '../leftovers.ts'
import type { Label } from '../step.ts'
import { headerBytes } from './header.ts'
import { blocksPerRead, DamagedFileError, DuckFileReader, type ReadOptions } from './reader.ts'

export interface CopyOptions extends ReadOptions {
  /** The copy is refused (and nothing left behind) unless it is exactly this. */
  expect?: Partial<CopyResult>
}

export interface CopyResult {
  /** Of the copy, hex. */
  sha256: string
  /** Of the copy. */
  bytes: number
  /** Of the active database header. */
  iteration: number
}

/** Where the bytes of a copy go. */
type Sink = (bytes: Buffer, position: number) => Promise<void>

/** The file is a sound DuckDB file, but not the one that was expected. */
export class UnexpectedContentError extends DaemonGuardError {}

/**
 * Copies `source` to `target` (which appears complete, durable and verified, or not at all; it must not exist).
 * Throws DamagedFileError when the source is damaged, MovedFileError when a checkpoint came between, UnreadableFileError.
 */
export async function copyFile(source: string, target: string, label: Label, options: CopyOptions = {}): Promise<CopyResult> {
  const temporary = path.join(path.dirname(target), `${path.basename(target)}.${process.pid}.tmp`)
  removeLeftovers(path.dirname(target), path.basename(target))
  underWay.add(temporary)
  try {
    return await copyThrough(temporary, source, target, label, options)
  } finally {
    underWay.delete(temporary)
  }
}

async function copyThrough(temporary: string, source: string, target: string, label: Label, options: CopyOptions): Promise<CopyResult> {
  const copy = await LargeFile.create(temporary, label)
  try {
    let result: CopyResult
    try {
      result = await stream(source, options, (bytes, at) => copy.write(bytes, at))
      await copy.sync()
    } finally {
      await copy.close()
    }
    moveDurably(temporary, target, label)
    return result
  } catch (error) {
    removeDurably(temporary, label)
    throw error
  }
}

/** Reads and verifies all that copyFile would copy, and digests it. Throws as copyFile does. */
export function digestFile(source: string, options: CopyOptions = {}): Promise<CopyResult> {
  return stream(source, options)
}

async function stream(source: string, options: CopyOptions, sink?: Sink): Promise<CopyResult> {
  const reader = await DuckFileReader.open(source, options)
  try {
    const { pages, header } = await reader.headers()
    const map = await reader.blockMap(header, pages)
    const hash = createHash('sha256').update(pages)
    // From where the rest comes as well: memory that begins at a page.
    reader.buffer.bytes.set(pages)
    await sink?.(reader.buffer.bytes.subarray(0, pages.length), 0)
    let bytes = headerBytes
    for (let first = 0; first < header.blockCount; first += blocksPerRead(header)) {
      const count = Math.min(blocksPerRead(header), header.blockCount - first)
      const { available, damage } = await reader.readRun(header, map, first, count, true)
      if (damage.length > 0) {
        await reader.expectUnmoved(pages)
        throw new DamagedFileError(source, damage)
      }
      const chunk = reader.buffer.bytes.subarray(0, available)
      hash.update(chunk)
      await sink?.(chunk, bytes)
      bytes += available
      if (available < count * header.blockSize) break
    }
    await reader.expectUnmoved(pages)
    const result = { sha256: hash.digest('hex'), bytes, iteration: header.iteration }
    expectSame(source, result, options.expect ?? {})
    return result
  } finally {
    await reader.close()
  }
}

function expectSame(file: string, found: CopyResult, expected: Partial<CopyResult>): void {
  for (const key of ['bytes', 'iteration', 'sha256'] as const) {
    if (expected[key] === undefined || expected[key] === found[key]) continue
    throw new UnexpectedContentError(`the file's ${key} is ${found[key]}, not ${expected[key]}`, { where: file })
  }
}
