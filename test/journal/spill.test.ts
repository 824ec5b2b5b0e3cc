import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { openConsumer } from '../../agent/journal/consumer.ts'
import { TransactionEncoder } from '../../agent/journal/record.ts'
import { repairJournal } from '../../agent/journal/repair.ts'
import { retain } from '../../agent/journal/retention.ts'
import { listSpills, type SpillSource } from '../../agent/journal/spill.ts'
import { readTransactions } from '../../agent/journal/transactions.ts'
import { type Change, isSpilled, itemsOf, type Transaction } from '../../agent/journal/types.ts'
import type { JournalWriter } from '../../agent/journal/writer.ts'
import { verifyJournal } from '../../agent/journal-check.ts'
import { append, databaseId, filesOf, flip, openWriter, payloads, putFiles, seqsOf } from '../fixtures/journal.ts'
import { TestSource } from '../fixtures/journal-source.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('journal spill')
const random = seededRandom('spill')
const rows = 300
let directory: string
let quarantine: string

test.before.each(() => {
  const root = temporaryDirectory('spill')
  directory = path.join(root, 'journal')
  quarantine = path.join(root, 'quarantine')
})

/** Rows of 50 kB: 15 MB in all, of which the encoder keeps 8. */
function* largeChanges(): Generator<Change> {
  for (let row = 0; row < rows; row += 60) {
    const ids = Array.from({ length: 60 }, (_, i) => BigInt(row + i))
    yield { kind: 'update', table: payloads, changed: [1], rows: { count: 60, columns: [ids, ids.map(contentOf)] }, more: row + 60 < rows }
  }
  yield { kind: 'insert', table: { ...payloads, name: 'others' }, rows: { count: 1, columns: [[1n], [null]] } }
}

const content = random.bytes(50_000)
function contentOf(id: bigint): Uint8Array {
  return Buffer.concat([Buffer.from(String(id)), content])
}

async function encode(source: SpillSource) {
  const encoder = new TransactionEncoder(source)
  for (const change of largeChanges()) encoder.add(change)
  await encoder.seal()
  return encoder
}

async function appendLarge(writer: JournalWriter): Promise<void> {
  const transaction = (await encode(writer)).finish()
  writer.reserve([transaction])
  await writer.durable(writer.append(transaction, 1_800_000_000_000))
}

/** Seq 1 and 3 are small, seq 2 has a spill, and a segment of its own when `segmentBytes` says so. */
async function writeJournal(segmentBytes?: number): Promise<void> {
  const writer = openWriter(directory, segmentBytes === undefined ? {} : { segmentBytes })
  await writer.durable(append(writer, 1))
  await appendLarge(writer)
  await writer.durable(append(writer, 3))
  await writer.close()
}

function assertWhole(transaction: Transaction | undefined): void {
  assert.is(transaction?.seq, 2)
  const changes = transaction?.changes ?? []
  assert.ok(isSpilled(changes))
  assert.is(itemsOf(transaction as Transaction), rows + 1)
  let next = 0n
  let last: Change | undefined
  for (const change of changes) {
    last = change
    if (change.kind !== 'update') continue
    assert.equal(change.changed, [1])
    assert.is(change.more ?? false, next + BigInt(change.rows.count) < rows, 'the statement ends with its last row')
    for (let i = 0; i < change.rows.count; i++) {
      assert.is(change.rows.columns[0]?.[i], next)
      assert.ok(Buffer.from(contentOf(next)).equals(change.rows.columns[1]?.[i] as Buffer))
      next++
    }
  }
  assert.is(next, BigInt(rows))
  assert.is(last?.kind, 'insert')
  assert.is(last !== undefined && 'table' in last ? last.table.name : '', 'others')
}

const spillFile = () => path.join(directory, listSpills(directory)[0] as string)
const repair = () => repairJournal(directory, databaseId, quarantine)

test('what a transaction spilled is read back, in parts, as often as it is walked', async () => {
  await writeJournal()
  assert.is(listSpills(directory).length, 1)
  const [, second] = [...readTransactions(directory, 1)]
  assertWhole(second)
  assertWhole(second)
  for (const change of second?.changes ?? []) {
    if ('rows' in change) assert.ok(change.rows.count * 50_000 < 9 << 20, 'no part is much larger than what the encoder holds')
  }
  assert.equal(seqsOf(directory), [1, 2, 3])
  const verdict = verifyJournal(directory)
  assert.is(verdict.verdict, 'clean')
  assert.ok(verdict.bytes > rows * 50_000, 'verify counts the spill')
})

test('a transaction that is discarded, or whose process died, leaves no spill', async () => {
  const writer = openWriter(directory)
  const encoder = await encode(writer)
  assert.is(listSpills(directory).length, 1)
  await encoder.discard()
  assert.equal(listSpills(directory), [])
  await encode(writer)
  await writer.durable(append(writer, 1))
  await writer.close()
  const { gaps, quarantined } = repair()
  assert.equal({ gaps, quarantined }, { gaps: [], quarantined: [] })
  assert.equal(listSpills(directory), [], 'removed at the start')
  assert.equal(seqsOf(directory), [1])
})

