import { type ClickHouseClient, ClickHouseLogLevel, type ClickHouseSettings, createClient } from '@clickhouse/client'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { startChdb } from '../support/chdb.ts'
import type { TestServer } from '../support/server.ts'

let server: TestServer
let client: ClickHouseClient

test.before(async () => {
  server = await startChdb()
  client = createClient({ url: server.url, log: { level: ClickHouseLogLevel.OFF } })
})

test.after(async () => {
  await client?.close()
  await server?.stop()
})

async function rowsOf(query: string, settings = {}): Promise<unknown[]> {
  const result = await client.query({ query, format: 'JSONEachRow', clickhouse_settings: settings })
  return result.json()
}

test('it answers ping and selects, with query parameters and settings of one query only', async () => {
  assert.ok((await client.ping()).success)
  const result = await client.query({
    query: 'SELECT {a:String} AS a, {b:UInt32} AS b',
    query_params: { a: "it's\n\\", b: 7 },
    format: 'JSONEachRow',
  })
  assert.equal(await result.json(), [{ a: "it's\n\\", b: 7 }])
  const threads = "SELECT getSetting('max_threads') AS n"
  const before = await rowsOf(threads)
  assert.equal(await rowsOf(threads, { max_threads: 3 }), [{ n: 3 }])
  assert.equal(await rowsOf(threads), before)
})

test('an insert_deduplication_token lets an insert happen once', async () => {
  await client.command({
    query: 'CREATE TABLE once (id UInt64) ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100',
  })
  const insert = (id: number, token: string) =>
    client.insert({
      table: 'once',
      format: 'JSONEachRow',
      values: [{ id }],
      clickhouse_settings: { insert_deduplication_token: token, insert_deduplicate: 1, async_insert: 0 },
    })
  await insert(1, 'batch-1')
  await insert(1, 'batch-1')
  await insert(2, 'batch-1')
  await insert(3, 'batch-2')
  assert.equal(await rowsOf('SELECT id FROM once ORDER BY id'), [{ id: 1 }, { id: 3 }])
  await server.kill()
  await server.start()
  await insert(1, 'batch-1')
  assert.equal(await rowsOf('SELECT id FROM once ORDER BY id'), [{ id: 1 }, { id: 3 }], 'the window outlives the process')
})

test('ReplacingMergeTree(_dg_seq, _dg_deleted) read with FINAL gives the latest image and no deleted row', async () => {
  await client.command({
    query: `CREATE TABLE latest (id UInt64, price Float64, _dg_seq UInt64, _dg_deleted UInt8)
      ENGINE = ReplacingMergeTree(_dg_seq, _dg_deleted) ORDER BY id`,
  })
  const row = (id: number, price: number, seq: number, deleted = 0) => ({ id, price, _dg_seq: seq, _dg_deleted: deleted })
  await client.insert({ table: 'latest', format: 'JSONEachRow', values: [row(1, 10, 1), row(2, 20, 1)] })
  await client.insert({ table: 'latest', format: 'JSONEachRow', values: [row(1, 11, 3), row(2, 20, 2, 1)] })
  await client.insert({ table: 'latest', format: 'JSONEachRow', values: [row(1, 9, 2)] })
  assert.equal(await rowsOf('SELECT id, price FROM latest FINAL ORDER BY id'), [{ id: 1, price: 11 }])
})

test('rows survive kill -9 and a new start on the same directory and port', async () => {
  await client.command({ query: 'CREATE TABLE kept (id UInt64) ENGINE = MergeTree ORDER BY id' })
  await client.insert({ table: 'kept', format: 'JSONEachRow', values: [{ id: 42 }] })
  await server.kill()
  assert.not((await client.ping()).success)
  await server.start()
  assert.equal(await rowsOf('SELECT id FROM kept'), [{ id: 42 }])
})

test('a refused query comes back with the code and the type of the error, and a failed query leaves no setting behind', async () => {
  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => ({ code: 'none', type: 'none' }),
      (error: { code: string; type: string }) => ({ code: error.code, type: error.type }),
    )
  assert.equal(await failure(client.query({ query: 'SELECT * FROM absent' })), { code: '60', type: 'UNKNOWN_TABLE' })
  assert.equal(await failure(client.query({ query: 'SELECT 1', clickhouse_settings: { no_such_setting: 1 } as ClickHouseSettings })), {
    code: '115',
    type: 'UNKNOWN_SETTING',
  })
  await failure(client.query({ query: 'SELECT * FROM absent', clickhouse_settings: { max_threads: 3 } }))
  assert.not.equal(await rowsOf("SELECT getSetting('max_threads') AS n"), [{ n: 3 }])
  const raw = await fetch(`${server.url}/?query=SELECT+throwIf(1)`, { method: 'POST' })
  assert.is(raw.status, 500)
  assert.is(raw.headers.get('x-clickhouse-exception-code'), '395')
})

test.run()
