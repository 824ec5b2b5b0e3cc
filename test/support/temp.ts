/** Temporary directories that vanish with the test process, or with its guard's (test/runner/file-run.ts). Paths are short, so that Unix sockets fit into them. */

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { markerVariable } from '../runner/processes.ts'
import { onExit } from './cleanup.ts'

/** A new empty directory, absolute, mode 0700. */
export function temporaryDirectory(label = 't'): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), `${label}-`))
  // A guard removes all of it afterwards: a server's thousands of files would hold up the end of this process.
  if (process.env[markerVariable] === undefined)
    onExit(() => fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 }))
  return directory
}
