import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Callers } from '../../agent/engine/callers.ts'

const test = suite('callers')

test('one is one once nobody else has called for a while, and no more as soon as somebody does', () => {
  let time = 0
  const callers = new Callers(() => time)
  const [one, other] = [{}, {}]
  callers.heard(one)
  assert.not(callers.isOne)
  time = 101
  callers.heard(one)
  assert.ok(callers.isOne)
  callers.heard(other)
  assert.not(callers.isOne)
  for (let i = 0; i < 10; i++) {
    time += 50
    callers.heard(i % 2 === 0 ? one : other)
    assert.not(callers.isOne)
  }
  time += 101
  callers.heard(other)
  assert.ok(callers.isOne)
})

test.run()
