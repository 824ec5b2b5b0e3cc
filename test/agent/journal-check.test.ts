import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { markFile, writeMark } from '../../agent/journal/mark.ts'
import { SegmentReader } from '../../agent/journal/reader.ts'
import { TransactionEncoder } from '../../agent/journal/record.ts'
import { listSegments, segmentHeaderBytes } from '../../agent/journal/segment.ts'
import { readTransactions } from '../../agent/journal/transactions.ts'
import type { Change, Table } from '../../agent/journal/types.ts'
import { JournalWriter } from '../../agent/journal/writer.ts'
import { plainChanges, verifyJournal } from '../../agent/journal-check.ts'
import { type BatchPlace, batchesOf } from '../fixtures/journal.ts'
import { spawnChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('journal check')
const databaseId = '00000000-0000-4000-8000-000000000001'
let directory: string

const trades: Table = {
  schema: 'main',
  name: 'trades',
  columns: [
    { name: 'id', type: { kind: 'BIGINT' }, sqlType: 'BIGINT', nullable: false },
    { name: 'price', type: { kind: 'DECIMAL', width: 18, scale: 2 }, sqlType: 'DECIMAL(18,2)', nullable: true },
    { name: 'tags', type: { kind: 'LIST', child: { kind: 'VARCHAR' } }, sqlType: 'VARCHAR[]', nullable: true },
  ],
  primaryKey: [0],
}
const insert = (id: number): Change => ({
  kind: 'insert',
  table: trades,
  rows: {
    count: 2,
    columns: [
      [BigInt(id), 2n ** 60n],
      [1234n, null],
      [['a', 'b'], []],
    ],
  },
})

/** Writes each list of changes as a transaction of its own, one batch each, in segments of `segmentBytes`. */
async function write(transactions: Change[][], segmentBytes?: number): Promise<void> {
  const writer = writerAt(1, segmentBytes)
  for (const changes of transactions) {
    const encoder = new TransactionEncoder()
    for (const change of changes) encoder.add(change)
    const encoded = encoder.finish()
    writer.reserve([encoded])
    const seq = writer.append(encoded, 1_800_000_000_000)
    await writer.durable(seq)
  }
  await writer.close()
}

function writerAt(nextSeq: number, segmentBytes?: number): JournalWriter {
  const onFailure = (error: Error) => {
    throw error
  }
  return new JournalWriter({ directory, databaseId, epoch: 1, nextSeq, segmentBytes, onFailure })
}

function flip(file: string, offset: number): void {
  const fd = fs.openSync(file, 'r+')
  const byte = Buffer.alloc(1)
  fs.readSync(fd, byte, 0, 1, offset)
  byte[0] = (byte[0] as number) ^ 1
  fs.writeSync(fd, byte, 0, 1, offset)
  fs.closeSync(fd)
}

test.before.each(() => {
  directory = path.join(temporaryDirectory('journal'), 'journal')
})

test('an intact journal is clean, over segment boundaries', async () => {
  await write(
    Array.from({ length: 20 }, (_, i) => [insert(i)]),
    6000,
  )
  const result = verifyJournal(directory)
  assert.equal(
    [result.verdict, result.firstSeq, result.lastSeq, result.transactions, result.gaps, result.damage],
    ['clean', 1, 20, 20, [], []],
  )
  assert.ok(result.segments > 1)
  assert.is(verifyJournal(path.join(directory, 'none')).verdict, 'clean')
})

test('a segment that retention deletes meanwhile is no damage', async () => {
  await write(
    Array.from({ length: 20 }, (_, i) => [insert(i)]),
    6000,
  )
  const [first, second] = listSegments(directory)
  fs.rmSync(first?.file as string)
  // As it is for whoever has listed it before.
  fs.symlinkSync('gone', first?.file as string)
  const result = verifyJournal(directory)
  assert.equal(
    [result.verdict, result.firstSeq, result.lastSeq, result.segments],
    ['clean', second?.firstSeq, 20, listSegments(directory).length - 1],
  )
})

test('one flipped bit in the middle is damage, and names the transaction that is missing', async () => {
  await write([[insert(1)], [insert(2)], [insert(3)]])
  const [segment] = listSegments(directory)
  flip(segment?.file as string, segmentHeaderBytes + 70)
  const result = verifyJournal(directory)
  assert.is(result.verdict, 'damaged')
  assert.equal([result.damage.length, result.damage[0]?.offset, result.transactions, result.firstSeq], [1, segmentHeaderBytes, 2, 2])
})

test('a journal whose last segment is empty is clean when retention has deleted all before it, and damaged when their end is missing', async () => {
  await write([[insert(1)], [insert(2)], [insert(3)]])
  const [old] = listSegments(directory)
  await writerAt(4).close()
  assert.is(verifyJournal(directory).verdict, 'clean')
  fs.truncateSync(old?.file as string, segmentHeaderBytes)
  assert.equal(verifyJournal(directory).gaps, [{ firstSeq: 1, lastSeq: 3 }])
  fs.rmSync(old?.file as string)
  const { verdict, gaps, firstSeq } = verifyJournal(directory)
  assert.equal([verdict, gaps, firstSeq], ['clean', [], null])
})

test('a journal that grows while it is read is no damage', async () => {
  const writer = writerAt(1)
  const add = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const encoder = new TransactionEncoder()
      encoder.add(insert(writer.nextSeq))
      const encoded = encoder.finish()
      writer.reserve([encoded])
      await writer.durable(writer.append(encoded, 1_800_000_000_000))
    }
  }
  await add(1)
  const reading = readTransactions(directory, 1)
  assert.is(reading.next().value?.seq, 1)
  await add(2)
  assert.equal(
    [...reading].map(({ seq }) => seq),
    [2, 3],
  )
  await writer.close()
})

