/**
 * Before an engine opens the database: a file that DaemonGuard does not know yet, or one with a DuckDB WAL beside it, is taken over by
 * `daemonguard adopt`, a child process, because replaying a foreign WAL may abort or segfault it. The child works on a copy and
 * keeps the original. A WAL that cannot be replayed goes to quarantine, and what was in it is named as unknown.
 */

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { moveAnywhere } from '../disk.ts'
import { holdsNoCommit } from '../duckfile/wal.ts'
import { messageOf } from '../errors.ts'
import { type Quarantined, quarantine } from '../quarantine.ts'
import { type Ending, endingOf } from './endings.ts'
import { movedWals } from './moved-wals.ts'
import { holderOf } from './process.ts'
import { databaseFiles } from './restore.ts'

export type Takeover =
  /** The engine may open the file. `adopted`: what the child reported, when it ran. */
  | { readonly kind: 'ready'; readonly adopted: Record<string, unknown> | null; readonly unreplayed: Quarantined | null }
  /** Another program has the file open; nothing was touched. */
  | { readonly kind: 'blocked'; readonly pid: number | null; readonly why: string }
  /** The file cannot be taken over, and it is not ours to replace; it lies where it lay. */
  | { readonly kind: 'refused'; readonly why: string; readonly hint: string }
  /** It did not work this time. */
  | { readonly kind: 'failed'; readonly ending: Ending; readonly why: string }

/**
 * Takes the database over if that is needed. The child is never ended half-way, not even when the agent stops: it may be moving files;
 * `signal` only keeps the next step from being taken.
 */
export async function takeOver(options: {
  paths: { database: string; identityFile: string; quarantine: string; adoption: string }
  /** The program that adopts: `daemonguard adopt -c FILE`. */
  command: string
  args: string[]
  time: number
  signal: AbortSignal
}): Promise<Takeover> {
  const { paths, signal } = options
  const [database = paths.database, ...wals] = databaseFiles(paths.database)
  const known = fs.existsSync(paths.identityFile)
  // What a checkpoint of our own leaves that was cut off is no WAL: the engine removes it.
  const hasWal = () => wals.some((file) => fs.existsSync(file) && !(known && holdsNoCommit(file)))
  // An adoption that was interrupted after its copy was whole goes on where it was.
  const interrupted = fs.existsSync(path.join(paths.adoption, 'plan.json'))
  if (!interrupted && !hasWal() && (known || !fs.existsSync(database))) return { kind: 'ready', adopted: null, unreplayed: null }
  const holder = [database, ...wals].map(holderOf).find((pid) => pid !== undefined)
  if (holder !== undefined)
    return { kind: 'blocked', pid: holder, why: `${holder === null ? 'another program' : `process ${holder}`} has the database file open` }
  let unreplayed: Quarantined | null = null
  const quarantineWal = (reason: string) => {
    unreplayed = quarantine({ paths, cause: 'wal-not-replayable', files: wals, reason, time: options.time })
  }
  if (!interrupted && !fs.existsSync(database)) {
    quarantineWal('a WAL without its database file: DuckDB would drop it without a word')
    return { kind: 'ready', adopted: null, unreplayed }
  }
  for (;;) {
    const { ending, report, output } = await run(options.command, options.args)
    const why = typeof report?.reason === 'string' ? report.reason : (output.at(-1) ?? ending.text)
    if (ending.name === 'stopped' && report?.adopted === true) return { kind: 'ready', adopted: report, unreplayed }
    if (ending.name === 'locked') return { kind: 'blocked', pid: pidIn(why), why }
    const unreadable = ending.name === 'corrupt' || ending.name === 'crashed'
    if (!unreadable || signal.aborted) return { kind: 'failed', ending, why }
    if (hasWal()) quarantineWal(`it cannot be replayed (${ending.text}): ${why}`)
    // Our own file: the engine judges it, and a snapshot can replace it.
    else if (known) return { kind: 'ready', adopted: null, unreplayed }
    else {
      await (unreplayed as Quarantined | null)?.settled
      putBack(movedWals(paths.quarantine, wals).flatMap(({ files }) => files))
      return { kind: 'refused', why, hint: `daemonguard scan ${database}, then move it away, or name another file as engine.database` }
    }
  }
}

/** The file cannot be opened without its WAL either, so the WAL is not what is broken: the two belong together. An agent may have died before this. */
function putBack(moved: readonly { file: string; original: string }[]): void {
  for (const { file, original } of moved) if (!fs.existsSync(original)) moveAnywhere(file, original, 'TAKEOVER:BACK')
}

/** The pid that a message names (`pid 123`), or null. */
export function pidIn(text: string): number | null {
  const match = /\bpid[ :=]+(\d+)/i.exec(text)
  return match === null ? null : Number(match[1])
}

/** Runs the child to its end; `report` is the last line of its stdout that is a JSON object. */
function run(command: string, args: string[]): Promise<{ ending: Ending; report: Record<string, unknown> | undefined; output: string[] }> {
  return new Promise((resolve) => {
    const stdout: string[] = []
    const all: string[] = []
    const done = (ending: Ending) => {
      const lines = stdout.join('').split('\n')
      const output = all
        .join('')
        .split('\n')
        .filter((line) => line !== '')
        .slice(-20)
      resolve({ ending, report: lines.map(parseObject).findLast((object) => object !== undefined), output })
    }
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], windowsHide: true })
    child.stdout.setEncoding('utf8').on('data', (text: string) => stdout.push(text) && all.push(text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => all.push(text))
    child.once('error', (error) => {
      if (child.pid === undefined) done({ name: 'unstarted', code: null, signal: null, text: messageOf(error) })
    })
    child.once('close', (code, killed) => {
      if (child.pid !== undefined) done(endingOf(code, killed))
    })
  })
}

function parseObject(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
