import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Groups } from '../../agent/engine/groups.ts'
import { Returns } from '../../agent/engine/returns.ts'

const test = suite('groups')

const clients = (count: number) => Array.from({ length: count }, () => ({}))

/** Groups of at most 100 rows, and a clock that stands still unless it is told. */
function begin() {
  const clock = { ms: 0 }
  return { clock, groups: new Groups(100, new Returns(() => clock.ms)) }
}

/** They come, are committed and answered, again and again; each time they come so long after their answer, ms. */
async function write({ clock, groups }: ReturnType<typeof begin>, callers: readonly object[], rounds: number, after = 0.5): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    for (const caller of callers) groups.came(caller)
    groups.share(callers.length)
    groups.committed(callers, Promise.resolve(), [])
    await null
    clock.ms += after
  }
}

test('a group closes beside the flush of the one before it when as many wait, and not before, if clients are many', async () => {
  const { groups } = begin()
  groups.share(40)
  const flush = Promise.withResolvers<void>()
  groups.committed(clients(20), flush.promise, [])
  assert.not(groups.isDue(19))
  assert.ok(groups.isDue(20))
  flush.reject(new Error('the journal has failed'))
  await flush.promise.catch(() => {})
  assert.ok(groups.isDue(10))
  groups.committed(clients(500), Promise.resolve(), [])
  assert.ok(groups.isDue(100))
})

test('few clients that do not come again at once are not waited for: half are a group while others are being flushed', async () => {
  const all = begin()
  await write(all, clients(8), 50, 1.5)
  assert.not(all.groups.areComing)
  assert.not(all.groups.isDue(3))
  assert.ok(all.groups.isDue(4))
})

test('few clients that do come again are waited for, all of them, but no longer for those who have left', async () => {
  const all = begin()
  const { groups } = all
  const callers = clients(8)
  await write(all, callers, 4)
  assert.not(groups.areComing, 'that is no habit yet')
  await write(all, callers, 2)
  for (const caller of callers.slice(0, 7)) groups.came(caller)
  assert.ok(groups.areComing)
  assert.not(groups.isDue(7))
  groups.came(callers[7] as object)
  assert.ok(groups.isDue(8))
  await write(all, callers, 1)
  groups.gaveUp(2)
  assert.ok(groups.isDue(2))
  assert.not(groups.areComing)
})

test('one quick client does not wait for slow ones beside it, nor for those that it cannot know yet', async () => {
  const all = begin()
  const [quick, slow] = [clients(1), clients(3)]
  for (let i = 0; i < 20; i++) {
    await write(all, quick, 3)
    await write(all, slow, 1, 0)
    await write(all, quick, 3)
    all.clock.ms += 5
  }
  for (const caller of quick) all.groups.came(caller)
  assert.not(all.groups.areComing)
})

test('who sends ahead of its answers is not waited for: its next row is there', async () => {
  const all = begin()
  const [one] = clients(1) as [object]
  await write(all, [one], 10)
  all.groups.came(one)
  all.groups.committed([one], Promise.resolve(), [one])
  assert.not(all.groups.areComing)
  assert.ok(all.groups.isDue(1))
})

test('who comes just after a group has closed counts among the clients all the same', () => {
  const { groups } = begin()
  groups.share(12)
  groups.committed(clients(12), Promise.resolve(), clients(4))
  assert.not(groups.isDue(7))
  assert.ok(groups.isDue(8))
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
  groups.committed(clients(32), flush.promise, [])
  assert.is(groups.share(32), 32)
  flush.resolve()
  await flush.promise
  assert.is(groups.share(1_000), 100)
  for (let i = 0; i < 1_000; i++) groups.share(4)
  assert.is(groups.share(4), 100)
})

test.run()
