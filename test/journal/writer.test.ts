import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock } from '../../agent/clock.ts'
import { freeBytes } from '../../agent/disk.ts'
import { readMark } from '../../agent/journal/mark.ts'
import { SegmentReader } from '../../agent/journal/reader.ts'
import { listSegments, segmentHeaderBytes } from '../../agent/journal/segment.ts'
import { readTransactions } from '../../agent/journal/transactions.ts'
import { watchSteps } from '../../agent/step.ts'
import { append, batchesOf, databaseId, encoded, lastSeqOnDisk, openWriter, seqsOf, writeJournal } from '../fixtures/journal.ts'
import { onExit } from '../support/cleanup.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { withSync } from './support/sync.ts'

const test = suite('journal writer')
let directory: string

test.before.each(() => {
  directory = path.join(temporaryDirectory('writer'), 'journal')
})

const order = (count: number) => Array.from({ length: count }, (_, i) => i + 1)
const lastInFile = () => lastSeqOnDisk(directory)

test('many appends share few fsyncs, keep their order, and are told durable in order, after their fsync', async () => {
  let syncs = 0
  const durable: number[] = []
  const told: number[] = []
  let synced = 0
  let overstated = 0
  await withSync(
    (fd, real, done) => {
      syncs += 1
      const upTo = lastInFile()
      // An overstated mark would turn a torn tail into corruption.
      if ((readMark(directory, databaseId)?.seq ?? 0) > synced) overstated += 1
      real(fd, (error) => {
        synced = upTo
        done(error)
      })
    },
    async () => {
      const writer = openWriter(directory, { onDurable: (seq) => durable.push(seq) })
      const clients = Array.from({ length: 50 }, async (_, client) => {
        for (let i = 0; i < 20; i++) {
          const seq = append(writer, client)
          await writer.durable(seq)
          assert.ok(synced >= seq, `seq ${seq} is in the file that was fsynced`)
          assert.ok(lastInFile() >= seq)
          assert.ok((readMark(directory, databaseId)?.seq ?? 0) >= seq, `the mark covers seq ${seq}`)
          told.push(seq)
        }
      })
      await Promise.all(clients)
      assert.is(writer.durableSeq, 1000)
      await writer.close()
    },
  )
  assert.is(overstated, 0, 'the mark never says more than was fsynced')
  assert.ok(syncs < 100, `${syncs} fsyncs for 1000 transactions`)
  assert.equal(seqsOf(directory), order(1000))
  assert.equal(told, order(1000))
  assert.equal(
    durable,
    [...durable].sort((a, b) => a - b),
  )
  assert.is(durable.at(-1), 1000)
})

test('segments follow each other without a gap, each sealed at its last batch, and no descriptor is left open', async () => {
  const descriptors = () => fs.readdirSync('/proc/self/fd').length
  const before = descriptors()
  const writer = openWriter(directory, { segmentBytes: segmentHeaderBytes + 5000 })
  for (let i = 0; i < 40; i++) {
    // Together and alone, so that the journal goes on to the next segment with and without a flush under way.
    const seqs = Array.from({ length: (i % 3) + 1 }, () => append(writer, i, new Uint8Array(1500).fill(i + 1)))
    await writer.durable(seqs.at(-1) as number)
  }
  const last = writer.nextSeq - 1
  await writer.close()
  await writer.close()
  const segments = listSegments(directory)
  assert.ok(segments.length > 10)
  assert.equal(seqsOf(directory), order(last))
  for (const { file, firstSeq } of segments) {
    const reader = new SegmentReader(file)
    assert.is(reader.header?.firstSeq, firstSeq)
    let result = reader.next()
    while (result.kind === 'batch') result = reader.next()
    assert.is(fs.statSync(file).size, result.offset, `${path.basename(file)} is cut to its last batch`)
    reader.close()
  }
  assert.is(descriptors(), before)
  assert.throws(() => append(writer, 1), /closed/)
})

test('a segment and its directory entry are durable before anything is written into it', async () => {
  const steps: string[] = []
  watchSteps(({ label, kind }) => steps.push(`${label} ${kind}`))
  try {
    const writer = openWriter(directory, { segmentBytes: segmentHeaderBytes + 5000 })
    for (let i = 0; i < 20; i++) await writer.durable(append(writer, i, new Uint8Array(3000)))
    await writer.close()
  } finally {
    watchSteps(() => {})
  }
  const kinds = [
    'SEGMENT:HEADER write',
    'SEGMENT:SYNC synced',
    'SEGMENT:ENTRY synced-directory',
    'JOURNAL:WRITE write',
    'JOURNAL:SYNC synced',
  ]
  const seen = steps.filter((text) => kinds.includes(text))
  let since: string[] = []
  let segments = 0
  for (const text of seen) {
    if (text === 'SEGMENT:HEADER write') {
      since = []
      segments++
    }
    if (text === 'JOURNAL:WRITE write') assert.equal(since.slice(0, 3), kinds.slice(0, 3))
    since.push(text)
  }
  assert.ok(segments > 5, `${segments} segments`)
})

