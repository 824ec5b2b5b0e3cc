/** How soon the engine looks at its memory again: an idle one rarely, one that nears its limit as often as ever; and what idle is. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { pauseUntilShort, QuietWatch } from '../../agent/engine/freed-memory.ts'

const test = suite('freed memory')

test('never so late that its cores could have filled what is left, never more often than where memory is short', () => {
  assert.is(pauseUntilShort(-1e9, 2), 50)
  assert.is(pauseUntilShort(0, 2), 50)
  assert.is(pauseUntilShort(1.6e9, 2), 100)
  assert.is(pauseUntilShort(1.6e9, 1), 200)
  assert.is(pauseUntilShort(1e12, 2), 500)
})

test('quiet is a while in which next to no processor time was used, and it is told once', () => {
  const watch = new QuietWatch()
  assert.not.ok(watch.isQuiet(10_000, 9_000_000), 'a start')
  assert.not.ok(watch.isQuiet(19_999, 9_000_000), 'too soon')
  assert.ok(watch.isQuiet(20_000, 9_150_000))
  assert.not.ok(watch.isQuiet(20_500, 9_150_000), 'told')
  assert.not.ok(watch.isQuiet(30_000, 9_500_000), 'a load')
  assert.ok(watch.isQuiet(40_000, 9_500_000))
})

test.run()
