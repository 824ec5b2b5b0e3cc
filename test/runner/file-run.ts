/** Runs one test file in a process group of its own, with a deadline, and judges it. */

import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { waitUntil } from '../support/wait.ts'
import type { TestFile } from './files.ts'
import { endFamily, findFamily, markerVariable } from './processes.ts'
import { readReport, reportVariable } from './report.ts'
import { judge, parseSummary, type Verdict } from './verdict.ts'

export interface FileResult extends Verdict {
  file: TestFile
  output: string
  durationMs: number
}

/** How long a process may live on after its summary, ms. */
const linger = 10_000
/** How long children of an ended test process get to end as well, ms (their kill may be under way). */
const leftoverGrace = 5_000

/** A test starts hundreds of programs from their sources: compiled once, each of them starts in half the time. */
const compiled = path.resolve(import.meta.dirname, '../../node_modules/.cache/compiled')
const preload = pathToFileURL(path.join(import.meta.dirname, 'preload.ts')).href
const active = new Map<number, string>()

/** Runs a file to its end; resolves, never rejects, with the verdict. Nothing that it started is alive afterwards. */
export async function runTestFile(
  file: TestFile,
  options: { allowedSkips?: ReadonlySet<string>; env?: Record<string, string> } = {},
): Promise<FileResult> {
  const begin = performance.now()
  // Short, because Unix sockets lie below it; everything temporary of this file goes with it, also after a SIGKILL.
  const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'dgt-'))
  const report = path.join(scratch, 'report')
  const temporary = path.join(scratch, 't')
  fs.writeFileSync(report, '')
  fs.mkdirSync(temporary)
  const marker = randomUUID()
  const child = spawn(process.execPath, ['--import', preload, file.path], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'], // 3: never written; its end tells the child that the guard is gone
    env: {
      ...process.env,
      TMPDIR: temporary,
      NODE_COMPILE_CACHE: compiled,
      ...options.env,
      [reportVariable]: report,
      [markerVariable]: marker,
    },
  })
  const group = child.pid as number
  const streams = [child.stdout as Readable, child.stderr as Readable]
  active.set(group, marker)

  const chunks: Buffer[] = []
  const output = () => Buffer.concat(chunks).toString('utf8')
  let killed: 'deadline' | 'lingering' | null = null
  function kill(why: 'deadline' | 'lingering'): void {
    killed ??= why
    void endFamily(group, marker)
  }
  let lingering: NodeJS.Timeout | undefined
  for (const stream of streams) {
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      if (lingering === undefined && chunk.includes('Duration:') && parseSummary(output()) !== null)
        lingering = setTimeout(() => kill('lingering'), linger)
    })
  }
  const deadline = setTimeout(() => kill('deadline'), file.deadline)
  const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
  clearTimeout(deadline)
  clearTimeout(lingering)

  const leftovers: string[] = []
  if (killed === null && !(await waitUntil(() => findFamily(group, marker).length === 0, { deadline: leftoverGrace }))) {
    for (const { pid, command } of findFamily(group, marker)) leftovers.push(`${pid} ${command}`)
  }
  await endFamily(group, marker)
  active.delete(group)
  // A leftover child may have held the pipes; now that it is gone they end, and all output is here.
  await waitUntil(() => streams.every((stream) => stream.readableEnded), { deadline: 5_000 })

  const entries = readReport(report)
  // Not at once: the end of another file's process must not be noticed late.
  await fs.promises.rm(scratch, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  const verdict = judge(
    { code, signal, killed, output: output(), entries, leftovers, deadline: file.deadline },
    options.allowedSkips ?? new Set(),
  )
  return { ...verdict, file, output: output(), durationMs: performance.now() - begin }
}

/** From now on a signal that ends the guard ends everything that is running first. */
export function endAllOnSignals(): void {
  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ] as const) {
    process.on(signal, () => void endAll().finally(() => process.exit(128 + number)))
  }
}

async function endAll(): Promise<void> {
  await Promise.all([...active].map(([group, marker]) => endFamily(group, marker)))
}