test('a writer that gets nothing leaves a segment of its header, and space is allocated as zeros', async () => {
  const writer = openWriter(directory, { nextSeq: 8 })
  const { file } = listSegments(directory)[0] as { file: string }
  const bytes = fs.readFileSync(file)
  assert.ok(bytes.length >= 1 << 20)
  assert.ok(bytes.subarray(segmentHeaderBytes).every((byte) => byte === 0))
  await writer.close()
  assert.is(fs.statSync(file).size, segmentHeaderBytes)
  assert.equal(seqsOf(directory), [])
})

test('space is allocated ahead of every append, in zeros', async () => {
  const writer = openWriter(directory)
  const { file } = listSegments(directory)[0] as { file: string }
  for (const size of [10, 3 << 20, 100]) {
    const transaction = encoded(1, new Uint8Array(size).fill(1))
    writer.reserve([transaction])
    const allocated = fs.statSync(file).size
    await writer.durable(writer.append(transaction, 1))
    assert.is(fs.statSync(file).size, allocated, 'the append needs no more')
    const { offset, length } = batchesOf(directory).at(-1) as { offset: number; length: number }
    assert.ok(
      fs
        .readFileSync(file)
        .subarray(offset + length)
        .every((byte) => byte === 0),
    )
  }
  await writer.close()
})

test('sync() resolves with nothing to write, and under constant load', async () => {
  const writer = openWriter(directory)
  await writer.sync()
  let stopped = false
  const load = Promise.all(
    order(20).map(async () => {
      while (!stopped) await writer.durable(append(writer, 1))
    }),
  )
  for (let i = 0; i < 20; i++) await writer.sync()
  stopped = true
  await load
  await writer.close()
  assert.equal(seqsOf(directory), order(writer.nextSeq - 1))
})

