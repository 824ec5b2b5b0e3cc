/**
 * Every write to the file system goes through here: one place for atomic replacement, directory fsync, modes
 * (files 0600, directories 0700) and for the label of each step (agent/step.ts), at which a fault test can kill or fail it.
 * What a function does in several steps is one label; each step passes it once.
 */

import fs from 'node:fs'
import path from 'node:path'
import { codeOf, isDiskFull } from './errors.ts'
import { type Label, step } from './step.ts'

export const fileMode = 0o600
export const directoryMode = 0o700

/** What Node has no words for on Windows (agent/windows/disk.ts); undefined elsewhere, and before it is told. */
interface Extension {
  /** Makes a new file or directory its user's own: modes mean nothing there. */
  restrict(path: string): void
  /** Makes a directory's entries durable. */
  flushDirectory(directory: string): void
}

let extension: Extension | undefined

export function extendDisk(by: Extension): void {
  extension = by
}

/** Makes a file that something else has created its user's own. (On Unix by the umask.) */
export function makePrivate(file: string): void {
  extension?.restrict(file)
}

/**
 * Creates a directory and its parents with mode 0700, durably, the outermost first; an existing one is left as it is. Without this a power cut
 * could take away a directory with all the fsynced files in it.
 */
export function ensureDirectory(directory: string, label: Label): void {
  const missing: string[] = []
  let there = path.resolve(directory)
  for (; !fs.existsSync(there); there = path.dirname(there)) missing.unshift(there)
  // Whoever made it may have died before its entry was durable.
  syncEntry(there, label)
  for (const next of missing) {
    step(label, 'mkdir', next)
    fs.mkdirSync(next, { recursive: true, mode: directoryMode })
    extension?.restrict(next)
    syncEntry(next, label)
  }
}

/** Makes the entry of a directory durable. A parent that may be passed through, but not read, is not ours to care for. */
function syncEntry(directory: string, label: Label): void {
  try {
    syncDirectory(path.dirname(directory), label)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
  }
}

/** Makes the directory's entries (creations, renames, removals) durable. */
export function syncDirectory(directory: string, label: Label): void {
  if (process.platform === 'win32') {
    extension?.flushDirectory(directory)
    return
  }
  step(label, 'sync-directory', directory)
  const fd = fs.openSync(directory, 'r')
  try {
    fs.fsyncSync(fd)
  } finally {
    fs.closeSync(fd)
  }
  step(label, 'synced-directory', directory)
}

/** Makes the content of a closed file durable. */
export function syncFile(file: string, label: Label): void {
  const fd = fs.openSync(file, 'r+')
  try {
    syncOpen(fd, label)
  } finally {
    fs.closeSync(fd)
  }
}

/** Replaces `file` by `data`: temporary file, fsync, rename, fsync of the directory. After a crash it holds the old or the new content. */
export function writeAtomic(file: string, data: string | Uint8Array, label: Label): void {
  const temporary = `${file}.${process.pid}.tmp`
  try {
    const fd = openForWriting(temporary, 'w', label)
    try {
      writeAll(fd, typeof data === 'string' ? Buffer.from(data) : data, 0, label)
      syncOpen(fd, label)
    } finally {
      fs.closeSync(fd)
    }
    rename(temporary, file, label)
  } catch (error) {
    dropTemporary(temporary, label)
    throw error
  }
  syncDirectory(path.dirname(file), label)
}

/** What could not be completed takes no space: the disk may be full. Never throws. */
function dropTemporary(temporary: string, label: Label): void {
  try {
    step(label, 'remove', temporary)
    fs.rmSync(temporary, { force: true })
  } catch {
    // It is removed at the next start (agent/leftovers.ts).
  }
}

/**
 * As writeAtomic, for small files without which a full disk could not be lived with, or left: where it has no room for a second copy, the
 * file's own blocks take the new content, in one write, filled up with spaces. A killed process leaves the old or the new content; a power
 * cut in that moment may leave a mixture, which readers must take for a damaged file.
 */
export function writeOnFullDisk(file: string, data: string | Uint8Array, label: Label): void {
  try {
    writeAtomic(file, data, label)
  } catch (error) {
    const content = typeof data === 'string' ? Buffer.from(data) : data
    const stat = fs.statSync(file, { throwIfNoEntry: false })
    if (!isDiskFull(error) || stat === undefined || content.length > stat.blocks * 512) throw error
    const fd = openForWriting(file, 'r+', label)
    try {
      writeAll(fd, Buffer.concat([content, Buffer.alloc(Math.max(0, stat.size - content.length), ' ')]), 0, label)
      syncOpen(fd, label)
    } finally {
      fs.closeSync(fd)
    }
  }
}

function rename(from: string, to: string, label: Label): void {
  step(label, 'rename', from, to)
  patiently(() => fs.renameSync(from, to))
}

