/**
 * Retention: which journal segments may go. A segment goes when every consumer has confirmed all of it and the oldest kept verified
 * snapshot holds all of it, so that any kept snapshot can still be brought up to date. Only the agent deletes segments, oldest first (a crash
 * in between leaves no gap), and never the last one, which the engine writes. The spills that it refers to go right after it: what a crash
 * in between leaves behind, nothing refers to, and the engine's next start removes.
 */

import fs from 'node:fs'
import path from 'node:path'
import { removeDurably } from '../disk.ts'
import { readCursor } from './consumer.ts'
import { SegmentReader } from './reader.ts'
import { spillOf } from './record.ts'
import { listSegments } from './segment.ts'

export interface RetentionOptions {
  journalDir: string
  /** The confirmed seq of every consumer; [] when there is none, which then keeps nothing back. */
  cursors: readonly number[]
  /** The kept snapshots that were verified; without any, nothing is deleted. */
  snapshots: readonly { readonly seq: number }[]
}

/** Deletes the segments that nobody needs; returns their files. */
export function retain(options: RetentionOptions): string[] {
  const { journalDir, cursors, snapshots } = options
  if (snapshots.length === 0) return []
  const needless = Math.min(...cursors, ...snapshots.map(({ seq }) => seq))
  // A seq that is not a number must not read as "beyond everything".
  if (!Number.isSafeInteger(needless)) return []
  const segments = listSegments(journalDir)
  const removed: string[] = []
  for (const [index, segment] of segments.entries()) {
    const next = segments[index + 1]
    if (next === undefined || next.firstSeq - 1 > needless) break
    const spills = spillsIn(segment.file)
    removeDurably(segment.file, 'RETENTION:REMOVE')
    for (const spill of spills) removeDurably(path.join(journalDir, spill), 'RETENTION:SPILL')
    removed.push(segment.file)
  }
  return removed
}

/** Names of the spills that a segment's batches refer to. */
function spillsIn(segment: string): string[] {
  const reader = new SegmentReader(segment)
  try {
    const names: string[] = []
    for (let result = reader.next(); result.kind === 'batch'; result = reader.next()) {
      const spill = spillOf(result.bytes, result.header)
      if (spill !== undefined) names.push(path.basename(spill.reference.name))
    }
    return names
  } finally {
    reader.close()
  }
}

/**
 * The confirmed seqs of all cursors of this database in a cursor directory. One that can't be read counts as 0: while nobody
 * knows what its consumer still needs, nothing goes.
 */
export function cursorsIn(directory: string, databaseId: string): number[] {
  const names = fs.existsSync(directory) ? fs.readdirSync(directory).filter((name) => name.endsWith('.json')) : []
  return names.flatMap((name) => {
    try {
      const cursor = readCursor(path.join(directory, name))
      return cursor === undefined || cursor.databaseId !== databaseId ? [] : [cursor.confirmed]
    } catch {
      return [0]
    }
  })
}
