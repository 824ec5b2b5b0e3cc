/**
 * DuckDB opens its file on Windows so that no other process can open it, not even for reading; a duplicate of DuckDB's own handle can be read all
 * the same. So an engine that is held tells which of its handles that is, and the agent borrows it for a scan or a copy. A borrowed handle keeps
 * the file open beyond the engine's death: the next engine waits until it is given back (`becomesFree`).
 */

import { FILE_SHARE_ALL, GENERIC_READ, GENERIC_WRITE, type Handle, kernel, lastError, OPEN_EXISTING } from './kernel.ts'

/** A file as one process has it open. */
export interface OpenFile {
  readonly pid: number
  /** A number that means something in that process only. */
  readonly handle: Handle
}

const FILE_READ_ATTRIBUTES = 0x80
const FILE_GENERIC_READ = 0x120089
const PROCESS_DUP_HANDLE = 0x40
const ERROR_SHARING_VIOLATION = 32
const ERROR_LOCK_VIOLATION = 33
/** Handles are multiples of four, given out from below; a process with more than this many is not ours. */
const highestHandle = 4 * 65_536
/** How long a virus scanner, a backup or a scan of the agent's may keep a file from being opened; and the pause between looks. Milliseconds. */
const patience = 15_000
const pause = 20

let known: OpenFile | undefined

/** Which handle of this process is `file`, open with DuckDB; undefined when none is. The search takes about a millisecond, and is made once. */
export function ownHandle(file: string): OpenFile | undefined {
  const identity = identityOf(file)
  if (identity === undefined) return undefined
  if (known !== undefined && identityOfHandle(known.handle) === identity) return known
  known = undefined
  for (let handle = 4; handle < highestHandle && known === undefined; handle += 4)
    if (identityOfHandle(handle) === identity) known = { pid: process.pid, handle }
  return known
}

/** A descriptor of `file`, for reading, out of another process's handle; the caller closes it. Throws when that process is gone, or has another file there. */
export function borrow(file: string, { pid, handle }: OpenFile): number {
  const calls = kernel()
  const process = calls.openProcess(PROCESS_DUP_HANDLE, 0, pid)
  if (process === 0) throw new Error(`process ${pid} cannot be asked for the file that it has open: ${lastError()}`)
  const copy = Buffer.alloc(8)
  try {
    if (calls.duplicateHandle(process, handle, calls.currentProcess(), copy, FILE_GENERIC_READ, 0, 0) === 0)
      throw new Error(`process ${pid} does not share the file that it has open: ${lastError()}`)
  } finally {
    calls.closeHandle(process)
  }
  const own = Number(copy.readBigInt64LE())
  const identity = identityOf(file)
  // The process may have ended, and its number have been given to another.
  if (identity === undefined || identityOfHandle(own) !== identity) {
    calls.closeHandle(own)
    throw new Error(`process ${pid} has another file open there`)
  }
  const fd = calls.openDescriptor(own)
  if (fd >= 0) return fd
  calls.closeHandle(own)
  throw new Error('no descriptor is left')
}

/** Whether another process keeps the file from being opened as DuckDB opens it: alone. */
export function isInUse(file: string): boolean {
  const calls = kernel()
  const handle = calls.createFile(file, GENERIC_READ + GENERIC_WRITE, 0, null, OPEN_EXISTING, 0, 0)
  if (handle === -1) return [ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION].includes(calls.lastError())
  calls.closeHandle(handle)
  return false
}

/** Waits while another process has the file open. False when it still has after 15 s. */
export async function becomesFree(file: string): Promise<boolean> {
  for (let waited = 0; isInUse(file); waited += pause) {
    if (waited >= patience) return false
    await new Promise((resolve) => setTimeout(resolve, pause))
  }
  return true
}

/** Volume and number of a file, whoever has it open; undefined when there is none. */
function identityOf(file: string): string | undefined {
  const calls = kernel()
  const handle = calls.createFile(file, FILE_READ_ATTRIBUTES, FILE_SHARE_ALL, null, OPEN_EXISTING, 0, 0)
  if (handle === -1) return undefined
  try {
    return identityOfHandle(handle)
  } finally {
    calls.closeHandle(handle)
  }
}

const information = Buffer.alloc(52)

function identityOfHandle(handle: Handle): string | undefined {
  if (kernel().fileInformation(handle, information) === 0) return undefined
  // BY_HANDLE_FILE_INFORMATION: the volume's serial number at 28, the file's index at 44 (high) and 48 (low).
  return [28, 44, 48].map((at) => information.readUInt32LE(at)).join(':')
}
