/**
 * A power cut: what a disk has left of a recording (test/fault/support/lossy-disk.ts) is put into a directory as after the machine's next start, and
 * the journal in it is repaired and read as an engine and a consumer do. Everything that somebody was told before the cut must be there.
 */

import fs from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import { uuidBytes } from '../../../agent/journal/segment.ts'
import type { Random } from '../../support/random.ts'
import { temporaryDirectory } from '../../support/temp.ts'
import type { LossyDisk } from './lossy-disk.ts'
import type { DiskEvent } from './recorder.ts'

const earlierBoot = '99999999-8888-4777-8666-555555555555'

/** What a directory has gone through since `disk` was made of it. */
export interface Recording {
  readonly disk: LossyDisk
  readonly events: readonly DiskEvent[]
}

export interface Cut {
  /** What is left, in a directory that has the place of the recording's root. */
  readonly root: string
  /** What was told before it. */
  readonly told: unknown[]
  /** For a failure: where it was, and what was kept and lost. */
  readonly description: string
}

/** Cuts after random events, in their order. Each is gone when the next one is asked for. */
export function* cuts({ disk, events }: Recording, count: number, random: Random): Generator<Cut> {
  const workshop = temporaryDirectory('cut')
  const places = Array.from({ length: count }, () => random.int(0, events.length)).sort((a, b) => a - b)
  const told: unknown[] = []
  let at = 0
  for (const [i, place] of places.entries()) {
    for (; at < place; at++) {
      const event = events[at] as DiskEvent
      disk.apply(event, event.e === 'content' ? events.slice(at + 1) : [])
      if (event.e === 'told') told.push(event.what)
    }
    const root = path.join(workshop, String(i))
    const story = disk.cut(root, random, afterRestart)
    const before = events.slice(Math.max(0, at - 8), at).map(({ e, label }) => `${label} ${e}`)
    yield { root, told: [...told], description: `cut ${at} of ${events.length}, after ${before.join(', ')}\n${story.join('\n')}` }
    fs.rmSync(root, { recursive: true, force: true })
  }
}

/** The machine has been started since: what names its boot names an earlier one. */
function afterRestart(name: string, bytes: Buffer): Buffer {
  const bootAt = name.endsWith('.dgj') ? 48 : name === 'durable.mark' ? 56 : undefined
  if (bootAt === undefined || bytes.length < 128 || crc32(bytes.subarray(12, 128)) !== bytes.readUInt32LE(8)) return bytes
  uuidBytes(earlierBoot).copy(bytes, bootAt)
  bytes.writeUInt32LE(crc32(bytes.subarray(12, 128)), 8)
  return bytes
}
