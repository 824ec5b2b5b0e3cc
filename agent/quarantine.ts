/**
 * Quarantine: where the evidence of an incident goes, in quarantine/<UTC time>-<cause>/ with a reason.json that says where each
 * file lay, its size and SHA-256, why it was moved, and the last lines of engine.log. Nothing is ever deleted.
 *
 * The service must not wait for evidence: files are renamed at once and hashed afterwards. On another file system a file is
 * first renamed aside within its own, and copied over in the background; until that is done, reason.json names where it lies.
 */

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { copyInBackground, ensureDirectory, freeName, moveDurably, removeDurably, writeAtomic } from './disk.ts'
import { codeOf, messageOf } from './errors.ts'
import { causeName, timeStamp } from './incidents.ts'

export interface QuarantinedFile {
  /** Where it lay. */
  original: string
  /** Where it lies now. */
  file: string
  bytes: number
  /** Null until it has been read. */
  sha256: string | null
  /** Why it could not be hashed or brought over; it lies at `file` nevertheless. */
  problem?: string
}

export interface Quarantined {
  readonly directory: string
  readonly files: readonly QuarantinedFile[]
  /** Resolves when hashes and copies are done and reason.json says so. Never rejects. */
  readonly settled: Promise<void>
}

/**
 * Moves `files` (those that exist) into a new directory under `paths.quarantine`. The files are out of the way when this
 * returns. Throws when a file cannot be moved.
 */
export function quarantine(options: {
  paths: { quarantine: string }
  /** Kebab case; becomes part of the directory's name. */
  cause: string
  files: readonly string[]
  reason: string
  /** Last lines of the engine's log. */
  logTail?: readonly string[]
  evidence?: Record<string, unknown>
  /** Milliseconds since the Unix epoch; default now. */
  time?: number
}): Quarantined {
  const time = options.time ?? Date.now()
  ensureDirectory(options.paths.quarantine, 'QUARANTINE:DIRECTORY')
  const directory = freeName(path.join(options.paths.quarantine, `${timeStamp(time)}-${causeName(options.cause)}`))
  ensureDirectory(directory, 'QUARANTINE:DIRECTORY')
  const files: QuarantinedFile[] = []
  const toCopy: { entry: QuarantinedFile; target: string }[] = []
  const report = () => {
    const { cause, reason, evidence = {}, logTail = [] } = options
    const content = { version: 1, time: new Date(time).toISOString(), cause, reason, files, evidence, logTail }
    writeAtomic(
      path.join(directory, 'reason.json'),
      `${JSON.stringify(content, (_key, value) => (typeof value === 'bigint' ? `${value}` : value), 2)}\n`,
      'QUARANTINE:REASON',
    )
  }
  try {
    for (const original of options.files) {
      const bytes = sizeOf(original)
      if (bytes === undefined) continue
      const name = path.basename(original)
      const promised = new Set(toCopy.map(({ target }) => target))
      const target = freeName(path.join(directory, name === 'reason.json' ? 'reason.json-original' : name), promised)
      const entry: QuarantinedFile = { original, file: target, bytes, sha256: null }
      files.push(entry)
      // Before each move: after a death in between the report says where the file is.
      attempt(report)
      try {
        moveDurably(original, target, 'QUARANTINE:MOVE')
      } catch (error) {
        files.pop()
        if (codeOf(error) !== 'EXDEV') throw error
        entry.file = freeName(`${original}.quarantined-${timeStamp(time)}`)
        files.push(entry)
        attempt(report)
        moveDurably(original, entry.file, 'QUARANTINE:ASIDE')
        toCopy.push({ entry, target })
      }
    }
  } finally {
    // A full disk may refuse a report; the files are safe where they are, and the report is tried again at the end.
    attempt(report)
  }
  const settle = async () => {
    for (const { entry, target } of toCopy) {
      try {
        await copyInBackground(entry.file, target, 'QUARANTINE:COPY')
        const aside = entry.file
        entry.file = target
        attempt(report)
        removeDurably(aside, 'QUARANTINE:COPIED')
      } catch (error) {
        entry.problem = `still on its own file system: ${messageOf(error)}`
      }
    }
    for (const entry of files) {
      try {
        entry.sha256 = await sha256Of(entry.file)
      } catch (error) {
        entry.problem = `not hashed: ${messageOf(error)}`
      }
    }
    attempt(report)
  }
  return { directory, files, settled: settle() }
}

/** The quarantines of a cause, newest first, with what their reason.json says; one that cannot be read says nothing. */
export function listed(quarantine: string, cause: string): { directory: string; reason: Record<string, unknown> }[] {
  const names = fs.existsSync(quarantine) ? fs.readdirSync(quarantine) : []
  const wanted = names.filter((name) => new RegExp(`-${cause}(-\\d+|\\.\\d+)?$`).test(name)).sort()
  return wanted.reverse().flatMap((name) => {
    const directory = path.join(quarantine, name)
    try {
      return [{ directory, reason: JSON.parse(fs.readFileSync(path.join(directory, 'reason.json'), 'utf8')) as Record<string, unknown> }]
    } catch {
      return []
    }
  })
}

/** The last lines of a text file, at most `lines` of its last 64 KB; [] when it cannot be read. */
export function tailOf(file: string, lines = 50): string[] {
  try {
    const fd = fs.openSync(file, 'r')
    try {
      const size = fs.fstatSync(fd).size
      const buffer = Buffer.alloc(Math.min(size, 65_536))
      const length = fs.readSync(fd, buffer, 0, buffer.length, size - buffer.length)
      return buffer
        .toString('utf8', 0, length)
        .split('\n')
        .filter((line) => line !== '')
        .slice(-lines)
    } finally {
      fs.closeSync(fd)
    }
  } catch {
    return []
  }
}

function sizeOf(file: string): number | undefined {
  try {
    return fs.lstatSync(file).size
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of fs.createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk)
  return hash.digest('hex')
}

function attempt(work: () => void): void {
  try {
    work()
  } catch {
    // Said by the caller: reason.json is missing or old, the files are where they are.
  }
}
