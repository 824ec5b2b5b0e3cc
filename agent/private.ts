/** What this process creates is for its user alone: modes on Unix, access lists on Windows (agent/windows/access.ts), which disk.ts asks for here. */

import { restrictBy } from './disk.ts'
import { restrict } from './windows/access.ts'

/** To be called before anything is created in a data directory. */
export function keepPrivate(): void {
  if (process.platform === 'win32') restrictBy(restrict)
}
