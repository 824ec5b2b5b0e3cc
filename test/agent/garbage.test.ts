/** What a start or a load leaves behind is given back. */

import { getHeapStatistics } from 'node:v8'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { returnGarbage } from '../../agent/garbage.ts'

const test = suite('garbage')

test('garbage is collected at once, and its pages go back to the system', () => {
  let garbage: unknown[] | undefined = Array.from({ length: 200_000 }, (_, i) => ({ i, text: `${i}` }))
  returnGarbage()
  assert.is(garbage.length, 200_000)
  garbage = undefined
  const full = getHeapStatistics()
  returnGarbage()
  const rest = getHeapStatistics()
  assert.ok(full.used_heap_size - rest.used_heap_size > 10e6, `${full.used_heap_size} → ${rest.used_heap_size}`)
  assert.ok(full.total_physical_size - rest.total_physical_size > 10e6, `${full.total_physical_size} → ${rest.total_physical_size}`)
})

test.run()
