/**
 * A lock that one process holds for life: flock(2) (Windows: agent/windows/lock.ts) on a file that carries the holder's pid. The kernel drops it
 * when the process dies, however it dies, so there is no stale lock to clean up. (DuckDB's own lock guards neither the journal nor the cursors.)
 */

import fs from 'node:fs'
import path from 'node:path'
import koffi from 'koffi'
import { ensureDirectory, openForWriting, overwriteOpen } from './disk.ts'
import { DaemonGuardError, ExitCode, isDiskFull } from './errors.ts'
import { lockFile } from './windows/lock.ts'

export interface Lock {
  /** Gives the lock up. Safe twice. */
  release(): void
}

const LOCK_EX = 2
const LOCK_NB = 4

let flock: ((fd: number, operation: number) => number) | undefined

/** Takes the lock or throws with the holder's pid (exit code 75). `who` names the holder in the message: 'engine', 'agent'. */
export function acquireLock(file: string, who: string): Lock {
  ensureDirectory(path.dirname(file), 'LOCK:DIRECTORY')
  // Opened without truncation: a loser must not wipe the winner's pid. Node opens with O_CLOEXEC, so children do not inherit the lock.
  const fd = openForWriting(file, 'keep', 'LOCK:OPEN')
  const unlock = process.platform === 'win32' ? lockFile(file) : lockDescriptor(fd)
  if (unlock === undefined) {
    fs.closeSync(fd)
    const pid = fs.readFileSync(file, 'utf8').trim() || 'unknown'
    throw new DaemonGuardError(`another ${who} already runs on this data directory: pid ${pid}`, {
      where: file,
      hint: who === 'agent' ? 'daemonguard status, or daemonguard stop' : 'daemonguard stop --engine',
      exitCode: ExitCode.locked,
    })
  }
  try {
    overwriteOpen(fd, `${process.pid}\n`, 'LOCK:PID')
  } catch (error) {
    // The kernel knows the holder as well.
    if (!isDiskFull(error)) throw error
  }
  let held = true
  return {
    release() {
      if (!held) return
      held = false
      unlock()
      fs.closeSync(fd)
    },
  }
}

/** Undefined when another process has it. Closing the descriptor gives it up. */
function lockDescriptor(fd: number): (() => void) | undefined {
  flock ??= koffi.load('libc.so.6').func('int flock(int fd, int operation)')
  return flock(fd, LOCK_EX | LOCK_NB) === 0 ? () => {} : undefined
}
