// deadline: 180s
// beside: others
// A second agent or engine on the same data directory, or on the same database file, refuses with the pid of the first, and the first goes on.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Guarded } from './support/guarded.ts'

const test = suite('locks')

test('a second agent or engine on the same data directory refuses with the pid of the first', async () => {
  const first = await Guarded.prepare()
  const second = await Guarded.prepare({ data: first.data })
  try {
    await first.start()
    const engine = first.enginePid()
    const client = await first.connect()
    await client.query('CREATE TABLE t (id INTEGER)')
    await client.query('BEGIN')
    await client.query('INSERT INTO t VALUES (1)')

    const agent = second.startAgent()
    const { code } = await agent.exited
    assert.is(code, 75)
    assert.match(agent.output(), new RegExp(`another agent .*pid ${first.agent?.pid}\\b`))

    const other = await second.command('engine')
    assert.is(other.code, 75)
    assert.match(`${other.stdout}${other.stderr}`, new RegExp(`another engine .*pid ${engine}\\b`))

    assert.is((await client.query('COMMIT')).command, 'COMMIT')
    await client.end()
    assert.is(first.enginePid(), engine)
    assert.equal((await first.status()).incidents, [])

    // With the agent gone the engine still holds its own lock; a new agent adopts it, it does not start another one.
    await first.killAgent()
    assert.is((await second.command('engine')).code, 75)
    await first.start()
    assert.is(first.enginePid(), engine)
    assert.equal(await first.sql('SELECT id FROM t'), [['1']])
    await first.stop()
  } finally {
    await Promise.all([first.end(), second.end()])
  }
})

test('an agent with a data directory of its own leaves a database file alone that another engine has open, and names it', async () => {
  const first = await Guarded.prepare()
  const second = await Guarded.prepare({ engine: [`database: ${first.database}`] })
  try {
    await first.start()
    await first.sql('CREATE TABLE t (id INTEGER)', 'INSERT INTO t VALUES (1)')
    const engine = first.enginePid()
    second.startAgent()
    const status = await second.until('the second agent says who has the file', ({ problems }) =>
      problems.some((problem) => problem.includes(`${engine}`)),
    )
    assert.is(status.engine.state, 'down')
    assert.ok(!fs.existsSync(path.join(second.data, 'quarantine')), 'nothing was moved')
    await first.sql('INSERT INTO t VALUES (2)')
    assert.is((await first.command('scan')).code, 0)
    assert.is(first.enginePid(), engine)
    await first.stop()
  } finally {
    await Promise.all([first.end(), second.end()])
  }
})

test.run()
