// Keys that are known to be free, compared with a set of all of them.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { FreeKeys } from '../../agent/engine/free-keys.ts'
import { seededRandom } from '../support/random.ts'

const test = suite('free keys')
const random = seededRandom('free keys')

test('exactly what was added and not taken is free', () => {
  for (let run = 0; run < 50; run++) {
    const [keys, set] = [new FreeKeys(), new Set<number>()]
    for (let n = 0; n < 300; n++) {
      const at = random.int(0, 200)
      if (random.chance(0.2)) {
        const last = at + random.int(0, 20)
        keys.add(BigInt(at), BigInt(last))
        for (let key = at; key <= last; key++) set.add(key)
      } else {
        const last = at + (random.chance(0.8) ? 0 : random.int(0, 20))
        const taken = Array.from({ length: last - at + 1 }, (_, i) => set.delete(at + i))
        assert.is(keys.take(BigInt(at), BigInt(last)), taken.includes(true))
      }
      const other = random.int(-5, 230)
      assert.is(keys.has(BigInt(other)), set.has(other))
    }
    keys.clear()
    for (let key = 0; key < 230; key++) assert.not(keys.has(BigInt(key)))
  }
})

test('the whole of BIGINT can be free', () => {
  const keys = new FreeKeys()
  const [least, most] = [-(1n << 63n), (1n << 63n) - 1n]
  keys.add(least, most)
  assert.ok(keys.take(least) && keys.take(most) && keys.take(0n))
  assert.not(keys.has(least) || keys.has(most) || keys.has(0n))
  assert.ok(keys.has(least + 1n) && keys.has(-1n) && keys.has(1n) && keys.has(most - 1n))
})

test('very many gaps are not kept, and none that is not one appears', () => {
  const keys = new FreeKeys()
  for (let key = 0n; key < 10_000n; key += 2n) keys.add(key, key)
  const kept = Array.from({ length: 10_000 }, (_, key) => BigInt(key)).filter((key) => keys.has(key))
  assert.ok(kept.length > 500 && kept.length <= 1_024, `${kept.length}`)
  assert.ok(kept.every((key) => key % 2n === 0n))
  assert.ok(keys.has(9_998n))
})

test.run()
