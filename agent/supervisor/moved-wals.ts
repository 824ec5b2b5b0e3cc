/**
 * WALs that a takeover moved to quarantine before its agent died: what was to follow, the word to the operator or the way back, is made up for by
 * the next agent. What was moved is said by the reason.json of each quarantine (agent/quarantine.ts, agent/engine/adoption.ts).
 */

import fs from 'node:fs'
import path from 'node:path'
import type { Incident } from '../plugin.ts'
import { listed } from '../quarantine.ts'

/** A quarantine's files that are there and whose places are empty. */
interface Moved {
  readonly directory: string
  readonly files: readonly { readonly original: string; readonly file: string }[]
}

/** Quarantines of WALs that could not be replayed, of this database's `wals`, newest first. */
export function movedWals(quarantine: string, wals: readonly string[]): Moved[] {
  return listed(quarantine, 'wal-not-replayable').flatMap(({ directory, reason }) => {
    const files = (Array.isArray(reason.files) ? (reason.files as Moved['files']) : []).filter(
      ({ original, file }) => wals.includes(original) && fs.existsSync(file) && !fs.existsSync(original),
    )
    return files.length === 0 ? [] : [{ directory, files }]
  })
}

/** What no incident tells: WALs that were not replayed, or only in part. */
export function untoldWals(
  quarantine: string,
  wals: readonly string[],
  incidents: readonly Incident[],
): { directory: string; unreplayed: string | null }[] {
  const told = new Set(incidents.map(({ evidence }) => path.basename(String(evidence.quarantine))))
  const partly = listed(quarantine, 'adopted-original').flatMap(({ directory, reason }) =>
    typeof reason.unreplayed === 'string' ? [{ directory, unreplayed: reason.unreplayed }] : [],
  )
  const whole = movedWals(quarantine, wals).map(({ directory }) => ({ directory, unreplayed: null }))
  return [...whole, ...partly].filter(({ directory }) => !told.has(path.basename(directory)))
}
