import fs from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { markFile } from '../../agent/journal/mark.ts'
import { type JournalRepair, repairJournal } from '../../agent/journal/repair.ts'
import { listSegments, segmentHeaderBytes, segmentName } from '../../agent/journal/segment.ts'
import {
  append,
  type BatchPlace,
  batchesOf,
  databaseId,
  encoded,
  endWith,
  filesOf,
  flip,
  openWriter,
  otherBoot,
  putFiles,
  rebooted,
  seqsOf,
  setMark,
  writeJournal,
} from '../fixtures/journal.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('journal repair')
const random = seededRandom('repair')
const page = 4096
let directory: string
let quarantine: string

test.before.each(() => {
  const root = temporaryDirectory('repair')
  directory = path.join(root, 'journal')
  quarantine = path.join(root, 'quarantine')
})

const repair = () => repairJournal(directory, databaseId, quarantine)
const bytesOf = ({ file, offset, length }: BatchPlace) => fs.readFileSync(file).subarray(offset, offset + length)
const upTo = (last: number, except: readonly number[] = []) =>
  Array.from({ length: last }, (_, i) => i + 1).filter((seq) => !except.includes(seq))
const nothing = { cutBytes: 0, quarantined: [], gaps: [], epoch: 1, doubt: undefined }

/** Repairs again: nothing may change any more, and gaps stay known. */
function assertSettled({ gaps, lastSeq, epoch }: JournalRepair, what: string): void {
  const before = filesOf(directory)
  assert.equal(repair(), { cutBytes: 0, quarantined: [], gaps, lastSeq, epoch, doubt: undefined }, `${what}: a second repair finds nothing`)
  assert.equal([...filesOf(directory)], [...before], `${what}: a second repair changes nothing`)
}

function trailing(bytes: Buffer): number {
  let end = bytes.length
  while (end > 0 && bytes[end - 1] === 0) end--
  return end
}

const nearPage = (offset: number) => (offset + 12) % page < 24

/** Batches shorter than a page and of many, ending in random bytes or in zeros, beginning in mid-page. */
const shapes: [string, Uint8Array[]][] = [
  ['a small batch', [random.bytes(50), random.bytes(100)]],
  ['a small batch that ends with zeros', [random.bytes(50), Buffer.alloc(300)]],
  ['a batch across one page boundary', [random.bytes(page - 300), random.bytes(400)]],
  ['a batch of several pages', [random.bytes(777), random.bytes(2 * page + 123)]],
  ['a batch that ends with pages of zeros', [random.bytes(777), Buffer.concat([random.bytes(100), Buffer.alloc(2 * page)])]],
]

test('a tail cut at any byte, with zeros behind it, is cut back to the last whole batch: after a kill and after a power cut', async () => {
  for (const [shape, data] of shapes) {
    await writeJournal(directory, [random.bytes(10), ...data])
    const intact = filesOf(directory)
    const last = batchesOf(directory).at(-1) as BatchPlace
    const batch = Buffer.from(bytesOf(last))
    const step = 61
    for (const boot of ['same', 'other']) {
      for (let kept = 0; kept < batch.length; kept += nearPage(last.offset + kept) || kept < 70 || kept > batch.length - 10 ? 1 : step) {
        putFiles(directory, intact)
        const prefix = batch.subarray(0, kept)
        // What is cut off must not have been zeros itself: then the batch is whole.
        if (trailing(batch) <= kept) continue
        endWith(directory, last, prefix, kept % 2 === 0 ? 2 * page : 0)
        if (boot === 'other') rebooted(directory)
        const what = `${shape}, ${kept} of ${batch.length} bytes, ${boot} boot`
        const result = repair()
        assert.equal(result, { ...nothing, cutBytes: trailing(prefix), lastSeq: 2 }, what)
        assert.equal(seqsOf(directory), [1, 2], what)
        assert.is(fs.statSync(last.file).size, last.offset, what)
        if (kept % 50 === 0) assertSettled(result, what)
      }
    }
    assert.not.ok(fs.existsSync(quarantine))
  }
})

test('a power cut may leave any garbage of the last batch', async () => {
  await writeJournal(directory, [null, random.bytes(5000), random.bytes(3 * page)])
  const intact = filesOf(directory)
  const last = batchesOf(directory).at(-1) as BatchPlace
  for (let round = 0; round < 60; round++) {
    putFiles(directory, intact)
    const batch = Buffer.from(bytesOf(last))
    for (let at = 0; at < batch.length; at += 512) {
      if (random.chance(0.4)) batch.fill(0, at, Math.min(at + 512, batch.length))
      else if (random.chance(0.2)) batch.set(random.bytes(Math.min(512, batch.length - at)), at)
    }
    if (batch.equals(bytesOf(last))) continue
    endWith(directory, last, batch)
    // The mark is older after a power cut: by one batch, or by all.
    setMark(directory, { offset: random.pick([last.offset, segmentHeaderBytes]) })
    rebooted(directory)
    const result = repair()
    assert.equal(result, { ...nothing, cutBytes: trailing(batch), lastSeq: 2 })
    assertSettled(result, `round ${round}`)
  }
})

