/** How often and how soon the engine is restarted: pure arithmetic over times. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { RestartCount } from '../../agent/supervisor/backoff.ts'

const test = suite('restart count')
const minute = 60_000
const served = { served: true, restart: true, servedMs: 1000 }
const failed = { served: false, restart: true }

/** Pauses of `n` deaths in a row, 'stop' where it gives up. */
function decide(count: RestartCount, n: number, death: Parameters<RestartCount['died']>[1], every = 0): (number | 'stop')[] {
  return Array.from({ length: n }, (_, i) => {
    const decision = count.died(i * every, death)
    return decision.giveUp ? 'stop' : decision.pauseMs
  })
}

test('three deaths after service are answered at once, then the pauses grow to 30 s', () => {
  assert.equal(decide(new RestartCount(), 12, served), [0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000])
})

test('three failed restarts are the end; a first start that fails is none', () => {
  const count = new RestartCount()
  assert.equal(decide(count, 1, { served: false, restart: false }), [250])
  assert.equal(decide(count, 3, failed), [500, 1000, 'stop'])
})

test('failures outside the window do not count, and the pauses never carry them out of it', () => {
  assert.not(decide(new RestartCount(), 10, failed, 5 * minute).includes('stop'))
  for (const maxRestarts of [1, 2, 3, 10, 50, 1000]) {
    const count = new RestartCount({ maxRestarts, restartWindowMs: 10 * minute })
    let now = 0
    let restarts = 0
    for (let decision = count.died(now, failed); !decision.giveUp; decision = count.died(now, failed)) {
      now += decision.pauseMs + 200
      restarts++
      assert.ok(restarts <= maxRestarts, `with ${maxRestarts} it must end`)
    }
    assert.is(restarts, maxRestarts - 1)
  }
})

test('with max_restarts 1000 no pause is longer than 250 ms', () => {
  const count = new RestartCount({ maxRestarts: 1000, restartWindowMs: 10 * minute })
  for (let i = 0; i < 999; i++) {
    const decision = count.died(i * 10, i % 3 === 0 ? served : failed)
    assert.ok(!decision.giveUp && decision.pauseMs <= 250)
  }
})

test('five minutes of service reset the count, less does not', () => {
  const count = new RestartCount()
  decide(count, 6, served)
  assert.equal(count.died(0, { ...served, servedMs: 4 * minute }), { giveUp: false, pauseMs: 2000, flapping: true })
  assert.equal(count.died(0, { ...served, servedMs: 5 * minute }), { giveUp: false, pauseMs: 0, flapping: false })
})

test('the counts survive as times; times from the future, after the clock was set back, are dropped', () => {
  const count = new RestartCount()
  decide(count, 2, failed)
  const next = new RestartCount(undefined, count.times())
  assert.equal(next.inWindow(0), { deaths: 2, failed: 2 })
  assert.equal(next.died(1, failed), { giveUp: true })
  assert.equal(new RestartCount(undefined, { deaths: [5000], failed: [5000] }).inWindow(1000), { deaths: 0, failed: 0 })
})

test.run()
