// A transaction that was written wrongly, under a checksum that holds: it costs itself, and no start. Its neighbours in the same batch and behind it are replayed, it is told
// of as lost, and its bytes are kept.

import fs from 'node:fs'
import path from 'node:path'
import { crc32 } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { verifyJournal } from '../../agent/journal-check.ts'
import { type BatchPlace, batchesOf } from '../fixtures/journal.ts'
import { TestEngine } from '../support/engine.ts'

const test = suite('undecoded')
let engine: TestEngine
const journal = () => path.join(engine.data, 'journal')
const header = 64

test.before.each(async () => {
  engine = await TestEngine.start()
  await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR)', "INSERT INTO t VALUES (1, 'one')")
  // Of one group: they share a batch.
  const clients = await Promise.all(Array.from({ length: 12 }, () => engine.connect()))
  const add = (id: number) => clients[id % clients.length]!.query('INSERT INTO t VALUES ($1, $2)', [id, `row ${id}`])
  await Promise.all(clients.map((_, i) => add(100 + i)))
  await Promise.all(clients.map((_, i) => add(200 + i)))
  await engine.sql("INSERT INTO t VALUES (3, 'three')")
  await engine.kill()
})
test.after.each(() => engine.kill())

/** Has the body of a transaction (agent/journal/record.ts) say that it holds so many changes. */
function miswrite({ file, offset, length }: BatchPlace, seq: number, changes: number): Buffer {
  const bytes = fs.readFileSync(file)
  const batch = bytes.subarray(offset, offset + length)
  const number = Buffer.alloc(8)
  number.writeBigUInt64LE(BigInt(seq))
  const body = batch.indexOf(number, header)
  assert.ok(body > 0)
  assert.is(batch[body + 16], 1)
  batch[body + 16] = changes
  batch.writeUInt32LE(crc32(batch.subarray(8, header + batch.readUInt32LE(8))), 4)
  fs.writeFileSync(file, bytes)
  return Buffer.from(batch)
}

for (const [what, changes, reason] of [
  ['ends too early', 2, /cannot be decoded: journal payload ends at byte \d+/],
  ['goes on', 0, /cannot be decoded: journal payload goes on for \d+ bytes/],
] as const) {
  test(`a body that ${what}`, async () => {
    const place = batchesOf(journal()).findLast(({ count }) => count > 1)
    assert.ok(place, 'no batch has several transactions')
    const seq = place.firstSeq + 1
    const batch = miswrite(place, seq, changes)
    const found = verifyJournal(journal())
    assert.is(found.verdict, 'damaged')
    assert.match(found.damage[0]?.reason as string, reason)
    await engine.start()
    const { recovery } = engine.control.hello
    assert.equal(
      recovery.gaps.map(({ firstSeq, lastSeq, tables }) => ({ firstSeq, lastSeq, tables })),
      [{ firstSeq: seq, lastSeq: seq, tables: ['main.t'] }],
    )
    assert.equal(recovery.refused, [])
    const [kept] = recovery.quarantined
    assert.is(recovery.quarantined.length, 1)
    assert.match(kept?.reason as string, reason)
    assert.equal(fs.readFileSync(kept?.file as string), batch)
    assert.equal(await engine.sql('SELECT count(*) FROM t'), [['25']])
    assert.equal(await engine.sql('SELECT v FROM t WHERE id IN (1, 3) ORDER BY id'), [['one'], ['three']])
    // What was lost stays lost, and its seq is nobody else's.
    await engine.sql("INSERT INTO t VALUES (4, 'four')")
    await engine.restart()
    assert.equal(await engine.sql('SELECT count(*) FROM t'), [['26']])
  })
}

test.run()