test('a whole batch that nobody had acknowledged yet is kept', async () => {
  await writeJournal(directory, [null, random.bytes(100), random.bytes(9000)])
  const last = batchesOf(directory).at(-1) as BatchPlace
  endWith(directory, last, Buffer.from(bytesOf(last)))
  assert.equal(repair(), { ...nothing, lastSeq: 3 })
  assert.equal(seqsOf(directory), [1, 2, 3])
  assert.is(fs.statSync(last.file).size, last.offset + last.length)
})

test('a batch inside the payload of a torn batch is not taken for one', async () => {
  await writeJournal(directory, [null, null])
  const inner = Buffer.from(bytesOf(batchesOf(directory)[1] as BatchPlace))
  fs.rmSync(directory, { recursive: true })
  await writeJournal(directory, [null, Buffer.concat([Buffer.alloc(500), inner, Buffer.alloc(7), inner, random.bytes(page)])])
  const last = batchesOf(directory)[1] as BatchPlace
  const batch = Buffer.from(bytesOf(last)).subarray(0, page)
  endWith(directory, last, batch)
  assert.equal(repair(), { ...nothing, cutBytes: trailing(batch), lastSeq: 1 })
})

test('one flipped byte at any offset of acknowledged batches is corruption: the range is exact, the rest readable, the evidence untouched', async () => {
  // Batches of one, and the middle one of three transactions.
  const writer = openWriter(directory)
  await writer.durable(append(writer, 1, random.bytes(30)))
  const group = [2, 3, 4].map((id) => encoded(id, Buffer.alloc(page)))
  writer.reserve(group)
  const first = writer.append(group[0] as (typeof group)[0], 1)
  writer.append(group[1] as (typeof group)[0], 1)
  writer.append(group[2] as (typeof group)[0], 1)
  await writer.durable(first + 2)
  await writer.durable(append(writer, 5, random.bytes(30)))
  await writer.durable(append(writer, 6, Buffer.concat([random.bytes(30), Buffer.alloc(page)])))
  await writer.close()
  const intact = filesOf(directory)
  const places = batchesOf(directory)
  assert.ok(places.some(({ count }) => count > 1))
  for (const place of places.slice(1)) {
    const isLast = place.firstSeq === 6
    const lost = Array.from({ length: place.count }, (_, i) => place.firstSeq + i)
    for (let at = 0; at < place.length; at += at < 80 || at > place.length - 10 ? 1 : 151) {
      for (const open of [false, true]) {
        putFiles(directory, intact)
        flip(place.file, place.offset + at, 1 << random.int(0, 7))
        // As after a kill: zeros are allocated behind the end.
        if (open) fs.appendFileSync(place.file, Buffer.alloc(3 * page))
        if (isLast && at % 3 === 0) rebooted(directory)
        fs.rmSync(quarantine, { recursive: true, force: true })
        const damaged = fs.readFileSync(place.file)
        const what = `seq ${place.firstSeq}, byte ${at}${open ? ', not sealed' : ''}`
        const result = repair()
        assert.equal(result.gaps, [{ firstSeq: lost[0], lastSeq: lost.at(-1) }], what)
        assert.equal([result.cutBytes, result.lastSeq, result.quarantined.length], [0, 6, 1], what)
        assert.equal(seqsOf(directory), upTo(6, lost), what)
        assert.ok(fs.readFileSync(result.quarantined[0]?.file as string).equals(damaged), `${what}: the original is kept as it was`)
        if (at % 10 === 0) assertSettled(result, what)
      }
    }
  }
})

test('without the mark, bad bytes at the end are corruption within a boot, and torn after one', async () => {
  await writeJournal(directory, [null, null, random.bytes(2 * page)])
  const intact = filesOf(directory)
  const last = batchesOf(directory).at(-1) as BatchPlace
  for (const spoil of [
    () => fs.rmSync(markFile(directory)),
    () => flip(markFile(directory), 17),
    () => fs.truncateSync(markFile(directory), 100),
  ]) {
    putFiles(directory, intact)
    flip(last.file, last.offset + 3000)
    spoil()
    assert.equal(repair().gaps, [{ firstSeq: 3, lastSeq: 3 }])
  }
  putFiles(directory, intact)
  flip(last.file, last.offset + 3000)
  rebooted(directory)
  fs.rmSync(markFile(directory))
  const result = repair()
  assert.equal([result.gaps, result.lastSeq, result.quarantined], [[], 2, []])
  assertSettled(result, 'after a boot')
})

