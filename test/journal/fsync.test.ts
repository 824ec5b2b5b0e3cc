// Where the journal's fsync runs: on the event loop, or beside it.

import fs from 'node:fs'
import path from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { append, lastSeqOnDisk, openWriter } from '../fixtures/journal.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { withSync } from './support/sync.ts'

const test = suite('fsync of the journal')
let directory: string

test.before.each(() => {
  directory = path.join(temporaryDirectory('fsync'), 'journal')
})

test('an fsync runs on the event loop when nobody else would gain from that, and the disk answers promptly', async () => {
  let time = 1_700_000_000_000
  let [alone, slow] = [true, 0]
  const where: string[] = []
  const { fdatasyncSync } = fs
  fs.fdatasyncSync = (fd) => {
    where.push('loop')
    time += slow
    fdatasyncSync(fd)
  }
  try {
    await withSync(
      (fd, real, done) => {
        where.push('pool')
        time += slow
        real(fd, done)
      },
      async () => {
        const writer = openWriter(directory, { now: () => time, mayBlock: () => alone, onFailure: () => {} })
        const next = async (expected: 'loop' | 'pool', data?: Uint8Array) => {
          await nextTurn()
          const seq = append(writer, 1, data)
          await writer.durable(seq)
          assert.ok(lastSeqOnDisk(directory) >= seq && writer.durableSeq === seq)
          assert.equal(where.splice(0), [expected])
        }
        // What the disk is like is not known yet.
        await next('pool')
        await next('loop')
        await next('pool', new Uint8Array(1 << 17))
        await next('loop')
        // A second one in the same turn of the event loop is not held up for.
        await next('loop')
        await writer.durable(append(writer, 1))
        assert.equal(where.splice(0), ['pool'])
        alone = false
        await next('pool')
        alone = true
        slow = 5
        await next('loop')
        await next('pool')
        slow = 0
        await next('pool')
        await next('loop')
        fs.fdatasyncSync = () => {
          throw Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' })
        }
        await nextTurn()
        const lost = append(writer, 1)
        assert.match(String(await writer.durable(lost).catch((error: Error) => error)), /could not be written/)
        assert.ok(writer.durableSeq < lost)
        await writer.close()
      },
    )
  } finally {
    fs.fdatasyncSync = fdatasyncSync
  }
})

test.run()
