// A transaction that was written wrongly, under a checksum that holds: it costs itself, and no start. Its neighbours in the same batch and behind it are replayed, it is told
// of as lost, and its bytes are kept.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { verifyJournal } from '../../agent/journal-check.ts'
import { type BatchPlace, batchesOf, miswrite } from '../fixtures/journal.ts'
import { TestEngine } from '../support/engine.ts'

const test = suite('undecoded')
let engine: TestEngine
const journal = () => path.join(engine.data, 'journal')

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

for (const [what, changes, reason] of [
  ['ends too early', 2, /cannot be decoded: journal payload ends at byte \d+/],
  ['goes on', 0, /cannot be decoded: journal payload goes on for \d+ bytes/],
] as const) {
  test(`a body that ${what}`, async () => {
    const place = batchesOf(journal()).findLast(({ count }) => count > 1)
    assert.ok(place, 'no batch has several transactions')
    const seq = place.firstSeq + 1
    const batch = miswrite(place, seq, (body) => {
      assert.is(body[16], 1)
      body[16] = changes
    })
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
    // What was lost stays lost, its seq is nobody else's, and its bytes are kept once.
    await engine.sql("INSERT INTO t VALUES (4, 'four')")
    await engine.restart()
    assert.equal(engine.control.hello.recovery.quarantined, recovery.quarantined)
    assert.equal(await engine.sql('SELECT count(*) FROM t'), [['26']])
  })
}

test('the tables of what is lost are named, where nothing else has changed them', async () => {
  await engine.start()
  await engine.sql('CREATE TABLE u (id INTEGER)', 'INSERT INTO u VALUES (1)')
  await engine.kill()
  const place = batchesOf(journal()).at(-1) as BatchPlace
  miswrite(place, place.firstSeq, (body) => {
    body[16] = 2
  })
  await engine.start()
  assert.equal(
    engine.control.hello.recovery.gaps.map(({ tables }) => tables),
    [['main.u']],
  )
})

test('a reference to a spill that cannot be read costs that transaction', async () => {
  await engine.start()
  await engine.sql("INSERT INTO t SELECT 1000 + i, repeat('x', 200) FROM range(60000) r(i)", "INSERT INTO t VALUES (4, 'four')")
  await engine.kill()
  assert.ok(fs.readdirSync(journal()).some((name) => name.endsWith('.dgs')))
  const place = batchesOf(journal()).at(-2) as BatchPlace
  miswrite(place, place.firstSeq, (body) => {
    const brace = body.indexOf('{"', 16)
    assert.ok(brace > 0)
    body[brace] = 0x5b
  })
  assert.is(verifyJournal(journal()).verdict, 'damaged')
  await engine.start()
  const { gaps } = engine.control.hello.recovery
  assert.equal(
    gaps.map(({ firstSeq, lastSeq, tables }) => [firstSeq, lastSeq, tables]),
    [[place.firstSeq, place.firstSeq, ['main.t']]],
  )
  assert.equal(await engine.sql('SELECT id FROM t WHERE id = 4 OR id >= 1000'), [['4']])
})

test.run()
