/** How this very program runs: from its sources by Node, or packed into one executable; and how to start it once more. */

import path from 'node:path'
import { getAsset, isSea } from 'node:sea'
import { Worker, type WorkerOptions } from 'node:worker_threads'
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

/** The bundle of a thread's program among the executable's assets (build/bundle.ts). */
export const threadAsset = 'duckdb-thread.cjs'

/** Starts agent/engine/duckdb-thread.ts as a thread, with what it is told. It holds next to nothing in JavaScript. */
export function startThread(workerData: unknown): Worker {
  const options: WorkerOptions = { workerData, resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1 } }
  const packed = packedText(threadAsset)
  if (packed !== undefined) return new Worker(packed, { ...options, eval: true })
  // The sources, or what a bundler has made of them.
  return new Worker(path.join(import.meta.dirname, 'engine', `duckdb-thread${path.extname(import.meta.filename)}`), options)
}
