/**
 * The lock of agent/lock.ts on Windows: LockFileEx on one byte far behind the end of the file, since Windows' locks are mandatory and the file's
 * text must stay readable. The kernel drops it with the process, however that ends.
 */

import { FILE_SHARE_ALL, GENERIC_READ, GENERIC_WRITE, kernel, lastError, OPEN_EXISTING } from './kernel.ts'

const LOCKFILE_FAIL_IMMEDIATELY = 1
const LOCKFILE_EXCLUSIVE_LOCK = 2
const ERROR_LOCK_VIOLATION = 33
/** High half of the locked byte's position. */
const farAway = 0x40000000

/** Locks an existing file for this process; undefined when another one has it. What is returned gives it up. */
export function lockFile(file: string): (() => void) | undefined {
  const calls = kernel()
  const handle = calls.createFile(file, GENERIC_READ + GENERIC_WRITE, FILE_SHARE_ALL, null, OPEN_EXISTING, 0, 0)
  if (handle === -1) throw new Error(`the lock file cannot be opened: ${lastError()}`)
  // OVERLAPPED: the position at 16 (low) and 20 (high).
  const overlapped = Buffer.alloc(32)
  overlapped.writeUInt32LE(farAway, 20)
  if (calls.lockFile(handle, LOCKFILE_EXCLUSIVE_LOCK + LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, overlapped) !== 0)
    return () => void calls.closeHandle(handle)
  const code = calls.lastError()
  calls.closeHandle(handle)
  if (code === ERROR_LOCK_VIOLATION) return undefined
  throw new Error(`the file cannot be locked: error ${code}`)
}

/** Whether another process has the lock. */
export function isLocked(file: string): boolean {
  const unlock = lockFile(file)
  unlock?.()
  return unlock === undefined
}
