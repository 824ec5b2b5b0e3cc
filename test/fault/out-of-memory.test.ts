// deadline: 240s
// The kernel's out-of-memory killer takes the engine in the middle of its work: it is only a restart. A statement that wants too much memory fails alone.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { waitFor } from '../support/wait.ts'
import { Guarded, kill, patience } from './support/guarded.ts'
import { assertSettled } from './support/ledger.ts'
import { MemoryGroup } from './support/memory-group.ts'
import { schema, Writers } from './support/writers.ts'

const test = suite('out of memory')
/** More than it gets: DuckDB keeps all of the values until the end. */
const greedy = 'SELECT count(*) FROM (SELECT DISTINCT i, md5(i::VARCHAR) || md5((i + 1)::VARCHAR) FROM range(7000000) r(i))'

test('the kernel kills the engine for its memory, under load: it is only a restart', async () => {
  const group = MemoryGroup.make()
  const guarded = await Guarded.prepare({ plugins: ['watchdog: { schedule: "0 0 1 1 *", max_restarts: 1000 }'] })
  try {
    await guarded.start()
    await guarded.sql(...schema)
    const writers = new Writers(guarded)
    writers.start(['single', 'single', 'transaction', 'transaction'])
    try {
      for (let round = 1; round <= 2; round++) {
        const before = writers.acknowledged + 50
        await waitFor('orders are acknowledged', () => writers.acknowledged >= before, { deadline: patience })
        const pid = guarded.enginePid()
        const client = await guarded.connect()
        // Of what it takes from now on: far less than the query wants, which DuckDB would give it.
        group?.take(pid, 64e6)
        const told = client.query(greedy).then(
          () => 'an answer',
          (error: Error) => String(error),
        )
        if (group === undefined) {
          process.stdout.write('[no memory cgroup here: killed by hand] ')
          kill(pid)
        }
        assert.match(await told, /terminated|ECONNRESET|closed/)
        const { incidents } = await guarded.until('another engine serves, and the incident is closed', ({ engine, incidents: [last] }) => {
          return engine.state === 'up' && last?.message.includes(`pid ${pid})`) === true && last.closedAt !== null
        })
        assert.match(incidents[0]?.message ?? '', /killed by SIGKILL/)
        assert.is(group?.kills ?? round, round, 'it was the kernel')
      }
    } finally {
      await writers.stop()
    }
    await assertSettled(guarded, writers)
    await guarded.stop()
  } finally {
    await guarded.end()
    await group?.remove()
  }
})

test.run()
