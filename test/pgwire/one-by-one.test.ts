// deadline: 120s
/** A kernel that sends nothing for several at once (containers forbid it, or an operator does): answers leave one by one, and the log says so. */

import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { TestEngine } from '../support/engine.ts'

const test = suite('one by one')

const io_uring_setup = 425

test('16 clients are told of all that they have written', async () => {
  const engine = await TestEngine.prepare()
  engine.env = {
    NODE_OPTIONS: `--import=${path.join(import.meta.dirname, '../fixtures/refused-call.ts')}`,
    DAEMONGUARD_REFUSED_CALL: String(io_uring_setup),
  }
  try {
    await engine.start()
    await engine.sql('CREATE TABLE t (client INTEGER, n INTEGER, PRIMARY KEY (client, n))')
    const client = async (number: number) => {
      const connection = await engine.connect()
      for (let n = 0; n < 50; n++) await connection.query('INSERT INTO t VALUES ($1, $2)', [number, n])
    }
    await Promise.all(Array.from({ length: 16 }, (_, number) => client(number)))
    assert.equal(await engine.sql('SELECT count(*) FROM t'), [['800']])
    assert.match(engine.output(), 'answers are sent one by one: io_uring_setup: errno 1')
  } finally {
    await engine.kill()
  }
})

test.run()
