/**
 * What the engine does to spills before it serves (agent/journal/spill.ts): those that batches refer to are verified; a damaged one goes to
 * quarantine, and its transaction is a gap from then on. Those that nothing refers to are of transactions that never committed: they are
 * removed, unless the journal is damaged: then they may be of transactions that it has lost, and go to quarantine.
 */

import fs from 'node:fs'
import path from 'node:path'
import { ensureDirectory, moveAnywhere, removeDurably, writeAtomic } from '../disk.ts'
import type { JournalRepair } from './repair.ts'
import { listSpills, type SpillReference, spillDamage } from './spill.ts'

export interface ReferredSpill {
  readonly seq: number
  readonly reference: SpillReference
  readonly tables: readonly string[]
}

export function repairSpills(directory: string, quarantine: string, referred: readonly ReferredSpill[], result: JournalRepair): void {
  const isDamaged = result.quarantined.length > 0 || result.gaps.length > 0
  const known = new Set(referred.map(({ reference }) => reference.name))
  for (const name of listSpills(directory)) {
    if (known.has(name)) continue
    if (isDamaged) keepEvidence(directory, quarantine, name, 'no transaction that can be read refers to it', result)
    else removeDurably(path.join(directory, name), 'REPAIR:SPILL')
  }
  for (const { seq, reference, tables } of referred) {
    const reason = spillDamage(directory, reference)
    if (reason === undefined) continue
    if (fs.existsSync(path.join(directory, reference.name))) keepEvidence(directory, quarantine, reference.name, reason, result)
    result.gaps.push({ firstSeq: seq, lastSeq: seq, tables })
  }
}

function keepEvidence(directory: string, quarantine: string, name: string, reason: string, result: JournalRepair): void {
  ensureDirectory(quarantine, 'REPAIR:QUARANTINE')
  const from = path.join(directory, name)
  const kept = path.join(quarantine, name)
  const why = { from, reason, at: new Date().toISOString() }
  writeAtomic(`${kept}.reason.json`, `${JSON.stringify(why, null, 2)}\n`, 'REPAIR:REASON')
  moveAnywhere(from, kept, 'REPAIR:SPILL')
  result.quarantined.push({ file: kept, reason })
}
