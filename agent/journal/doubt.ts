/**
 * The journal's last transaction when it was written ahead of DuckDB's commit (JournalWriter.writeAhead), and nothing says that it is durable: DuckDB may have committed it or
 * refused it, its client may have been told so, or nothing. Recovery has DuckDB decide anew, on the same state. While it does, a note says so, with the number of times: one
 * that ends the process each time is given up.
 */

import fs from 'node:fs'
import path from 'node:path'
import { cutOpen, openForWriting, removeDurably, syncOpen, writeOnFullDisk } from '../disk.ts'
import { codeOf, isDiskFull } from '../errors.ts'
import { keepBatch } from './evidence.ts'
import { type Mark, readMark, setMark } from './mark.ts'

/** Where its batch lies. */
export interface Doubt {
  readonly seq: number
  readonly file: string
  /** First seq of its segment. */
  readonly segment: number
  readonly offset: number
  readonly length: number
}

/** Whether its batch lies behind all that the mark says to be durable. */
export function isBehind(mark: Mark | undefined, { segment, offset }: Doubt): boolean {
  if (mark === undefined || mark.segment < segment) return true
  return mark.segment === segment && mark.offset <= offset
}

/** Trials that may end the process, which may have another reason, before there is no further one. */
const mostTrials = 2
export const trialNote = 'trial.json'
const noteFile = (directory: string) => path.join(directory, trialNote)

/** How often DuckDB has been about to decide on it, and has not. A note that cannot be read says nothing. */
function trialsOf(directory: string, { seq, segment, offset, length }: Doubt): number {
  try {
    const note = JSON.parse(fs.readFileSync(noteFile(directory), 'utf8'))
    const isOfThis = note?.seq === seq && note.segment === segment && note.offset === offset && note.length === length
    return isOfThis && Number.isInteger(note.trials) ? note.trials : 0
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || error instanceof SyntaxError) return 0
    throw error
  }
}

/** The process has ended over it again and again. */
export function isHopeless(directory: string, doubt: Doubt): boolean {
  return trialsOf(directory, doubt) >= mostTrials
}

/** DuckDB is about to decide. On a full disk it does so without a note. */
export function beginTrial(directory: string, doubt: Doubt): void {
  const { seq, segment, offset, length } = doubt
  const note = JSON.stringify({ seq, segment, offset, length, trials: trialsOf(directory, doubt) + 1 })
  try {
    writeOnFullDisk(noteFile(directory), note, 'DOUBT:TRY')
  } catch (error) {
    if (!isDiskFull(error)) throw error
  }
}

/** It has decided, or was kept from it by something else; or there is no doubt any more. */
export function endTrial(directory: string): void {
  if (fs.existsSync(noteFile(directory))) removeDurably(noteFile(directory), 'DOUBT:TRIED')
}

/** DuckDB has taken it: it is durable from now on. */
export function keep(directory: string, databaseId: string, { seq, segment, offset, length }: Doubt): void {
  setMark(directory, databaseId, readMark(directory, databaseId), { segment, offset: offset + length, seq })
}

/** It does not count: its bytes go to the directory `quarantine`, with the reason, and its seq is free again. Gives back the file; null when the disk is too full for it. */
export function withdraw(
  directory: string,
  databaseId: string,
  { seq, file, segment, offset, length }: Doubt,
  { quarantine, reason }: { quarantine: string; reason: string },
): string | null {
  const fd = openForWriting(file, 'r+', 'DOUBT:CUT')
  let kept: string | null
  try {
    const bytes = Buffer.alloc(length)
    fs.readSync(fd, bytes, 0, length, offset)
    kept = keepBatch(quarantine, { bytes, file, offset, seq, reason })
    cutOpen(fd, offset, 'DOUBT:CUT')
    syncOpen(fd, 'DOUBT:CUT')
  } finally {
    fs.closeSync(fd)
  }
  setMark(directory, databaseId, readMark(directory, databaseId), { segment, offset, seq: seq - 1 })
  endTrial(directory)
  return kept
}
