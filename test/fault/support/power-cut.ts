/**
 * A power cut: what a disk has left of a recording (test/fault/support/lossy-disk.ts) is put into a directory as after the machine's next start, and
 * the journal in it is repaired and read as an engine and a consumer do. Everything that somebody was told before the cut must be there.
 */

import fs from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import * as assert from 'uvu/assert'
import { type DurableSource, openConsumer } from '../../../agent/journal/consumer.ts'
import type { JournalRepair } from '../../../agent/journal/repair.ts'
import { uuidBytes } from '../../../agent/journal/segment.ts'
import type { JournalConsumer } from '../../../agent/plugin.ts'
import { TestSource } from '../../fixtures/journal-source.ts'
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

/** Cuts after random events, half of them of kinds that are rare, in their order. Each is gone when the next one is asked for. */
export function* cuts({ disk, events }: Recording, count: number, random: Random): Generator<Cut> {
  const workshop = temporaryDirectory('cut')
  const kinds = Map.groupBy(events.keys(), (i) => `${events[i]?.label} ${events[i]?.e}`)
  const place = () => (random.chance(0.5) ? random.int(0, events.length) : random.pick(random.pick([...kinds.values()])) + 1)
  const places = Array.from({ length: events.length === 0 ? 0 : count }, place).sort((a, b) => a - b)
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
  const changed = Buffer.from(bytes)
  uuidBytes(earlierBoot).copy(changed, bootAt)
  changed.writeUInt32LE(crc32(changed.subarray(12, 128)), 8)
  return changed
}

export type Consumer = JournalConsumer & { close(): void }

/** A consumer that may be told of no gap, and must find its cursor good. */
export function follower(paths: { journal: string; cursors: string }, source: DurableSource): Consumer {
  return openConsumer({
    name: 'follower',
    ...paths,
    source,
    onGap: (gap) => assert.unreachable(`the consumer was told of a gap: ${JSON.stringify(gap)}`),
    onBadCursor: () => assert.unreachable('the cursor is bad'),
  })
}

/** A consumer goes on where it was, or before, and gets all that is there. */
export async function assertConsumed(
  { databaseId, ...paths }: { journal: string; cursors: string; databaseId: string },
  confirmed: number,
  repaired: JournalRepair,
): Promise<void> {
  const source = Object.assign(new TestSource(), { databaseId, epoch: repaired.epoch + 1, durableSeq: repaired.lastSeq })
  const consumer = follower(paths, source)
  try {
    assert.ok(consumer.confirmed >= confirmed, `the cursor stands at ${consumer.confirmed}; ${confirmed} was confirmed`)
    assert.ok(consumer.confirmed <= repaired.lastSeq, `the cursor stands at ${consumer.confirmed}; the journal ends at ${repaired.lastSeq}`)
    for (let last = consumer.confirmed; last < repaired.lastSeq; ) {
      for (const { seq } of await consumer.read({ maxRows: 1000, maxDelayMs: 0, signal: AbortSignal.timeout(60_000) }))
        assert.is(seq, ++last)
    }
  } finally {
    consumer.close()
  }
}

/** What has been cut off need not be made durable for real. */
export async function unsynced<T>(work: () => Promise<T>): Promise<T> {
  const { fsyncSync, fdatasync } = fs
  fs.fsyncSync = () => {}
  fs.fdatasync = ((_fd: number, done: (error: null) => void) => void setImmediate(done, null)) as typeof fs.fdatasync
  try {
    return await work()
  } finally {
    Object.assign(fs, { fsyncSync, fdatasync })
  }
}

/** Says where the cut was when the check fails. */
export async function at<T>(cut: Cut, check: () => Promise<T>): Promise<T> {
  try {
    return await check()
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${cut.description}`, { cause: error })
  }
}
