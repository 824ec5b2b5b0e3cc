import { ClickHouseLogLevel, createClient } from '@clickhouse/client'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { startClickHouse } from '../support/clickhouse.ts'

test('a real clickhouse-server creates, inserts and selects through @clickhouse/client, and keeps rows over kill -9', async () => {
  const server = await startClickHouse()
  const client = createClient({ url: server.url, log: { level: ClickHouseLogLevel.OFF } })
  try {
    assert.ok((await client.ping()).success)
    await client.command({ query: 'CREATE TABLE trades (id UInt64, price Float64) ENGINE = MergeTree ORDER BY id' })
    await client.insert({
      table: 'trades',
      format: 'JSONEachRow',
      values: [
        { id: 1, price: 39432.48 },
        { id: 2, price: 39439.44 },
      ],
    })
    await server.kill()
    assert.not((await client.ping()).success)
    await server.start()
    const rows = await client.query({ query: 'SELECT id, price FROM trades ORDER BY id', format: 'JSONEachRow' })
    assert.equal(await rows.json(), [
      { id: '1', price: 39432.48 },
      { id: '2', price: 39439.44 },
    ])
  } finally {
    await client.close()
    await server.stop()
  }
})

test.run()
