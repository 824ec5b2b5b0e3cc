// deadline: 360s
// 20 rounds (SOAK=1: 200) of SIGKILL at random moments of engine, agent, or both, under 8 writers: nothing acknowledged is missing, doubled or half there, in all three stores.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock } from '../../agent/clock.ts'
import { startChdb } from '../support/chdb.ts'
import { seededRandom } from '../support/random.ts'
import { startRedis } from '../support/redis.ts'
import { soak } from '../support/soak.ts'
import { waitFor } from '../support/wait.ts'
import { Guarded, patience } from './support/guarded.ts'
import { assertSettled } from './support/ledger.ts'
import { delivered, insertsInStream } from './support/stores.ts'
import { schema, Writers } from './support/writers.ts'

const test = suite('kill rounds')
const rounds = soak ? 200 : 20

test(`${rounds} rounds of SIGKILL lose, double and halve nothing`, async () => {
  const random = seededRandom('kill rounds')
  const [redis, clickhouse] = await Promise.all([startRedis(), startChdb()])
  const guarded = await Guarded.prepare({
    plugins: [
      'watchdog: { schedule: "* * * * * *", max_restarts: 1000 }',
      // So often that kills meet checkpoints, scans and snapshots.
      'checkpointer: { every_transactions: 100 }',
      'integrity-scanner: { schedule: "* * * * * *", snapshots: { schedule: "*/3 * * * * *", keep: 2 } }',
      `redis-mirror: { url: "${redis.url}" }`,
      `clickhouse-shipper: { url: "${clickhouse.url}", batch: { max_delay: 50ms }, backoff: [100ms, 500ms] }`,
    ],
  })
  try {
    await guarded.start()
    await guarded.sql(...schema)
    const writers = new Writers(guarded)
    writers.start(['single', 'single', 'single', 'single', 'single', 'transaction', 'transaction', 'transaction'])
    const story: string[] = []
    try {
      for (let round = 1; round <= rounds; round++) {
        // Mostly under load; now and then while it is still recovering from the last kill.
        const soon = round > 1 && random.chance(0.2)
        if (!soon) {
          const target = writers.acknowledged + random.int(20, 150)
          await waitFor(`round ${round}: ${target} orders are acknowledged`, () => writers.acknowledged >= target || throwing(writers), {
            deadline: patience,
            every: 1,
          })
        }
        // Not a wait for anything: the random moment itself.
        await systemClock.sleep(soon ? random.int(0, 400) : random.float() * 10)
        const what = random.pick(['engine', 'engine', 'agent', 'both'] as const)
        story.push(`${what}${soon ? ' soon' : ''}`)
        await Promise.all([what === 'agent' ? [] : guarded.killEngine(), what === 'engine' ? undefined : guarded.killAgent()])
        if (what === 'engine') continue
        await systemClock.sleep(random.int(0, 200))
        guarded.startAgent()
      }
      const target = writers.acknowledged + 50
      await waitFor('the writers write on', () => writers.acknowledged >= target || throwing(writers), { deadline: patience })
    } catch (error) {
      throw new Error(`${String(error)}\n${story.join(', ')}\n${guarded.describe(30)}`, { cause: error })
    } finally {
      await writers.stop()
    }
    process.stdout.write(
      `[${story.join(', ')}: ${writers.acknowledged} orders, ${writers.connectionsLost} connections lost, ${writers.arrivedUnseen} arrived unseen, ${writers.refused.size} refused] `,
    )
    await delivered(guarded)
    await assertSettled(guarded, writers, { redis: redis.url, clickhouse: clickhouse.url })
    const inserts = await insertsInStream(redis.url)
    assert.is(inserts.get('main.singles'), writers.singles.size, 'entries in the stream of changes')
    assert.is((await guarded.command('scan')).code, 0)
    await guarded.stop()
  } finally {
    await guarded.end()
    await Promise.all([redis.kill(), clickhouse.kill()])
  }
})

function throwing(writers: Writers): false {
  writers.check()
  return false
}

test.run()