test('after a failed fsync nothing is tried again: one report, then every waiter is rejected', async () => {
  const failures: Error[] = []
  let syncs = 0
  await withSync(
    (_fd, _real, done) => {
      syncs += 1
      done(Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' }))
    },
    async () => {
      const rejected: string[] = []
      const note = (name: string) => () => {
        assert.is(failures.length, 1, 'the engine is told before any client')
        rejected.push(name)
      }
      const writer = openWriter(directory, { onFailure: (error) => failures.push(error) })
      const waiting = [
        writer.sync().catch(note('sync')),
        writer.durable(append(writer, 1)).catch(note('one')),
        writer.durable(append(writer, 2)).catch(note('two')),
      ]
      await Promise.all(waiting)
      assert.equal(rejected.sort(), ['one', 'sync', 'two'])
      assert.throws(() => writer.reserve([encoded(3)]), /could not be written/)
      await writer.durable(1).then(
        () => assert.unreachable(),
        (error) => assert.is(error, failures[0]),
      )
      await writer.sync().then(
        () => assert.unreachable(),
        (error) => assert.is(error, failures[0]),
      )
      assert.is(writer.durableSeq, 0)
      await writer.close()
      assert.is(syncs, 1)
    },
  )
  assert.is(failures.length, 1)
})

test('a write that fails after the room was reserved is reported once', async () => {
  const failures: Error[] = []
  const writer = openWriter(directory, { onFailure: (error) => failures.push(error) })
  await writer.durable(append(writer, 1))
  const real = fs.writeSync
  fs.writeSync = (() => {
    throw Object.assign(new Error('EIO: i/o error, write'), { code: 'EIO' })
  }) as typeof fs.writeSync
  try {
    // Room is there, so that reserve itself writes nothing.
    const seqs = [append(writer, 2), append(writer, 3)]
    for (const seq of seqs)
      await writer.durable(seq).then(
        () => assert.unreachable(),
        (error) => assert.match(error.message, /EIO/),
      )
  } finally {
    fs.writeSync = real
  }
  assert.is(failures.length, 1)
  await writer.close()
  assert.is(failures.length, 1)
})

test('an engine callback that throws keeps no waiter waiting', async () => {
  const unhandled: unknown[] = []
  const listener = (error: unknown) => unhandled.push(error)
  process.on('unhandledRejection', listener)
  await withSync(
    (_fd, _real, done) => done(new Error('EIO')),
    async () => {
      const writer = openWriter(directory, {
        onFailure: () => {
          throw new Error('the callback fails too')
        },
      })
      await writer.durable(append(writer, 1)).then(
        () => assert.unreachable(),
        (error) => assert.match(error.message, /could not be written/),
      )
    },
  )
  await systemClock.sleep(0)
  process.off('unhandledRejection', listener)
})

test('a transaction that is too large is refused with a hint', () => {
  const writer = openWriter(directory)
  const transaction = encoded(1)
  const huge = { ...transaction, body: { length: 2 ** 31 } as Buffer }
  assert.throws(() => writer.reserve([huge]), /larger than the journal takes/)
  assert.is(writer.nextSeq, 1)
})

const isRoot = process.getuid?.() === 0
const onFullDisk = isRoot && process.platform === 'linux' ? test : test.skip

onFullDisk(
  'a full disk is met by reserve, before anything has happened; writes resume when there is space (needs root: mounts a tmpfs)',
  async () => {
    const disk = temporaryDirectory('disk')
    assert.is(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', disk]).status, 0)
    onExit(() => spawnSync('umount', ['-l', disk]))
    const journal = path.join(disk, 'journal')
    let failures = 0
    const writer = openWriter(journal, { segmentBytes: 2 << 20, onFailure: () => failures++ })
    await writer.durable(append(writer, 1))
    const ballast = path.join(disk, 'ballast')
    const ballastFd = fs.openSync(ballast, 'w')
    try {
      for (;;) fs.writeSync(ballastFd, Buffer.alloc(64 << 10))
    } catch {
      // full
    }
    const content = () => [...readTransactions(journal, 1)].length
    // What was allocated ahead is used up first; then every size is refused.
    let refused = false
    for (let i = 0; i < 100 && !refused; i++) {
      const before = { seq: writer.nextSeq, transactions: content(), names: fs.readdirSync(journal).sort() }
      try {
        await writer.durable(append(writer, i, new Uint8Array(200_000).fill(1)))
      } catch (error) {
        refused = true
        assert.match((error as Error).message, /no room for the journal: the disk is full \(ENOSPC/)
        assert.ok((error as { hint?: string }).hint)
        assert.equal({ seq: writer.nextSeq, transactions: content(), names: fs.readdirSync(journal).sort() }, before)
      }
    }
    assert.ok(refused)
    await writer.sync()
    // What is too little for the journal is left to others.
    fs.ftruncateSync(ballastFd, fs.fstatSync(ballastFd).size - (512 << 10))
    const left = freeBytes(disk)
    assert.throws(() => append(writer, 0, new Uint8Array(200_000)), /the disk is full/)
    assert.is(freeBytes(disk), left)
    fs.closeSync(ballastFd)
    fs.rmSync(ballast)
    // Also over the end of the segment, where a new one must be created.
    for (let i = 0; i < 12; i++) await writer.durable(append(writer, i, new Uint8Array(300_000).fill(1)))
    assert.ok(listSegments(journal).length > 1)
    await writer.close()
    assert.is(failures, 0)
    const seqs = [...readTransactions(journal, 1)].map(({ seq }) => seq)
    assert.equal(seqs, order(writer.nextSeq - 1))
  },
)

onFullDisk('a writer that starts on a full disk takes nothing, says why, and begins by itself when there is space', async () => {
  const disk = temporaryDirectory('disk')
  assert.is(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk]).status, 0)
  onExit(() => spawnSync('umount', ['-l', disk]))
  const journal = path.join(disk, 'journal')
  await writeJournal(journal, [null, null])
  const before = fs.readdirSync(journal)
  const ballast = path.join(disk, 'ballast')
  // Part of the space for a segment is there: it is given back, for smaller files.
  fs.writeFileSync(ballast, Buffer.alloc(freeBytes(disk) - (512 << 10)))
  const writer = openWriter(journal, { nextSeq: 3, onFailure: assert.unreachable })
  assert.match(writer.shortage ?? '', 'the disk is full')
  assert.throws(() => append(writer, 3), /the disk is full/)
  assert.equal([writer.nextSeq, writer.durableSeq, freeBytes(disk), fs.readdirSync(journal)], [3, 2, 512 << 10, before])
  await writer.sync()
  await writer.durable(2)
  fs.rmSync(ballast)
  await waitFor('it has begun', () => writer.shortage === null)
  await writer.durable(append(writer, 3))
  await writer.close()
  assert.equal(
    [...readTransactions(journal, 1)].map(({ seq }) => seq),
    [1, 2, 3],
  )
  assert.is(readMark(journal, databaseId)?.seq, 3)
})

onFullDisk('a full disk at the end of a segment leaves the old one in use', async () => {
  const disk = temporaryDirectory('disk')
  assert.is(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk]).status, 0)
  onExit(() => spawnSync('umount', ['-l', disk]))
  const journal = path.join(disk, 'journal')
  const writer = openWriter(journal, { segmentBytes: segmentHeaderBytes })
  await writer.durable(append(writer, 1))
  fs.writeFileSync(path.join(disk, 'ballast'), Buffer.alloc((2 << 20) + (512 << 10)))
  assert.throws(() => append(writer, 2), /ENOSPC/)
  assert.is(listSegments(journal).length, 1)
  fs.rmSync(path.join(disk, 'ballast'))
  await writer.durable(append(writer, 2))
  await writer.close()
  assert.equal(
    [...readTransactions(journal, 1)].map(({ seq }) => seq),
    [1, 2],
  )
})

test('the mark stands where the journal ends', async () => {
  await writeJournal(directory, [null, null, null])
  const { file, offset, length } = batchesOf(directory).at(-1) as { file: string; offset: number; length: number }
  const mark = readMark(directory, databaseId)
  assert.equal([mark?.segment, mark?.offset, mark?.seq], [Number(path.basename(file, '.dgj')), offset + length, 3])
})

test.run()