/** Windows does not replace or remove a file that somebody has open just now (a virus scanner, the agent that looks at engine.json). */
function patiently(change: () => void): void {
  for (let attempt = 0; ; attempt++) {
    try {
      change()
      return
    } catch (error) {
      const isHeld = process.platform === 'win32' && ['EPERM', 'EACCES', 'EBUSY'].includes(codeOf(error) ?? '')
      if (!isHeld || attempt === heldAttempts) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)
    }
  }
}

/** 10 ms apart. */
const heldAttempts = 100

/** Renames within a file system and makes it durable on both sides. */
export function moveDurably(from: string, to: string, label: Label): void {
  rename(from, to, label)
  syncDirectory(path.dirname(to), label)
  if (path.dirname(from) !== path.dirname(to)) syncDirectory(path.dirname(from), label)
}

/** Moves `from` to `to`, by rename where possible, else by copy, fsync and removal (another file system). */
export function moveAnywhere(from: string, to: string, label: Label): void {
  try {
    moveDurably(from, to, label)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error
    copyDurably(from, to, label)
    removeDurably(from, label)
  }
}

/** Copies to a temporary name, fsyncs, renames: `to` is never seen half written. */
export function copyDurably(from: string, to: string, label: Label): void {
  const temporary = `${to}.${process.pid}.tmp`
  try {
    step(label, 'copy', from, temporary)
    fs.copyFileSync(from, temporary)
    fs.chmodSync(temporary, fileMode)
    extension?.restrict(temporary)
    syncFile(temporary, label)
    moveDurably(temporary, to, label)
  } catch (error) {
    dropTemporary(temporary, label)
    throw error
  }
}

/** As copyDurably, without holding up the event loop: for large files. */
export async function copyInBackground(from: string, to: string, label: Label): Promise<void> {
  const temporary = `${to}.${process.pid}.tmp`
  try {
    step(label, 'copy', from, temporary)
    await fs.promises.copyFile(from, temporary)
    const handle = await fs.promises.open(temporary, 'r+')
    try {
      await handle.chmod(fileMode)
      extension?.restrict(temporary)
      await syncHandle(handle, label)
    } finally {
      await handle.close()
    }
    moveDurably(temporary, to, label)
  } catch (error) {
    dropTemporary(temporary, label)
    throw error
  }
}

/** Gives a file a second name, so that replacing the first keeps the content; a durable copy where links cannot reach. */
export function linkOrCopy(from: string, to: string, label: Label): void {
  try {
    link(from, to, label)
  } catch {
    copyDurably(from, to, label)
  }
}

