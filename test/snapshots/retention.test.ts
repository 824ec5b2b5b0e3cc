import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { cursorsIn, retain } from '../../agent/journal/retention.ts'
import { segmentName } from '../../agent/journal/segment.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('retention')

/** Segments that begin at 1, 101, 201 and 301; what is in them does not matter to retention. */
function journal(): string {
  const directory = temporaryDirectory('journal')
  for (const first of [1, 101, 201, 301]) fs.writeFileSync(path.join(directory, segmentName(first)), '')
  return directory
}

function left(directory: string): number[] {
  return fs
    .readdirSync(directory)
    .sort()
    .map((name) => Number.parseInt(name, 10))
}

const cases: { name: string; cursors: number[]; snapshots: number[]; left: number[] }[] = [
  { name: 'without a verified snapshot nothing goes', cursors: [1000], snapshots: [], left: [1, 101, 201, 301] },
  { name: 'a segment goes when cursors and snapshots are past it', cursors: [200, 250], snapshots: [200, 300], left: [201, 301] },
  { name: 'a segment of which one seq is not confirmed stays', cursors: [199, 1000], snapshots: [1000], left: [101, 201, 301] },
  {
    name: 'the oldest snapshot keeps what it needs, though it needs only what follows its seq',
    cursors: [1000],
    snapshots: [100, 1000],
    left: [101, 201, 301],
  },
  { name: 'the last segment stays, however far everyone is', cursors: [99_999], snapshots: [99_999], left: [301] },
  { name: 'without consumers snapshots decide', cursors: [], snapshots: [205], left: [201, 301] },
  { name: 'a consumer that has confirmed nothing keeps everything', cursors: [0, 500], snapshots: [500], left: [1, 101, 201, 301] },
  { name: 'a cursor that is no number keeps everything', cursors: [Number.NaN], snapshots: [500], left: [1, 101, 201, 301] },
]

for (const each of cases) {
  test(each.name, () => {
    const directory = journal()
    const removed = retain({ journalDir: directory, cursors: each.cursors, snapshots: each.snapshots.map((seq) => ({ seq })) })
    assert.equal(left(directory), each.left)
    assert.is(removed.length, 4 - each.left.length)
  })
}

test('an empty journal has nothing to retain', () => {
  assert.equal(retain({ journalDir: temporaryDirectory('journal'), cursors: [], snapshots: [{ seq: 5 }] }), [])
})

test('cursors are read for one database, and one that cannot be read counts as 0', () => {
  const directory = temporaryDirectory('cursors')
  const write = (name: string, content: unknown) => fs.writeFileSync(path.join(directory, name), JSON.stringify(content))
  write('redis-mirror.json', { version: 1, databaseId: 'a', epoch: 1, confirmed: 42, state: null })
  write('clickhouse-shipper.json', { version: 1, databaseId: 'a', epoch: 1, confirmed: 7, state: null })
  write('old.json', { version: 1, databaseId: 'b', epoch: 1, confirmed: 1, state: null })
  assert.equal(cursorsIn(directory, 'a').sort(), [42, 7])
  fs.writeFileSync(path.join(directory, 'broken.json'), '{')
  assert.equal(cursorsIn(directory, 'a').sort(), [0, 42, 7])
  assert.equal(cursorsIn(path.join(directory, 'missing'), 'a'), [])
})

test.run()
