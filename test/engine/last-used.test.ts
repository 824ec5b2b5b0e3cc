// What was used last is kept; whoever has to go is told of once.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { LastUsed } from '../../agent/engine/last-used.ts'

const test = suite('last used')

test('the entry goes that was used longest ago, by get or set', () => {
  const dropped: string[] = []
  const kept = new LastUsed<number, string>(2, (value) => dropped.push(value))
  kept.set(1, 'one')
  kept.set(2, 'two')
  assert.is(kept.get(1), 'one')
  kept.set(3, 'three')
  assert.equal([dropped, [...kept.values()]], [['two'], ['one', 'three']])
  kept.set(1, 'one again')
  kept.set(4, 'four')
  assert.equal(
    [dropped, [...kept.values()]],
    [
      ['two', 'three'],
      ['one again', 'four'],
    ],
  )
  assert.is(kept.get(2), undefined)
  kept.clear()
  assert.equal([dropped.length, [...kept.values()]], [2, []])
})

test.run()
