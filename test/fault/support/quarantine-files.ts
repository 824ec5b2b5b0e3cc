/** Moves files to quarantine, as the restore step does, and waits until hashes and copies are done. Usage: node quarantine-files.ts DIRECTORY FILE … */

import { quarantine } from '../../../agent/quarantine.ts'

const [directory, ...files] = process.argv.slice(2)
await quarantine({ paths: { quarantine: directory as string }, cause: 'test', files, reason: 'a test' }).settled
