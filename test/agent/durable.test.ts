import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { DurableSeq } from '../../agent/durable.ts'

const test = suite('durable seq')
const hello = (durableSeq: number) => ({ databaseId: 'id', epoch: 2, durableSeq })

test('the database is unknown until the data directory or an engine names it', () => {
  const durable = new DurableSeq()
  assert.throws(() => durable.databaseId, /not known yet/)
  durable.expect('id')
  assert.equal([durable.databaseId, durable.epoch, durable.durableSeq], ['id', 0, 0])
  durable.connected(hello(5))
  durable.expect('other')
  assert.equal([durable.databaseId, durable.epoch, durable.durableSeq], ['id', 2, 5])
})

test('a waiter is told when the seq has passed what it has, not before', async () => {
  const durable = new DurableSeq()
  const { signal } = new AbortController()
  let told = false
  const waiting = durable.waitBeyond(5, signal).then(() => {
    told = true
  })
  durable.connected(hello(5))
  await Promise.resolve()
  assert.not(told)
  durable.advance(6)
  await waiting
  assert.ok(told)
  await durable.waitBeyond(5, signal)
  const next = durable.waitBeyond(6, signal).then(() => 'told')
  assert.is(await Promise.race([next, new Promise((resolve) => setImmediate(resolve, 'waiting'))]), 'waiting')
})

test('a waiter whose signal aborts is released, at once if it had aborted before', async () => {
  const durable = new DurableSeq()
  const abort = new AbortController()
  const waiting = durable.waitBeyond(0, abort.signal)
  abort.abort()
  await waiting
  await durable.waitBeyond(0, abort.signal)
})

test('one engine never takes its word back, but the next one may know of less', () => {
  const durable = new DurableSeq()
  durable.connected(hello(9))
  durable.advance(8)
  assert.is(durable.durableSeq, 9)
  durable.connected(hello(7))
  assert.is(durable.durableSeq, 7)
})

test.run()