test('a flipped byte at any offset of a segment header costs no transaction', async () => {
  await writeJournal(directory, [null, null])
  const intact = filesOf(directory)
  const { file } = listSegments(directory)[0] as { file: string }
  for (let at = 0; at < segmentHeaderBytes; at += at < 75 ? 1 : 97) {
    putFiles(directory, intact)
    flip(file, at, 1 << random.int(0, 7))
    const result = repair()
    assert.equal([result.gaps, result.lastSeq, result.quarantined.length, result.epoch], [[], 2, 1, 1], `byte ${at}`)
    assert.equal(seqsOf(directory), [1, 2])
    if (at % 10 === 0) assertSettled(result, `byte ${at}`)
  }
})

/** Four segments of three transactions. */
async function writeSegments(): Promise<{ file: string; firstSeq: number }[]> {
  await writeJournal(
    directory,
    upTo(12).map(() => random.bytes(3000)),
    { segmentBytes: segmentHeaderBytes + 9000 },
  )
  const segments = listSegments(directory)
  assert.equal(
    segments.map(({ firstSeq }) => firstSeq),
    [1, 4, 7, 10],
  )
  return segments
}

test('a page of zeros, a truncated segment and a missing one are corruption, with exact ranges', async () => {
  const segments = await writeSegments()
  const intact = filesOf(directory)
  const file = (i: number) => (segments[i] as { file: string }).file
  const places = batchesOf(directory)
  const place = (seq: number) => places.find(({ firstSeq }) => firstSeq === seq) as BatchPlace
  const zeroPage = (seq: number) => {
    const fd = fs.openSync(place(seq).file, 'r+')
    fs.writeSync(fd, Buffer.alloc(page), 0, page, Math.floor(place(seq).offset / page) * page)
    fs.closeSync(fd)
  }
  const cases: [string, () => void, number[]][] = [
    ['a page of zeros across two batches in the middle', () => zeroPage(6), [5, 6]],
    ['the last page of the last batch of an acknowledged journal', () => fs.truncateSync(file(3), place(12).offset + 2000), [12]],
    ['a journal that ends at a batch, too early', () => fs.truncateSync(file(3), place(11).offset), [11, 12]],
    [
      'the last batches turned into zeros',
      () => {
        fs.truncateSync(file(3), place(11).offset)
        fs.appendFileSync(file(3), Buffer.alloc(9000))
      },
      [11, 12],
    ],
    ['a middle segment that ends within a batch', () => fs.truncateSync(file(1), place(5).offset + 100), [5, 6]],
    ['a middle segment that ends at a batch', () => fs.truncateSync(file(1), place(5).offset), [5, 6]],
    ['a middle segment of header only', () => fs.truncateSync(file(1), segmentHeaderBytes), [4, 5, 6]],
    ['an empty middle segment', () => fs.truncateSync(file(1), 0), [4, 5, 6]],
    ['a middle segment of zeros', () => fs.writeFileSync(file(1), Buffer.alloc(20_000)), [4, 5, 6]],
    ['a middle segment of garbage', () => fs.writeFileSync(file(1), random.bytes(20_000)), [4, 5, 6]],
    ['a middle segment that is missing', () => fs.rmSync(file(1)), [4, 5, 6]],
    [
      'two segments that are missing',
      () => {
        fs.rmSync(file(1))
        fs.rmSync(file(2))
      },
      [4, 5, 6, 7, 8, 9],
    ],
    ['the last segment is missing', () => fs.rmSync(file(3)), [10, 11, 12]],
    ['the last segment is empty', () => fs.truncateSync(file(3), 0), [10, 11, 12]],
    ['the last segment is zeros', () => fs.writeFileSync(file(3), Buffer.alloc(20_000)), [10, 11, 12]],
    ['the last segment is garbage', () => fs.writeFileSync(file(3), random.bytes(20_000)), [10, 11, 12]],
    ["a segment under another segment's name", () => fs.copyFileSync(file(0), file(1)), [4, 5, 6]],
    [
      'everything is missing',
      () => {
        for (const segment of segments) fs.rmSync(segment.file)
      },
      upTo(12),
    ],
  ]
  for (const [what, damage, lost] of cases) {
    putFiles(directory, intact)
    fs.rmSync(quarantine, { recursive: true, force: true })
    damage()
    const result = repair()
    assert.equal(
      result.gaps.flatMap(({ firstSeq, lastSeq }) => upTo(lastSeq).slice(firstSeq - 1)),
      lost,
      what,
    )
    assert.equal(seqsOf(directory), upTo(12, lost), what)
    assert.equal([result.lastSeq, result.cutBytes], [12, 0], what)
    assertSettled(result, what)
  }
})

