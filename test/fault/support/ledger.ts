/** The reckoning: what the writers were told against what each store has, row by row. */

import * as assert from 'uvu/assert'
import type { Guarded } from './guarded.ts'
import { assertSame, inClickHouse, inDuckDB, inRedis, type Lines } from './stores.ts'
import { amountsOf, noteOf, type Writers } from './writers.ts'

const singles = ['id', 'note']
const legs = ['id', 'leg', 'amount']

/** What every store must hold: each order once, whole, and not one that was refused. */
export function expectedRows(writers: Writers): { singles: Lines; legs: Lines } {
  return {
    singles: [...writers.singles].map((id) => `${id}|${noteOf(id)}`).sort(),
    legs: [...writers.transactions].flatMap((id) => amountsOf(id).map((amount, leg) => `${id}|${leg}|${amount}`)).sort(),
  }
}

/** Everything that was acknowledged is there once, whole, and nothing else: in DuckDB, and in the stores that are given. */
export async function assertSettled(
  guarded: Guarded,
  writers: Writers,
  stores: { redis?: string; clickhouse?: string } = {},
): Promise<void> {
  assert.equal(writers.halves, [], 'half transactions')
  const expected = expectedRows(writers)
  assertSame('singles in DuckDB', await inDuckDB(guarded, 'singles', singles), expected.singles)
  assertSame('legs in DuckDB', await inDuckDB(guarded, 'legs', legs), expected.legs)
  if (stores.clickhouse !== undefined) {
    assertSame('singles in ClickHouse', await inClickHouse(stores.clickhouse, 'singles', singles), expected.singles)
    assertSame('legs in ClickHouse', await inClickHouse(stores.clickhouse, 'legs', legs), expected.legs)
  }
  if (stores.redis !== undefined) {
    assertSame('singles in Redis', await inRedis(stores.redis, 'singles', singles), expected.singles)
    assertSame('legs in Redis', await inRedis(stores.redis, 'legs', legs), expected.legs)
  }
}
