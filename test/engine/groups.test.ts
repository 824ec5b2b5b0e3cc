import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Groups } from '../../agent/engine/groups.ts'

const test = suite('groups')

test('a group closes beside the flush of the one before it when as many wait, and not before', async () => {
  const groups = new Groups(100)
  assert.ok(groups.isDue(1))
  const flush = Promise.withResolvers<void>()
  groups.committed(3, flush.promise)
  assert.not(groups.isDue(2))
  assert.ok(groups.isDue(3))
  flush.reject(new Error('the journal has failed'))
  await flush.promise.catch(() => {})
  assert.ok(groups.isDue(1))
  groups.committed(500, Promise.resolve())
  assert.ok(groups.isDue(100))
})

test('of few clients half are a group while others are being flushed', () => {
  const groups = new Groups(100)
  groups.share(8)
  assert.not(groups.areMany)
  assert.not(groups.isDue(3))
  assert.ok(groups.isDue(4))
})

test('of many clients no few are a group, until they are forgotten', () => {
  const groups = new Groups(100)
  groups.share(64)
  assert.not(groups.isDue(15))
  assert.ok(groups.isDue(16))
  let alone = 0
  for (; groups.areMany; alone++) groups.share(1)
  assert.ok(alone > 1 && alone < 12, `${alone} groups`)
  groups.share(10_000)
  assert.ok(groups.isDue(100))
})

test('many clients are parted into two groups, few are not, and who has left is forgotten', async () => {
  const few = new Groups(100)
  assert.is(few.share(15), 100)
  const groups = new Groups(100)
  assert.is(groups.share(64), 32)
  const flush = Promise.withResolvers<void>()
  groups.committed(32, flush.promise)
  assert.is(groups.share(32), 32)
  flush.resolve()
  await flush.promise
  assert.is(groups.share(1_000), 100)
  for (let i = 0; i < 1_000; i++) groups.share(4)
  assert.is(groups.share(4), 100)
})

test.run()
