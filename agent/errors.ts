/**
 * The one error class that reaches an operator: what happened, where, and the command to type next.
 * Exit codes are part of the public contract (design: 0 ok; 1 failed; 2 usage; 3 unknown; 78 bad configuration).
 */

import { freeSpace } from './shell.ts'

export const ExitCode = {
  ok: 0,
  failed: 1,
  usage: 2,
  unknown: 3,
  /** The engine met an error after which its memory may disagree with its journal; the next process recovers. */
  suspect: 70,
  /** The disk is full, and what is to be done needs room: it is tried again when there is some. */
  full: 73,
  /** The database file is damaged or cannot be trusted: a snapshot must take its place first. */
  corrupt: 74,
  /** Another process holds the lock of this data directory. */
  locked: 75,
  config: 78,
} as const
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

export interface ErrorDetails {
  /** Where: a file, a line, a key, a seq. */
  where?: string
  /** The command to type next, or the change to make. */
  hint?: string
  exitCode?: ExitCode
  cause?: unknown
}

/** An error made for an operator to read. `message` says what happened and never holds a secret. */
export class DaemonGuardError extends Error {
  readonly where: string | undefined
  readonly hint: string | undefined
  readonly exitCode: ExitCode

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'DaemonGuardError'
    this.where = details.where
    this.hint = details.hint
    this.exitCode = details.exitCode ?? ExitCode.failed
  }

  /** Lines for a terminal: message, place, hint. */
  describe(): string {
    const where = this.where === undefined ? '' : ` (${this.where})`
    const hint = this.hint === undefined ? '' : `\n  hint: ${this.hint}`
    return `${this.message}${where}${hint}`
  }
}

/** The message of anything that was thrown, `null` and strings included. */
export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message
  return String(error)
}

/** The `code` of a system error (`ENOENT`, `ENOSPC`, …), or undefined. */
export function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code
  return typeof code === 'string' ? code : undefined
}

/** Whether the disk, or what this user may have of it, is full: in the error itself, or in what has caused it. DuckDB tells it in words. */
export function isDiskFull(error: unknown): boolean {
  for (let at = error; at != null; at = (at as { cause?: unknown }).cause) {
    if (at instanceof DaemonGuardError && at.exitCode === ExitCode.full) return true
    if (['ENOSPC', 'EDQUOT'].includes(codeOf(at) ?? '')) return true
    if (/No space left on device|not enough space on the disk|[Qq]uota exceeded|failed to offload data block/.test(messageOf(at)))
      return true
  }
  return false
}

/** What `work` comes to; where the disk was full, it fails with that exit code, whatever step met it: it is no use to try again before there is space. */
export async function tellingFullDisk<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!isDiskFull(error)) throw error
    const known = error instanceof DaemonGuardError ? error : undefined
    throw new DaemonGuardError(messageOf(error), {
      where: known?.where,
      hint: known?.hint ?? `free space on this disk: ${freeSpace()}`,
      exitCode: ExitCode.full,
      cause: error,
    })
  }
}