test('after a repair the engine writes on, and lost seqs are not given again', async () => {
  const segments = await writeSegments()
  fs.rmSync((segments[3] as { file: string }).file)
  const { lastSeq } = repair()
  const writer = openWriter(directory, { nextSeq: lastSeq + 1, epoch: 2 })
  await writer.durable(append(writer, 13))
  await writer.close()
  assert.equal(seqsOf(directory), upTo(13, [10, 11, 12]))
  assert.equal(repair(), { cutBytes: 0, quarantined: [], gaps: [{ firstSeq: 10, lastSeq: 12 }], lastSeq: 13, epoch: 2, doubt: undefined })
})

test('a kill while the journal goes on to the next segment leaves nothing to lose', async () => {
  await writeJournal(directory, [null, null, random.bytes(6000)])
  const intact = filesOf(directory)
  const last = batchesOf(directory).at(-1) as BatchPlace
  const batch = Buffer.from(bytesOf(last))
  for (const [what, written] of [
    ['torn', batch.subarray(0, page)],
    ['not begun', Buffer.alloc(0)],
  ] as const) {
    putFiles(directory, intact)
    const empty = openWriter(directory, { nextSeq: 5 })
    await empty.close()
    endWith(directory, last, written)
    const result = repair()
    assert.equal(result, { ...nothing, cutBytes: trailing(written), lastSeq: 2 }, what)
    assert.equal(listSegments(directory).length, 1, `${what}: the segment that begins too late is gone`)
    assertSettled(result, what)
  }
})

test('segments that were only created are harmless: empty, zeros, or a header', async () => {
  await writeJournal(directory, [null, null])
  const intact = filesOf(directory)
  const next = path.join(directory, segmentName(3))
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(100), Buffer.alloc(1 << 20)]) {
    putFiles(directory, intact)
    fs.writeFileSync(next, bytes)
    const result = repair()
    assert.equal(result, { ...nothing, lastSeq: 2 })
    assert.not.ok(fs.existsSync(next))
    assertSettled(result, `${bytes.length} bytes`)
  }
  const writer = openWriter(directory, { nextSeq: 3 })
  await writer.close()
  const result = repair()
  assert.equal(result, { ...nothing, lastSeq: 2 })
  assert.ok(fs.existsSync(next))
  assertSettled(result, 'header only')
})

test('an empty or missing directory is an empty journal, and other files in it are left alone', async () => {
  assert.equal(repair(), { ...nothing, lastSeq: 0, epoch: 0 })
  await writeJournal(directory, [null])
  for (const name of ['1.dgj', 'notes.txt', '0000000000000000000x.dgj', '00000000000000000007.dgj.bak'])
    fs.writeFileSync(path.join(directory, name), 'x')
  const before = filesOf(directory)
  assert.equal(repair(), { ...nothing, lastSeq: 1 })
  assert.equal(
    [...filesOf(directory)].filter(([name]) => !name.endsWith('.mark')),
    [...before].filter(([name]) => !name.endsWith('.mark')),
  )
})

test('the journal of another database and a format of the future are refused, and nothing is touched', async () => {
  await writeJournal(directory, [null])
  const before = filesOf(directory)
  assert.throws(
    () => repairJournal(directory, otherBoot, quarantine),
    (error: Error) => error.message.includes(`belongs to database ${databaseId}`),
  )
  assert.equal([...filesOf(directory)], [...before])
  const { file } = listSegments(directory)[0] as { file: string }
  const bytes = fs.readFileSync(file)
  bytes.writeUInt32LE(2, 12)
  bytes.writeUInt32LE(crc32(bytes.subarray(12, 128)), 8)
  fs.writeFileSync(file, bytes)
  assert.throws(repair, (error: Error) => /format version 2; this program reads version 1/.test(error.message))
  assert.ok(fs.readFileSync(file).equals(bytes))
})

test('a repair that was interrupted is done again, and leaves nothing behind', async () => {
  await writeJournal(directory, [null, null, null])
  const [, second] = batchesOf(directory) as [BatchPlace, BatchPlace]
  flip(second.file, second.offset + 70)
  const damaged = fs.readFileSync(second.file)
  // Killed after the evidence was kept and before the repaired segment took its place.
  fs.mkdirSync(quarantine)
  fs.linkSync(second.file, path.join(quarantine, path.basename(second.file)))
  fs.writeFileSync(`${second.file}.repaired`, 'half')
  fs.writeFileSync(`${markFile(directory)}.4711.tmp`, 'half')
  const result = repair()
  assert.equal(result.gaps, [{ firstSeq: 2, lastSeq: 2 }])
  for (const [name, bytes] of filesOf(quarantine)) if (!name.endsWith('.json')) assert.ok(bytes.equals(damaged), name)
  assert.equal([...filesOf(directory).keys()], [path.basename(second.file), 'durable.mark'])
  assertSettled(result, 'interrupted')
})

test.run()
