/**
 * Temporary files that a process left behind when it was killed between writing and renaming (agent/disk.ts, agent/duckfile/copy.ts): their
 * names end with `.<pid>.tmp`. Whatever they held is made again.
 */

import fs from 'node:fs'
import path from 'node:path'
import { removeDurably } from './disk.ts'
import { codeOf } from './errors.ts'
import type { Paths } from './paths.ts'

/** Those that this process is writing across turns of the event loop. */
export const underWay = new Set<string>()

/** Removes those of `directory` whose process is gone; those under way stay. `prefix`: of their names. Returns the removed files. */
export function removeLeftovers(directory: string, prefix = ''): string[] {
  const removed: string[] = []
  for (const name of fs.readdirSync(directory)) {
    const pid = Number(/\.(\d+)\.tmp$/.exec(name)?.[1])
    const file = path.join(directory, name)
    // In a container every agent has the same pid: one of ours is left over unless it is known to be under way.
    if (!pid || !name.startsWith(prefix) || (pid === process.pid ? underWay.has(file) : isAlive(pid))) continue
    removeDurably(file, 'COPY:LEFTOVER')
    removed.push(file)
  }
  return removed
}

/** As removeLeftovers, wherever an agent or an engine of this data directory leaves them. For an agent that starts, before it writes anything. */
export function removeAllLeftovers(paths: Paths): string[] {
  const { data, cursors, incidents, snapshots, deadLetter, quarantine } = paths
  const below = [deadLetter, quarantine].flatMap((directory) => directoriesIn(directory))
  return [data, cursors, incidents, snapshots, ...below]
    .filter((directory) => fs.existsSync(directory))
    .flatMap((one) => removeLeftovers(one))
}

function directoriesIn(directory: string): string[] {
  if (!fs.existsSync(directory)) return []
  const entries = fs.readdirSync(directory, { withFileTypes: true })
  return entries.flatMap((entry) => (entry.isDirectory() ? [path.join(directory, entry.name)] : []))
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return codeOf(error) === 'EPERM'
  }
}
