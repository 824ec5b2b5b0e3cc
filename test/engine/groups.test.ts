import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Groups } from '../../agent/engine/groups.ts'

const test = suite('groups')

const clients = (count: number) => Array.from({ length: count }, () => ({}))

/** They are answered, group after group, and `coming` of them are there again before the others. */
async function answer(groups: Groups, callers: readonly object[], coming: number, rounds: number): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    groups.share(callers.length)
    groups.committed(callers, Promise.resolve())
    await null
    for (const caller of callers.slice(0, coming)) groups.came(caller)
  }
}

test('a group closes beside the flush of the one before it when as many wait, and not before', async () => {
  const groups = new Groups(100)
  assert.ok(groups.isDue(1))
  const flush = Promise.withResolvers<void>()
  groups.committed(clients(3), flush.promise)
  assert.not(groups.isDue(2))
  assert.ok(groups.isDue(3))
  flush.reject(new Error('the journal has failed'))
  await flush.promise.catch(() => {})
  assert.ok(groups.isDue(1))
  groups.committed(clients(500), Promise.resolve())
  assert.ok(groups.isDue(100))
})

test('few clients that do not come again at once are not waited for: half are a group while others are being flushed', async () => {
  const groups = new Groups(100)
  await answer(groups, clients(8), 3, 50)
  assert.not(groups.areComing)
  assert.not(groups.isDue(3))
  assert.ok(groups.isDue(4))
})

test('few clients that do come again are waited for, all of them, but no longer for those who have left', async () => {
  const groups = new Groups(100)
  const callers = clients(8)
  await answer(groups, callers, 8, 1)
  assert.not(groups.areComing)
  await answer(groups, callers, 8, 9)
  assert.ok(groups.areComing)
  assert.not(groups.isDue(7))
  assert.ok(groups.isDue(8))
  groups.gaveUp(6)
  assert.ok(groups.isDue(6))
  await answer(groups, callers.slice(0, 6), 0, 10)
  assert.not(groups.areComing)
})

test('who comes twice, or was answered before the others, is not taken for one of those who were answered last', async () => {
  const groups = new Groups(100)
  const [one, ...others] = clients(4)
  await answer(groups, clients(4), 4, 10)
  for (let i = 0; i < 10; i++) {
    await answer(groups, [one as object], 0, 1)
    await answer(groups, others, 0, 1)
    for (let twice = 0; twice < 4; twice++) groups.came(one as object)
  }
  assert.not(groups.areComing)
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
  assert.is(few.share(27), 100)
  const groups = new Groups(100)
  assert.is(groups.share(64), 32)
  const flush = Promise.withResolvers<void>()
  groups.committed(clients(32), flush.promise)
  assert.is(groups.share(32), 32)
  flush.resolve()
  await flush.promise
  assert.is(groups.share(1_000), 100)
  for (let i = 0; i < 1_000; i++) groups.share(4)
  assert.is(groups.share(4), 100)
})

test.run()
