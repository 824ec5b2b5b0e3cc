// deadline: 180s
// From SIGKILL of the engine to the next successful write: under 2 s, by the closed control connection alone; no health check is due for an hour.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock, waitUntil } from '../../agent/clock.ts'
import { Guarded, patience } from './support/guarded.ts'

const test = suite('restart time')

test('a killed engine takes writes again within 2 s, without waiting for a health check', async () => {
  const guarded = await Guarded.prepare({ plugins: ['watchdog: { schedule: "0 0 1 1 *", max_restarts: 1000 }'] })
  try {
    await guarded.start()
    await guarded.sql('CREATE TABLE t (id INTEGER PRIMARY KEY)')
    const rows = Array.from({ length: 500 }, (_, i) => `(${i})`).join(', ')
    await guarded.sql(`INSERT INTO t VALUES ${rows}`)
    // Replayed one by one, these alone would take longer.
    await guarded.sql(
      'CREATE TABLE positions (id INTEGER PRIMARY KEY, quantity INTEGER)',
      'INSERT INTO positions SELECT i, 0 FROM range(10) r(i)',
    )
    await guarded.sql(...Array.from({ length: 1_000 }, (_, i) => `UPDATE positions SET quantity = quantity + 1 WHERE id = ${i % 10}`))
    const times: number[] = []
    for (let round = 0; round < 5; round++) {
      const [old] = await guarded.killEngine()
      const killed = systemClock.monotonic()
      const wrote = await waitUntil(
        () =>
          guarded.sql(`INSERT INTO t VALUES (${1_000 + round})`).then(
            () => true,
            (error: { code?: string }) => error.code === '23505', // its acknowledgement was lost; it is there
          ),
        { deadline: patience, every: 5 },
      )
      assert.ok(wrote, guarded.describe())
      times.push(Math.round(systemClock.monotonic() - killed))
      assert.is.not(guarded.enginePid(), old)
    }
    process.stdout.write(`[from SIGKILL to the next write: ${times.join(', ')} ms] `)
    assert.equal(await guarded.sql('SELECT count(*) FROM t'), [['505']])
    assert.equal(await guarded.sql('SELECT count(*), min(quantity), max(quantity) FROM positions'), [['10', '100', '100']])
    const { plugins } = await guarded.status()
    assert.is(plugins.find(({ name }) => name === 'watchdog')?.facts.probes, 0, 'no health check had a part in it')
    // The shortest: other work of the machine can only lengthen it.
    assert.ok(Math.min(...times) < 2_000, `${times.join(', ')} ms`)
    await guarded.stop()
  } finally {
    await guarded.end()
  }
})

test.run()
