/** What is left of transactions that are not replayed. */

import fs from 'node:fs'
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

/** Puts a batch into the directory `quarantine`, with the reason, if it is not there yet; gives back its file, null when the disk is too full for it. */
export function keepBatch(quarantine: string, { bytes, file, offset, seq, reason }: Evidence): string | null {
  const isOther = (name: string) => fs.existsSync(name) && !fs.readFileSync(name).equals(bytes)
  const kept = freeName(path.join(quarantine, `${path.basename(file)}.byte-${offset}`), isOther)
  const note = `${kept}.reason.json`
  if (fs.existsSync(note)) return kept
  try {
    ensureDirectory(quarantine, 'BATCH:KEEP')
    writeAtomic(kept, bytes, 'BATCH:KEEP')
    const why = { from: file, offset, seq, reason, at: new Date().toISOString() }
    writeAtomic(note, `${JSON.stringify(why, null, 2)}\n`, 'BATCH:KEEP')
    return kept
  } catch (error) {
    if (!isDiskFull(error)) throw error
    return null
  }
}

/** `file`, or with a number behind it when that is taken. */
export function freeName(file: string, isTaken: (name: string) => boolean = fs.existsSync): string {
  for (let i = 0; ; i++) {
    const name = i === 0 ? file : `${file}.${i}`
    if (!isTaken(name)) return name
  }
}