/** Gives the file a second name, `to`, durably: a hard link where possible, else a copy. `to` must not exist. */
export function keepAs(from: string, to: string, label: Label): void {
  try {
    link(from, to, label)
  } catch (error) {
    if (!['EXDEV', 'EPERM', 'ENOTSUP', 'EMLINK'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    copyDurably(from, to, label)
  }
}

function link(from: string, to: string, label: Label): void {
  step(label, 'link', from, to)
  fs.linkSync(from, to)
  syncDirectory(path.dirname(to), label)
}

/** Removes a file if it is there and makes the removal durable. */
export function removeDurably(file: string, label: Label): void {
  step(label, 'remove', file)
  patiently(() => fs.rmSync(file, { force: true }))
  syncDirectory(path.dirname(file), label)
}

/** Removes a directory and all below it, if it is there; nothing about it is made durable. For temporary directories only. */
export function removeTree(directory: string, label: Label): void {
  step(label, 'remove', directory)
  fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
}

/** `wanted`, or with a number behind it when that is taken; so are the names in `promised`. */
export function freeName(wanted: string, promised: ReadonlySet<string> = new Set()): string {
  let name = wanted
  for (let n = 2; promised.has(name) || fs.existsSync(name); n++) name = `${wanted}-${n}`
  return name
}

/** Free bytes for this user on the file system that holds `directory`. */
export function freeBytes(directory: string): number {
  const stat = fs.statfsSync(directory)
  return stat.bavail * stat.bsize
}

/** Opens for writing (created 0600). `flags` as in fs.open; `keep`: created when it is not there, else as it is. */
export function openForWriting(file: string, flags: 'w' | 'wx' | 'r+' | 'a' | 'keep', label: Label): number {
  step(label, 'open', file)
  const isNew = extension !== undefined && !fs.existsSync(file)
  const fd = fs.openSync(file, flags === 'keep' ? fs.constants.O_RDWR | fs.constants.O_CREAT : flags, fileMode)
  if (isNew) extension?.restrict(file)
  step(label, 'opened', file, fd)
  return fd
}

/** Creates a file (0600) without blocking the event loop: for large copies, whose fsync takes long. */
export async function createHandle(file: string, label: Label): Promise<fs.promises.FileHandle> {
  step(label, 'open', file)
  const handle = await fs.promises.open(file, 'wx', fileMode)
  extension?.restrict(file)
  step(label, 'opened', file, handle.fd)
  return handle
}

/** Whether a file system says by this error that it does nothing past the page cache. */
export function isIndirect(error: unknown): boolean {
  return ['EINVAL', 'ENOTSUP', 'EOPNOTSUPP'].includes(codeOf(error) ?? '')
}

/** Opens an existing file past the page cache (O_DIRECT); undefined where the system or the file system has no such thing. */
export async function openDirectly(file: string, label: Label): Promise<fs.promises.FileHandle | undefined> {
  const direct: number | undefined = fs.constants.O_DIRECT
  if (direct === undefined) return undefined
  step(label, 'open', file)
  try {
    const handle = await fs.promises.open(file, fs.constants.O_WRONLY | direct)
    step(label, 'opened', file, handle.fd)
    return handle
  } catch (error) {
    if (isIndirect(error)) return undefined
    throw error
  }
}

/** Writes all of `data` at `position`; a short write is continued. */
export function writeAll(fd: number, data: Uint8Array, position: number, label: Label): void {
  step(label, 'write', fd, data, position)
  let done = 0
  while (done < data.length) done += fs.writeSync(fd, data, done, data.length - done, position + done)
}

/** As writeAll, without holding up the event loop. */
export async function writeHandle(handle: fs.promises.FileHandle, data: Uint8Array, position: number, label: Label): Promise<void> {
  step(label, 'write', handle.fd, data, position)
  let done = 0
  while (done < data.length) done += (await handle.write(data, done, data.length - done, position + done)).bytesWritten
}

/** Makes what was written through `fd` durable, without holding up the event loop unless `blocking`. A failure must not be retried. */
export async function syncData(fd: number, label: Label, blocking = false): Promise<void> {
  step(label, 'sync', fd)
  if (blocking) fs.fdatasyncSync(fd)
  else await new Promise<void>((resolve, reject) => fs.fdatasync(fd, (error) => (error === null ? resolve() : reject(error))))
  step(label, 'synced', fd)
}

/** Opens an existing file so that what is written to it is durable when the write ends (O_DSYNC); undefined where the system has no such thing. */
export function openThrough(file: string, label: Label): number | undefined {
  const dsync: number | undefined = fs.constants.O_DSYNC
  if (dsync === undefined) return undefined
  step(label, 'open', file)
  const fd = fs.openSync(file, fs.constants.O_WRONLY | dsync)
  step(label, 'opened', file, fd)
  return fd
}

/** Writes all of `data` to what `openThrough` has opened: write and fsync in one call beside the event loop. A failure must not be retried. */
export async function writeThrough(fd: number, data: Uint8Array, position: number, label: Label): Promise<void> {
  step(label, 'write', fd, data, position)
  step(label, 'sync', fd)
  for (let done = 0; done < data.length; ) {
    done += await new Promise<number>((resolve, reject) => {
      fs.write(fd, data, done, data.length - done, position + done, (error, written) => (error === null ? resolve(written) : reject(error)))
    })
  }
  step(label, 'synced', fd)
}

/** Makes an open file durable. */
export function syncOpen(fd: number, label: Label): void {
  step(label, 'sync', fd)
  fs.fsyncSync(fd)
  step(label, 'synced', fd)
}

/** As syncOpen, without holding up the event loop. */
export async function syncHandle(handle: fs.promises.FileHandle, label: Label): Promise<void> {
  step(label, 'sync', handle.fd)
  await handle.sync()
  step(label, 'synced', handle.fd)
}

/** Cuts an open file to `length` bytes (a shorter one stays as it is); durable with the next sync of it. */
export function cutOpen(fd: number, length: number, label: Label): void {
  step(label, 'cut', fd, length)
  if (fs.fstatSync(fd).size > length) fs.ftruncateSync(fd, length)
}

/** Replaces the content of an open file, in its own blocks; not durable, and not atomic: only for what nobody must rely on. */
export function overwriteOpen(fd: number, text: string, label: Label): void {
  const data = Buffer.from(text)
  writeAll(fd, data, 0, label)
  cutOpen(fd, data.length, label)
}

/** Creates a control group, which is a directory of the kernel's; an existing one is left as it is. */
export function makeControlGroup(directory: string): void {
  fs.mkdirSync(directory, { recursive: true })
}

/** Tells the kernel something about a control group. */
export function writeControlGroup(file: string, text: string): void {
  fs.writeFileSync(file, text)
}

/** Lets the group of the directory use a Unix socket in it (0660); who gets that far is decided by the directory's mode. */
export function shareSocket(file: string): void {
  fs.chmodSync(file, 0o660)
}
