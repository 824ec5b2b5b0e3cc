/** Temporary directories that vanish with the test process. Paths are short, so that Unix sockets fit into them. */

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { onExit } from './cleanup.ts'

/** A new empty directory, absolute, mode 0700; removed when this process ends. */
export function temporaryDirectory(label = 't'): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), `${label}-`))
  onExit(() => fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 }))
  return directory
}
