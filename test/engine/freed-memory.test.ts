/** How soon the engine looks at its memory again: an idle one rarely, one that nears its limit as often as ever. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { pauseUntilShort } from '../../agent/engine/freed-memory.ts'

const test = suite('freed memory')

test('never so late that its cores could have filled what is left, never more often than where memory is short', () => {
  assert.is(pauseUntilShort(-1e9, 2), 50)
  assert.is(pauseUntilShort(0, 2), 50)
  assert.is(pauseUntilShort(1.6e9, 2), 100)
  assert.is(pauseUntilShort(1.6e9, 1), 200)
  assert.is(pauseUntilShort(1e12, 2), 500)
})

test.run()
