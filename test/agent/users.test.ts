// deadline: 180s
// Users come, go and change their passwords while the engine serves: at a SIGHUP, and when a new agent adopts it.

import pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Guarded, kill, patience } from '../fault/support/guarded.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('users')

test('changed users are taken up at a SIGHUP and by the next agent; changed methods are not, and that is said', async () => {
  const guarded = await Guarded.prepare()
  const configure = (users: object[], method = 'scram-sha-256') =>
    guarded.configure({ engine: [`auth: ${JSON.stringify({ method, users })}`] })
  const logIn = async (user: string, password: string) => {
    const client = new pg.Client({ host: '127.0.0.1', port: guarded.port, user, password, database: 'x' })
    client.on('error', () => {})
    try {
      await client.connect()
      return 'in'
    } catch (error) {
      return (error as { code?: string }).code
    } finally {
      await client.end().catch(() => {})
    }
  }
  const taken = (user: string, password: string, expected: string) =>
    waitFor(`${user}: ${expected}`, async () => (await logIn(user, password)) === expected, { deadline: patience, every: 100 })
  configure([{ name: 'trader', password: 'pw-first' }])
  try {
    await guarded.start()
    const pid = guarded.enginePid()
    const staying = new pg.Client({ host: '127.0.0.1', port: guarded.port, user: 'trader', password: 'pw-first', database: 'x' })
    staying.on('error', () => {})
    await staying.connect()

    configure([
      { name: 'trader', password: 'pw-second' },
      { name: 'grafana', password: 'new', readonly: true },
    ])
    kill(guarded.agent!.pid, 'SIGHUP')
    await taken('grafana', 'new', 'in')
    assert.is(await logIn('trader', 'pw-second'), 'in')
    assert.is(await logIn('trader', 'pw-first'), '28P01')
    assert.equal((await staying.query('SELECT 1 AS n')).rows, [{ n: 1 }])

    await guarded.killAgent()
    configure([{ name: 'trader', password: 'pw-third' }])
    await guarded.start()
    await taken('trader', 'pw-third', 'in')
    assert.is(await logIn('grafana', 'new'), '28P01')

    configure([], 'trust')
    kill(guarded.agent!.pid, 'SIGHUP')
    await waitFor(
      'the agent says it',
      () => /engine\.auth\. It takes effect when the agent starts again.*stop --engine/.test(guarded.agent!.output()),
      {
        deadline: patience,
      },
    )
    assert.is(await logIn('trader', 'wrong'), '28P01')
    assert.is(await logIn('trader', 'pw-third'), 'in')
    assert.is(guarded.enginePid(), pid, 'the engine has served all the time')
    assert.not.ok(/pw-(first|second|third)/.test(guarded.agent!.output()))
    await staying.end()
  } finally {
    await guarded.stop()
  }
})

test.run()
