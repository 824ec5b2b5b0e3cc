/**
 * What agent/disk.ts cannot do on Windows by Node's words. It is told from here, and does not import it: the addon that calls the system
 * (agent/windows/kernel.ts) may have to be unpacked first, by way of agent/disk.ts.
 */

import { extendDisk } from '../disk.ts'
import { restrict } from './access.ts'
import { FILE_SHARE_ALL, GENERIC_WRITE, kernel, OPEN_EXISTING } from './kernel.ts'

/** A directory can be opened with this only. */
const FILE_FLAG_BACKUP_SEMANTICS = 0x02000000

/** To be called before anything is created in a data directory. Nothing on other systems. */
export function prepareDisk(): void {
  if (process.platform === 'win32') extendDisk({ restrict, flushDirectory })
}

/**
 * FlushFileBuffers on a directory, for the names in it: NTFS does it, though Microsoft documents it for files and volumes alone. A file system
 * that refuses goes without: NTFS and ReFS keep the order of such changes in a log of their own, so what may be missing after a power cut is the latest of them.
 */
function flushDirectory(directory: string): void {
  const calls = kernel()
  const handle = calls.createFile(directory, GENERIC_WRITE, FILE_SHARE_ALL, null, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, 0)
  if (handle === -1) return
  calls.flush(handle)
  calls.closeHandle(handle)
}
