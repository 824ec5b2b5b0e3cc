// deadline: 300s
// Redis and ClickHouse are stopped under load and started again: both catch up by themselves, nothing is lost and nothing doubled.
// SOAK=1: the outage lasts a minute, and longer than that.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { StatusReport } from '../../agent/status-report.ts'
import { startChdb } from '../support/chdb.ts'
import { startRedis } from '../support/redis.ts'
import { waitFor } from '../support/wait.ts'
import { Guarded, patience } from './support/guarded.ts'
import { assertSettled } from './support/ledger.ts'
import { delivered } from './support/stores.ts'
import { schema, Writers } from './support/writers.ts'

const test = suite('outage')
const outageMs = process.env.SOAK === undefined ? 0 : 60_000
/** Tries to reach a server that is away: enough for a failed sync to be recorded (max_retries), and to go on after it. */
const attempts = 5

test('Redis and ClickHouse are away under load, and catch up by themselves', async () => {
  // With its append-only file, so that a restart of Redis brings back what it had confirmed.
  const [redis, clickhouse] = await Promise.all([startRedis({ appendOnly: true }), startChdb()])
  const guarded = await Guarded.prepare({
    plugins: [
      'watchdog: { max_restarts: 1000 }',
      'checkpointer: { every_transactions: 200 }',
      `redis-mirror: { url: "${redis.url}" }`,
      `clickhouse-shipper: { url: "${clickhouse.url}", batch: { rows: 500, max_delay: 50ms }, backoff: [50ms, 100ms, 200ms], max_retries: 3 }`,
    ],
  })
  try {
    await guarded.start()
    await guarded.sql(...schema)
    const writers = new Writers(guarded)
    writers.start(['single', 'single', 'single', 'transaction', 'transaction', 'transaction'])
    try {
      await acknowledged(writers, 200)
      await guarded.until('both have taken rows', ({ lag }) => lag.length === 2 && lag.every(({ confirmed }) => confirmed > 50))

      // Stopped in order.
      await Promise.all([redis.stop(), clickhouse.stop()])
      const away = Date.now()
      const before = writers.acknowledged
      const failing = await guarded.until('both have failed several times', (status) =>
        ['redis-mirror', 'clickhouse-shipper'].every((name) => failuresOf(status, name) >= attempts),
      )
      assert.is(failing.engine.state, 'up')
      assert.ok(!failing.healthy, 'an outage is no health')
      for (const name of ['redis-mirror', 'clickhouse-shipper'])
        assert.ok(
          failing.problems.some((problem) => problem.includes(name)),
          failing.problems.join('\n'),
        )
      await waitFor('the outage has lasted long enough', () => Date.now() - away >= outageMs, { deadline: outageMs + patience })
      await acknowledged(writers, 200)
      assert.ok(writers.acknowledged - before >= 200, 'the platform writes on')
      await Promise.all([redis.start(), clickhouse.start()])
      await guarded.until('both catch up while the writers write on', ({ lag }) => lag.every(({ lag }) => lag < 100))

      // Killed, and the engine and the agent too while they are away.
      await Promise.all([redis.kill(), clickhouse.kill()])
      await acknowledged(writers, 100)
      await guarded.killEngine()
      await acknowledged(writers, 100)
      await guarded.killAgent()
      await guarded.start()
      await acknowledged(writers, 100)
      await Promise.all([redis.start(), clickhouse.start()])

      // There, but without an answer.
      await acknowledged(writers, 100)
      redis.pause()
      clickhouse.pause()
      await acknowledged(writers, 100)
      redis.resume()
      clickhouse.resume()
      await acknowledged(writers, 100)
    } finally {
      await writers.stop()
    }
    await delivered(guarded)
    await assertSettled(guarded, writers, { redis: redis.url, clickhouse: clickhouse.url })
    const { plugins } = await guarded.until('both are well again', ({ plugins }) => plugins.every(({ healthy }) => healthy))
    assert.is(plugins.find(({ name }) => name === 'clickhouse-shipper')?.facts.dead_letters, 0)
    assert.not.ok(
      fs.existsSync(path.join(guarded.data, 'dead-letter')) && fs.readdirSync(path.join(guarded.data, 'dead-letter')).length > 0,
    )
    await guarded.stop()
  } finally {
    await guarded.end()
    await Promise.all([redis.kill(), clickhouse.kill()])
  }
})

function failuresOf({ plugins }: StatusReport, name: string): number {
  return Number(plugins.find((plugin) => plugin.name === name)?.facts.failures_in_a_row ?? 0)
}

async function acknowledged(writers: Writers, orders: number): Promise<void> {
  const target = writers.acknowledged + orders
  await waitFor(
    `${orders} more orders are acknowledged`,
    () => {
      writers.check()
      return writers.acknowledged >= target
    },
    { deadline: patience },
  )
}

test.run()
