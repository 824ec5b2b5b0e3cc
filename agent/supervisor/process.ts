/**
 * Processes seen from outside: whether one lives, whether it is still the same one (a pid is reused), who holds a file's lock.
 * Linux answers from /proc, Windows its kernel; elsewhere only what `kill(pid, 0)` knows.
 */

import fs from 'node:fs'
import { bootId } from '../boot.ts'
import * as windowsLock from '../windows/lock.ts'
import { isInUse } from '../windows/open-file.ts'
import * as windows from '../windows/processes.ts'

const isWindows = process.platform === 'win32'

/** Identifies one process of one boot: a pid alone may belong to another program by now. */
export interface ProcessIdentity {
  pid: number
  /** When it started. Linux: clock ticks since the boot (proc(5), stat field 22); Windows: ms since 1970; else null. */
  startTicks: number | null
  bootId: string | null
}

/** True while the process runs; a zombie does not (an init that never reaps would keep it for ever). */
export function isAlive(pid: number): boolean {
  // To kill(2), 0 is our own group and a negative number another one.
  if (pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  if (process.platform !== 'linux') return true
  const state = statOf(pid)?.[0]
  return state !== undefined && state !== 'Z' && state !== 'X'
}

/** What identifies a living process, or undefined when there is none. */
export function identify(pid: number): ProcessIdentity | undefined {
  if (!isAlive(pid)) return undefined
  return { pid, startTicks: (isWindows ? windows.startOf(pid) : ticksOf(pid)) ?? null, bootId: bootId() }
}

/** True when the process of that identity still lives. */
export function isSame(identity: ProcessIdentity): boolean {
  const now = identify(identity.pid)
  return now !== undefined && now.startTicks === identity.startTicks && now.bootId === identity.bootId
}

/**
 * When a process started, milliseconds since the Unix epoch, to about a second; undefined where it can't be known.
 * On Linux derived from the boot time, so a wall clock that was set since shifts it.
 */
export function startedAt(pid: number): number | undefined {
  if (isWindows) return windows.startOf(pid)
  const ticks = ticksOf(pid)
  const boot = read('/proc/stat')?.match(/^btime (\d+)$/m)?.[1]
  if (ticks === undefined || boot === undefined) return undefined
  // USER_HZ is 100 on every Linux that Node runs on.
  return Number(boot) * 1000 + ticks * 10
}

/** Bytes a process has read and written so far; undefined where it can't be known. */
export function trafficOf(pid: number): number | undefined {
  if (isWindows) return windows.trafficOf(pid)
  const io = read(`/proc/${pid}/io`)
  if (io === undefined) return undefined
  return Number(io.match(/^rchar: (\d+)$/m)?.[1] ?? 0) + Number(io.match(/^wchar: (\d+)$/m)?.[1] ?? 0)
}

/** The pid that holds a lock on `file` (fcntl or flock; on Windows that of agent/lock.ts), or undefined: nobody, or unknown. On Linux the file is not opened. */
export function lockHolder(file: string): number | undefined {
  if (isWindows) {
    const pid = Number(read(file) ?? 0)
    return isAlive(pid) && windowsLock.isLocked(file) ? pid : undefined
  }
  const locks = read('/proc/locks')
  if (locks === undefined) return undefined
  try {
    const { dev, ino } = fs.statSync(file, { bigint: true })
    // makedev(3) as glibc packs it
    const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn)
    const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn)
    const hex = (value: bigint) => value.toString(16).padStart(2, '0')
    const holder = locks.match(new RegExp(`(?:POSIX|FLOCK) +ADVISORY +\\w+ (\\d+) ${hex(major)}:${hex(minor)}:${ino} `))?.[1]
    return holder === undefined ? undefined : Number(holder)
  } catch {
    return undefined
  }
}

/** Who has a database file open with DuckDB: a pid; null: somebody; undefined: nobody, or unknown. */
export function holderOf(database: string): number | null | undefined {
  return isWindows ? (isInUse(database) ? null : undefined) : lockHolder(database)
}

function ticksOf(pid: number): number | undefined {
  const ticks = statOf(pid)?.[19]
  return ticks === undefined ? undefined : Number(ticks)
}

/** Fields of /proc/<pid>/stat after the command's name (which may hold anything): the first is the state. */
function statOf(pid: number): string[] | undefined {
  const stat = read(`/proc/${pid}/stat`)
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
}

function read(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
