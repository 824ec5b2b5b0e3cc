// What users of SQLite and DuckDB write about the WAL and the catalog: it does what they mean, or says that it is so anyway.

import fs from 'node:fs'
import path from 'node:path'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'

const test = suite('pragmas')
let engine: TestEngine
let client: pg.Client
const notices: string[] = []

async function connect(): Promise<void> {
  client = await engine.connect()
  client.on('notice', ({ message }) => notices.push(message ?? ''))
}

test.before(async () => {
  engine = await TestEngine.start()
  await connect()
  await client.query('CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR NOT NULL)')
})
test.after(() => engine.kill())

test('what is always on is accepted, and a notice says so', async () => {
  for (const text of ['PRAGMA enable_wal', 'PRAGMA foreign_keys = ON', 'pragma foreign_keys(1)', 'PRAGMA journal_mode = WAL']) {
    for (const query of [text, { text, values: [], queryMode: 'extended' }]) {
      notices.length = 0
      await client.query(query as string)
      assert.match(notices.join('\n'), /always/, text)
    }
  }
  assert.is(await codeOf(client.query('PRAGMA foreign_keys = OFF')), '0A000')
  assert.is(await codeOf(client.query('PRAGMA journal_mode = DELETE')), '0A000')
  assert.equal(await rowsOf(client, 'PRAGMA foreign_keys'), [['on']])
})

test('PRAGMA wal_autocheckpoint sets the transactions between checkpoints, and they outlive the engine', async () => {
  const every = async () => (await engine.control.status()).checkpointEvery
  assert.is(await every(), null)
  assert.equal(await rowsOf(client, 'PRAGMA wal_autocheckpoint'), [['default']])
  for (const [i, text] of [
    'PRAGMA wal_autocheckpoint = 5000',
    'PRAGMA wal_autocheckpoint(5001)',
    'SET wal_autocheckpoint = 5002',
    "SET GLOBAL wal_autocheckpoint TO '5003'",
  ].entries()) {
    await client.query(text)
    assert.is(await every(), 5000 + i, text)
  }
  await engine.restart()
  await connect()
  assert.is(await every(), 5003)
  assert.equal(await rowsOf(client, 'SHOW wal_autocheckpoint'), [['5003']])
  for (const text of ['= 0', '= -1', "= '16MB'", '= 1.5', '= 99999999999', '= 1 2', ' = ']) {
    assert.is(await codeOf(client.query(`PRAGMA wal_autocheckpoint ${text}`)), '22023', text)
  }
  assert.is(await every(), 5003)
  await client.query('RESET wal_autocheckpoint')
  assert.is(await every(), null)
})

test('settings that cannot be read do not keep the engine from starting', async () => {
  await client.query('SET wal_autocheckpoint = 7')
  fs.writeFileSync(path.join(engine.data, 'settings.json'), '{"vers')
  await engine.restart()
  await connect()
  assert.is((await engine.control.status()).checkpointEvery, null)
  assert.match(engine.output(), /settings.json cannot be read/)
})

test('pragmas that only read are answered, by both protocols', async () => {
  for (const text of [
    "PRAGMA table_info('t')",
    'PRAGMA show_tables',
    'PRAGMA database_size',
    'PRAGMA version',
    "PRAGMA storage_info('t')",
  ]) {
    assert.ok((await client.query(text)).rows.length >= (text.includes('storage') ? 0 : 1), text)
    assert.ok(Array.isArray((await client.query({ text, values: [], queryMode: 'extended' } as pg.QueryConfig)).rows), text)
  }
  assert.equal(
    (await rowsOf(client, "PRAGMA table_info('t')")).map(([, name, type]) => [name, type]),
    [
      ['id', 'INTEGER'],
      ['v', 'VARCHAR'],
    ],
  )
})

test('integrity_check names the command that does it; all others stay out of reach', async () => {
  const error = await client.query('PRAGMA integrity_check').catch((caught: pg.DatabaseError) => caught)
  assert.equal([(error as pg.DatabaseError).code, (error as pg.DatabaseError).hint], ['0A000', 'daemonguard scan'])
  for (const text of [
    'PRAGMA disable_checkpoint_on_shutdown',
    "PRAGMA table_info('daemonguard.watermark')",
    'PRAGMA storage_info(\'"daemonguard"."probe"\')',
    "PRAGMA import_database('/tmp')",
    'PRAGMA threads = 1',
    'PRAGMA enable_profiling',
    'PRAGMA',
  ]) {
    assert.is(await codeOf(client.query(text)), '42501', text)
  }
})

test.run()
