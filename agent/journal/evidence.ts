/** What is left of transactions that are not replayed. */

import path from 'node:path'
import { ensureDirectory, writeAtomic } from '../disk.ts'
import { isDiskFull } from '../errors.ts'

export interface Evidence {
  readonly bytes: Buffer
  /** Where they lay. */
  readonly file: string
  readonly offset: number
  readonly seq: number
  readonly reason: string
}

/** Puts a batch into the directory `quarantine`, with the reason; gives back its file, null when the disk is too full for it. */
export function keepBatch(quarantine: string, { bytes, file, offset, seq, reason }: Evidence): string | null {
  const kept = path.join(quarantine, `${path.basename(file)}.seq-${seq}`)
  try {
    ensureDirectory(quarantine, 'BATCH:KEEP')
    writeAtomic(kept, bytes, 'BATCH:KEEP')
    const why = { from: file, offset, seq, reason, at: new Date().toISOString() }
    writeAtomic(`${kept}.reason.json`, `${JSON.stringify(why, null, 2)}\n`, 'BATCH:KEEP')
    return kept
  } catch (error) {
    if (!isDiskFull(error)) throw error
    return null
  }
}
