/** How this very program runs: from its sources by Node, or packed into one executable; and how to start it once more. */

import path from 'node:path'
import { getAsset, isSea } from 'node:sea'
import packageJson from '../package.json' with { type: 'json' }

/** DaemonGuard's version. */
export const version: string = packageJson.version

/** True in the packed executable. */
export const isPacked: boolean = isSea()

/** A text that was packed into the executable; undefined when the program runs from its sources. */
export function packedText(key: string): string | undefined {
  return isPacked ? getAsset(key, 'utf8') : undefined
}

/** The command that starts this program again; a subcommand and its options are to be appended to `args`. */
export function selfCommand(): { command: string; args: string[] } {
  if (isPacked) return { command: process.execPath, args: [] }
  return { command: process.execPath, args: [path.join(import.meta.dirname, 'main.ts')] }
}

/** What was typed after the program's name. Node puts something in argv[1] in both cases: the script, or the executable again. */
export function commandLine(): string[] {
  return process.argv.slice(2)
}
