// What an appender could not write is gone with it (R4): DuckDB tries again when the object is collected as garbage. What it writes is what it was given.

import path from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Connection, Database } from '../../agent/engine/duckdb.ts'
import type { Rows } from '../../agent/journal/types.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('appender')

setFlagsFromString('--expose-gc')
const collect: () => void = runInNewContext('gc')

async function open(): Promise<Connection> {
  const directory = temporaryDirectory('appender')
  const database = await Database.open({
    file: path.join(directory, 'd.duckdb'),
    create: true,
    catalog: 'd',
    threads: 1,
    memoryLimit: 256e6,
    temporaryDirectory: directory,
    externalAccess: false,
  })
  const connection = await database.connect()
  await connection.run('CREATE TABLE parent (id INTEGER PRIMARY KEY)')
  await connection.run('CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id))')
  return connection
}

/** An appender of its own scope, so that nothing keeps it. */
async function append(connection: Connection, rows: Rows, flush: boolean): Promise<string | undefined> {
  const appender = await connection.appender('main', 'child', 'd')
  await connection.run('BEGIN TRANSACTION')
  try {
    appender.append(rows)
    if (flush) appender.flush()
    return undefined
  } catch (error) {
    return (error as Error).message
  } finally {
    appender.close()
    await connection.run('ROLLBACK')
  }
}

test('a value of a UNION that is NULL is NULL, also inside of others', async () => {
  const connection = await open()
  await connection.run('CREATE TABLE t (id INTEGER, v UNION(n INTEGER, t VARCHAR), list UNION(n INTEGER, t VARCHAR)[])')
  const appender = await connection.appender('main', 't', 'd')
  const value = { tag: 't', value: 'x' }
  appender.append({
    count: 4,
    columns: [
      [1, 2, 3, 4],
      [null, value, { tag: 'n', value: null }, null],
      [[null, value], null, [value, null], []],
    ],
  })
  appender.flush()
  appender.close()
  assert.equal(await connection.all('SELECT v IS NULL, union_tag(v)::VARCHAR, [x IS NULL FOR x IN list] FROM t ORDER BY id'), [
    [true, null, [true, false]],
    [false, 't', null],
    [false, 'n', [false, true]],
    [true, null, []],
  ])
  connection.close()
})

for (const [what, flush] of [
  ['whose flush has failed', true],
  ['that was never flushed', false],
] as const) {
  test(`a row ${what} does not come back once its parent is there`, async () => {
    const connection = await open()
    const failure = await append(connection, { count: 1, columns: [[1], [5]] }, flush)
    assert.is(failure !== undefined, flush, failure)
    await connection.run('INSERT INTO parent VALUES (5)')
    // The finalizers of native objects run between turns of the event loop.
    for (let turn = 0; turn < 10; turn++) {
      collect()
      await new Promise((resolve) => setImmediate(resolve))
    }
    assert.equal(await connection.all('SELECT * FROM child'), [])
    await connection.run('INSERT INTO child VALUES (1, 5)')
  })
}

test.run()
