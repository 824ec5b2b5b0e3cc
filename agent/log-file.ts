/** Logs that are files: the engine's, and the agent's as a service of Windows. One old one is kept, as `.1`. */

import fs from 'node:fs'
import { copyDurably, moveDurably, openForWriting } from './disk.ts'
import { messageOf } from './errors.ts'
import type { Log } from './log.ts'

export const logLimit = 16 * 1024 * 1024

/** Opens it to append, a full one aside first. Throws when it can't be opened (a full disk). */
export function openLog(file: string): number {
  if (sizeOf(file) >= logLimit) moveDurably(file, `${file}.1`, 'LOG:ROTATE')
  return appendLog(file)
}

/** Opens it to append, as it is: another process writes it too. */
export function appendLog(file: string): number {
  return openForWriting(file, 'a', 'LOG:OPEN')
}

/**
 * Rotates a log that is being written: its content is copied to `.1`, then the file is emptied in place, since the writer keeps
 * it open (for appending). Lines written in between are lost: a log, not data.
 */
export function rotateLog(file: string, log: Log, limit = logLimit): void {
  try {
    if (sizeOf(file) < limit) return
    copyDurably(file, `${file}.1`, 'LOG:ROTATE')
    fs.closeSync(openForWriting(file, 'w', 'LOG:ROTATE'))
  } catch (error) {
    log.warn({ file }, `the log cannot be rotated: ${messageOf(error)}`)
  }
}

export function sizeOf(file: string): number {
  return fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0
}
