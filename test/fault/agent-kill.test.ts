// deadline: 180s
// Killing the agent does not disturb a client's open transaction; the next agent adopts the engine (same pid), and guards it as its own.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { waitFor } from '../support/wait.ts'
import { Guarded, patience } from './support/guarded.ts'

const test = suite('agent kill')

test('a transaction stays open over the death of the agent, and the next agent adopts the engine', async () => {
  const guarded = await Guarded.prepare({ plugins: ['watchdog: { schedule: "* * * * * *", max_restarts: 1000 }'] })
  try {
    await guarded.start()
    await guarded.sql('CREATE TABLE t (id INTEGER PRIMARY KEY)')
    const engine = guarded.enginePid()
    const client = await guarded.connect()
    const { rows } = await client.query('SELECT 41 + 1 AS n')
    assert.is(rows[0].n, 42)
    await client.query('BEGIN')
    await client.query('INSERT INTO t VALUES (1)')

    await guarded.killAgent()
    await client.query('INSERT INTO t VALUES (2)')
    assert.equal(await guarded.sql('SELECT count(*) FROM t'), [['0']], 'others do not see it before its COMMIT')
    await guarded.sql('INSERT INTO t VALUES (10)')

    await guarded.start()
    assert.is(guarded.enginePid(), engine)
    const status = await guarded.until('the next agent probes the engine', ({ plugins }) =>
      plugins.some(({ name, facts }) => name === 'watchdog' && facts.lastProbeMs !== null),
    )
    assert.is(status.engine.status?.pid, engine)
    assert.match(status.engine.supervision, /adopted/)
    assert.equal(status.incidents, [])

    await client.query('INSERT INTO t VALUES (3)')
    assert.is((await client.query('COMMIT')).command, 'COMMIT')
    await client.end()
    assert.equal(await guarded.sql('SELECT id FROM t ORDER BY id'), [['1'], ['2'], ['3'], ['10']])

    // An adopted engine is guarded as well as one that was started.
    await guarded.killEngine()
    await waitFor('the adopted engine is replaced', async () => (await guarded.sql('SELECT count(*) FROM t'))[0]?.[0] === '4', {
      deadline: patience,
    })
    assert.is.not(guarded.enginePid(), engine)
    await guarded.stop()
  } finally {
    await guarded.end()
  }
})

test('a transaction that is open when its engine dies is gone, whole', async () => {
  const guarded = await Guarded.prepare({ plugins: ['watchdog: { max_restarts: 1000 }'] })
  try {
    await guarded.start()
    await guarded.sql('CREATE TABLE t (id INTEGER PRIMARY KEY)', 'INSERT INTO t VALUES (1)')
    const client = await guarded.connect()
    await client.query('BEGIN')
    await client.query('INSERT INTO t VALUES (2)')
    await Promise.all([guarded.killEngine(), guarded.killAgent()])
    const answer = await client.query('COMMIT').then(
      () => 'committed',
      () => 'connection lost',
    )
    assert.is(answer, 'connection lost')
    await guarded.start()
    assert.equal(await guarded.sql('SELECT id FROM t'), [['1']])
    await guarded.stop()
  } finally {
    await guarded.end()
  }
})

test.run()
