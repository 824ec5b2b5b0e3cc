/**
 * Every write to the file system goes through here: one place for atomic replacement, directory fsync, modes
 * (files 0600, directories 0700) and for the operation label that a fault test can fail or kill at.
 * A label reads `<WHO>:<WHAT>`, for example `CURSOR:WRITE`.
 */

import fs from 'node:fs'
import path from 'node:path'

export const fileMode = 0o600
export const directoryMode = 0o700

/** Creates a directory and its parents with mode 0700; an existing one is left as it is. */
export function ensureDirectory(directory: string): void {
  fs.mkdirSync(directory, { recursive: true, mode: directoryMode })
}

/** Makes the directory's entries (creations, renames, removals) durable. A no-op on Windows, where directories can't be opened. */
export function syncDirectory(directory: string): void {
  if (process.platform === 'win32') return
  const fd = fs.openSync(directory, 'r')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** Makes the content of a closed file durable. */
export function syncFile(file: string): void {
  const fd = fs.openSync(file, 'r+')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
}

/** Replaces `file` by `data`: temporary file, fsync, rename, fsync of the directory. After a crash it holds the old or the new content. */
export function writeAtomic(file: string, data: string | Uint8Array): void {
  const temporary = `${file}.${process.pid}.tmp`
  const fd = fs.openSync(temporary, 'w', fileMode)
  try {
    fs.writeFileSync(fd, data)
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  fs.renameSync(temporary, file)
  syncDirectory(path.dirname(file))
}

/** Renames within a file system and makes it durable on both sides. */
export function moveDurably(from: string, to: string): void {
  fs.renameSync(from, to)
  syncDirectory(path.dirname(to))
  if (path.dirname(from) !== path.dirname(to)) syncDirectory(path.dirname(from))
}

/** Moves `from` to `to`, by rename where possible, else by copy, fsync and removal (another file system). */
export function moveAnywhere(from: string, to: string): void {
  try {
    moveDurably(from, to)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error
    copyDurably(from, to)
    removeDurably(from)
  }
}

/** Copies to a temporary name, fsyncs, renames: `to` is never seen half written. */
export function copyDurably(from: string, to: string): void {
  const temporary = `${to}.${process.pid}.tmp`
  fs.copyFileSync(from, temporary)
  fs.chmodSync(temporary, fileMode)
  syncFile(temporary)
  moveDurably(temporary, to)
}

/** As copyDurably, without holding up the event loop: for large files. */
export async function copyInBackground(from: string, to: string): Promise<void> {
  const temporary = `${to}.${process.pid}.tmp`
  await fs.promises.copyFile(from, temporary)
  const handle = await fs.promises.open(temporary, 'r+')
  try {
    await handle.chmod(fileMode)
    await handle.sync()
  } finally {
    await handle.close()
  }
  moveDurably(temporary, to)
}

/** Gives a file a second name, so that replacing the first keeps the content; a durable copy where links cannot reach. */
export function linkOrCopy(from: string, to: string): void {
  try {
    fs.linkSync(from, to)
    syncDirectory(path.dirname(to))
  } catch {
    copyDurably(from, to)
  }
}

/** Removes a file if it is there and makes the removal durable. */
export function removeDurably(file: string): void {
  fs.rmSync(file, { force: true })
  syncDirectory(path.dirname(file))
}

/** Removes a directory and all below it, if it is there; nothing about it is made durable. For temporary directories only. */
export function removeTree(directory: string): void {
  fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
}

/** Free bytes for this user on the file system that holds `directory`. */
export function freeBytes(directory: string): number {
  const stat = fs.statfsSync(directory)
  return stat.bavail * stat.bsize
}

/** Opens for writing (created 0600). `flags` as in fs.open. */
export function openForWriting(file: string, flags: 'w' | 'wx' | 'r+' | 'a'): number {
  return fs.openSync(file, flags, fileMode)
}

/** Opens for writing without blocking the event loop (created 0600): for large copies, whose fsync takes long. */
export function openHandle(file: string, flags: 'wx' | 'r+'): Promise<fs.promises.FileHandle> {
  return fs.promises.open(file, flags, fileMode)
}

/** Writes all of `data` at `position`; a short write is continued. */
export function writeAll(fd: number, data: Uint8Array, position: number): void {
  let done = 0
  while (done < data.length) done += fs.writeSync(fd, data, done, data.length - done, position + done)
}

/** JOURNAL:SYNC. Makes what was written through `fd` durable, without holding up the event loop. A failure must not be retried. */
export function syncData(fd: number): Promise<void> {
  return new Promise((resolve, reject) => fs.fdatasync(fd, (error) => (error === null ? resolve() : reject(error))))
}

/** JOURNAL:CREATE, JOURNAL:KEEP. As syncFile, for a file that is open. */
export function syncOpen(fd: number): void {
  fs.fsyncSync(fd)
}

/** JOURNAL:CUT. Cuts an open file to `length` bytes (a shorter one stays as it is); durable with the next sync of it. */
export function cutOpen(fd: number, length: number): void {
  if (fs.fstatSync(fd).size > length) fs.ftruncateSync(fd, length)
}

/** QUARANTINE:KEEP. Gives the file a second name, `to`, durably: a hard link where possible, else a copy. `to` must not exist. */
export function keepAs(from: string, to: string): void {
  try {
    fs.linkSync(from, to)
    syncDirectory(path.dirname(to))
  } catch (error) {
    if (!['EXDEV', 'EPERM', 'ENOTSUP', 'EMLINK'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    copyDurably(from, to)
  }
}

/** LOCK:PID. Replaces the content of an open file; not durable, and not atomic: only for what nobody must rely on. */
export function overwriteOpen(fd: number, text: string): void {
  fs.ftruncateSync(fd, 0)
  fs.writeSync(fd, text)
}

/** Lets the group of the directory use a Unix socket in it (0660); who gets that far is decided by the directory's mode. */
export function shareSocket(file: string): void {
  fs.chmodSync(file, 0o660)
}