test('a batch that was read while it was being written is whole once another one stands behind it', async () => {
  await write([[insert(1)], [insert(3)], [insert(5)]])
  const file = listSegments(directory)[0]?.file as string
  const [, second, third] = batchesOf(directory)
  const whole = fs.readFileSync(file)
  fs.writeFileSync(file, whole.subarray(0, (second as BatchPlace).offset + 100))
  const reader = new SegmentReader(file)
  assert.is(reader.next().kind, 'batch')
  const { kind, offset } = reader.next()
  assert.equal([kind, offset, reader.resume(offset)], ['bad', second?.offset, undefined])
  fs.writeFileSync(file, whole)
  assert.is(reader.resume(offset), offset)
  assert.equal([reader.next().offset, reader.next().offset], [second?.offset, third?.offset])
  reader.close()
})

test('a journal that another process writes as fast as it can, from segment to segment, is clean at every look', async () => {
  const fixture = path.resolve(import.meta.dirname, '../fixtures/journal-appender.ts')
  const writer = spawnChild(process.execPath, [fixture, directory, `${directory}.quarantine`, '1', 'small'])
  try {
    await waitFor('a journal', () => writer.exit !== null || listSegments(directory).length > 3, { every: 1 })
    for (let look = 1; look <= 20; look++) {
      const verdict = verifyJournal(directory)
      assert.is(verdict.verdict, 'clean', `look ${look}: ${JSON.stringify(verdict)}`)
      const before = verdict.durableSeq as number
      const seqs = [...readTransactions(directory, Math.max(1, before - 500), before)].map(({ seq }) => seq)
      assert.is(seqs.at(-1), before, `look ${look}`)
      for (const { file } of listSegments(directory).slice(0, -4)) fs.rmSync(file)
    }
    assert.is(writer.exit, null, writer.output())
  } finally {
    await writer.kill()
  }
})

test('a gap between two segments is damage', async () => {
  await write(
    Array.from({ length: 20 }, (_, i) => [insert(i)]),
    6000,
  )
  const segments = listSegments(directory)
  fs.rmSync(segments[1]?.file as string)
  const result = verifyJournal(directory)
  assert.equal(
    [result.verdict, result.gaps],
    ['damaged', [{ firstSeq: segments[1]?.firstSeq, lastSeq: (segments[2]?.firstSeq as number) - 1 }]],
  )
})

test('a bad last batch is damage when it was durable, nothing when it was not yet, and inconclusive when nobody can say', async () => {
  await write([[insert(1)], [insert(2)]])
  const [segment] = listSegments(directory)
  const file = segment?.file as string
  flip(file, fs.statSync(file).size - 20)
  assert.equal([verifyJournal(directory).verdict, verifyJournal(directory).gaps], ['damaged', [{ firstSeq: 2, lastSeq: 2 }]])
  writeMark(directory, databaseId, { segment: 1, offset: 0, seq: 1 })
  assert.equal([verifyJournal(directory).verdict, verifyJournal(directory).durableSeq], ['clean', 1])
  assert.ok(verifyJournal(directory).tail !== null)
  fs.rmSync(markFile(directory))
  assert.is(verifyJournal(directory).verdict, 'inconclusive')
})

test('an end that is simply gone is damage: the mark says how far the journal reached', async () => {
  await write([[insert(1)], [insert(2)]])
  const [segment] = listSegments(directory)
  fs.truncateSync(segment?.file as string, segmentHeaderBytes)
  assert.equal([verifyJournal(directory).verdict, verifyJournal(directory).gaps], ['damaged', [{ firstSeq: 1, lastSeq: 2 }]])
})

test('a segment without its header is damage', async () => {
  await write([[insert(1)]])
  const [segment] = listSegments(directory)
  flip(segment?.file as string, 20)
  assert.is(verifyJournal(directory).verdict, 'damaged')
})

test('changes are printed one row an object, and lose nothing', async () => {
  const update: Change = { kind: 'update', table: trades, rows: { count: 1, columns: [[1n], [500n], [null]] }, changed: [1] }
  const remove: Change = { kind: 'delete', table: trades, rows: { count: 1, columns: [[1n]] } }
  const create: Change = {
    kind: 'schema',
    sql: 'CREATE TABLE x (i INT)',
    verb: 'CREATE',
    searchPath: 'main',
    timeZone: 'UTC',
    tables: [{ schema: 'main', name: 'x' }],
  }
  await write([[create], [insert(1), update, remove], [{ kind: 'sequence', schema: 'main', name: 's', value: 5n }]])
  const printed = [...readTransactions(directory, 1)].flatMap((transaction) =>
    [...plainChanges(transaction)].map(({ time: _time, ...rest }) => rest),
  )
  assert.equal(JSON.parse(JSON.stringify(printed)), [
    { seq: 1, kind: 'schema', sql: 'CREATE TABLE x (i INT)', searchPath: 'main', timeZone: 'UTC', tables: ['main.x'] },
    { seq: 2, kind: 'insert', table: 'main.trades', row: { id: 1, price: '12.34', tags: ['a', 'b'] } },
    { seq: 2, kind: 'insert', table: 'main.trades', row: { id: '1152921504606846976', price: null, tags: [] } },
    { seq: 2, kind: 'update', table: 'main.trades', changed: ['price'], row: { id: 1, price: '5.00', tags: null } },
    { seq: 2, kind: 'delete', table: 'main.trades', key: { id: 1 } },
    { seq: 3, kind: 'sequence', sequence: 'main.s', value: 5 },
  ])
})

test.run()