test('repair keeps a spill that a transaction refers to', async () => {
  await writeJournal()
  const { gaps, quarantined, lastSeq } = repair()
  assert.equal({ gaps, quarantined, lastSeq }, { gaps: [], quarantined: [], lastSeq: 3 })
  assertWhole([...readTransactions(directory, 2)][0])
})

test('a spill that is damaged anywhere, cut short or missing costs its own transaction only, and is told with its tables', async () => {
  await writeJournal()
  const intact = filesOf(directory)
  const name = listSpills(directory)[0] as string
  const size = (intact.get(name) as Buffer).length
  const places = [0, 9, 13, 20, 40, 64, 69, 73, 77, 80, size - 1, ...Array.from({ length: 6 }, () => random.int(0, size - 1))]
  const damages: [string, (file: string) => void][] = [
    ...places.map((at): [string, (file: string) => void] => [`byte ${at} flipped`, (file) => flip(file, at)]),
    ['cut to nothing', (file) => fs.truncateSync(file, 0)],
    ['cut by a byte', (file) => fs.truncateSync(file, size - 1)],
    ['one byte longer', (file) => fs.appendFileSync(file, 'x')],
    ['removed', (file) => fs.rmSync(file)],
  ]
  for (const [what, damage] of damages) {
    putFiles(directory, intact)
    damage(path.join(directory, name))
    assert.equal(seqsOf(directory), [1, 3], `${what}: the others are read`)
    assert.throws(() => [...readTransactions(directory, 1)], /spill/, what)
    const verdict = verifyJournal(directory)
    assert.is(verdict.verdict, 'damaged', what)
    assert.equal(verdict.gaps, [{ firstSeq: 2, lastSeq: 2 }], what)
    assert.match(verdict.damage[0]?.file ?? '', /\.dgs$/, what)
    const { gaps, quarantined, lastSeq } = repair()
    assert.equal(gaps, [{ firstSeq: 2, lastSeq: 2, tables: ['main.payloads', 'main.others'] }], what)
    assert.is(lastSeq, 3)
    assert.is(quarantined.length, what === 'removed' ? 0 : 1, `${what}: the evidence is kept`)
    assert.ok(quarantined.every(({ file }) => fs.existsSync(file) && fs.existsSync(`${file}.reason.json`)))
    assert.equal(listSpills(directory), [])
    assert.equal(repair().gaps, gaps, `${what}: told again at each start`)
    fs.rmSync(quarantine, { recursive: true, force: true })
  }
})

test('where the journal has lost transactions, a spill that nothing refers to is evidence', async () => {
  await writeJournal()
  const segment = [...filesOf(directory).keys()].find((name) => name.endsWith('.dgj')) as string
  const bytes = fs.readFileSync(path.join(directory, segment))
  flip(path.join(directory, segment), bytes.lastIndexOf('DGB1', bytes.lastIndexOf('DGB1') - 1) + 70)
  const { gaps, quarantined } = repair()
  assert.equal(gaps, [{ firstSeq: 2, lastSeq: 2 }])
  assert.equal(
    quarantined.map(({ file }) => path.extname(file)),
    ['.dgj', '.dgs'],
  )
  assert.equal(listSpills(directory), [])
})

test('retention deletes a spill with its segment, and no other', async () => {
  await writeJournal(4097)
  const [first] = listSpills(directory)
  const writer = openWriter(directory, { nextSeq: 4, segmentBytes: 4097 })
  await appendLarge(writer)
  await writer.close()
  assert.is(listSpills(directory).length, 2)
  retain({ journalDir: directory, cursors: [2], snapshots: [{ seq: 2 }] })
  assert.equal(seqsOf(directory), [3, 4])
  assert.is(listSpills(directory).length, 1)
  assert.not.equal(listSpills(directory)[0], first)
})

test('a consumer gets it alone; damaged, it is a gap that is told, and passed', async () => {
  await writeJournal()
  const source = new TestSource()
  source.durableSeq = 3
  const gaps: unknown[] = []
  const open = (name: string) =>
    openConsumer({
      name,
      journal: directory,
      cursors: path.join(directory, '..', 'cursors'),
      source,
      onGap: ({ firstSeq, lastSeq }) => gaps.push([firstSeq, lastSeq]),
      onBadCursor: () => assert.unreachable(),
    })
  const { signal } = new AbortController()
  const consumer = open('one')
  const read = () => consumer.read({ maxRows: 1_000_000, maxDelayMs: 0, signal })
  assert.equal(
    (await read()).map(({ seq }) => seq),
    [1],
  )
  const second = await read()
  assert.is(second.length, 1)
  assertWhole(second[0])
  assert.equal(
    (await read()).map(({ seq }) => seq),
    [3],
  )
  consumer.seek(1)
  assertWhole((await read())[0])
  consumer.close()

  flip(spillFile(), 100)
  const other = open('two')
  const seqs: number[] = []
  while (seqs.at(-1) !== 3) seqs.push(...(await other.read({ maxRows: 1_000_000, maxDelayMs: 0, signal })).map(({ seq }) => seq))
  assert.equal(seqs, [1, 3])
  assert.equal(gaps, [[2, 2]])
  other.close()
})

test.run()
