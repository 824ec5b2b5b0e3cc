/** Which boot of the machine this is: what was written in an earlier one may have been cut short by a power loss. */

import fs from 'node:fs'
import * as windows from './windows/processes.ts'

let known: string | null | undefined

/** In the form of a UUID; null where it cannot be known. */
export function bootId(): string | null {
  known ??= process.platform === 'win32' ? windows.bootId() : linuxBootId()
  return known
}

function linuxBootId(): string | null {
  try {
    return fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    return null
  }
}
