// Rows that are written by their values, and more by their columns (column-lists.ts), are the same, also values that only binary parameters have, and of types that have no text of their own.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { TableInfo } from '../../agent/engine/catalog.ts'
import type { Connection, Database } from '../../agent/engine/duckdb.ts'
import { TableWriter } from '../../agent/engine/table-writer.ts'
import type { Cell } from '../../agent/journal/types.ts'
import { newDatabase } from '../support/database.ts'

const test = suite('table writer')
let database: Database
let connection: Connection

test.before(async () => {
  database = await newDatabase('d', { threads: 1 })
  connection = await database.connect()
  await connection.run("SET TimeZone = 'UTC'")
})
test.after(() => {
  connection.close()
  database.close()
})

const infinite = 2n ** 63n - 1n
const samples: readonly [type: string, ...cells: [Cell, string][]][] = [
  ['BLOB', [Buffer.from([0, 1, 255, 39]), '\\x00\\x01\\xFF\\x27']],
  ['BIT', ['0101', '0101']],
  ['INTERVAL', [{ months: 1, days: -2, micros: 3_000_001n }, '1 month -2 days 00:00:03.000001']],
  ['TIMESTAMP_S', [1_610_113_020n, '2021-01-08 13:37:00']],
  ['TIMESTAMP_MS', [1_610_113_020_278n, '2021-01-08 13:37:00.278']],
  ['TIMESTAMP_NS', [1_610_113_020_278_123_456n, '2021-01-08 13:37:00.278123456']],
  ['TIMESTAMP', [infinite, 'infinity'], [-infinite, '-infinity'], [-1n, '1969-12-31 23:59:59.999999']],
  ['TIMESTAMPTZ', [infinite, 'infinity'], [-infinite, '-infinity'], [-1n, '1969-12-31 23:59:59.999999+00']],
  ['DATE', [2 ** 31 - 1, 'infinity'], [-(2 ** 31) + 1, '-infinity'], [-719_163, '0001-12-31 (BC)'], [5_000_000, '15659-07-15']],
  ['TIME', [86_400_000_000n, '24:00:00'], [1n, '00:00:00.000001']],
  ['TIME_NS', [49_020_278_123_456n, '13:37:00.278123456']],
  ['FLOAT', [Number.NaN, 'nan'], [Number.NEGATIVE_INFINITY, '-inf'], [-0, '-0.0'], [Math.fround(0.1), '0.1']],
  ['DOUBLE', [Number.NaN, 'nan'], [Number.POSITIVE_INFINITY, 'inf'], [-0, '-0.0'], [5e-324, '5e-324']],
  ['BIGNUM', [12_345_678_901_234_567_890_123n, '12345678901234567890123']],
  [
    'VARCHAR',
    ['', ''],
    [Array.from({ length: 0xd800 - 0x1f }, (_, i) => String.fromCharCode(0x1f + i)).join(''), '*'],
    ['\ue000', '\ue000'],
    ['=', '='],
  ],
  ['STRUCT(a INTEGER)[]', [null, '']],
  ['MAP(VARCHAR, INTEGER)', [null, '']],
]

for (const [type, ...cells] of samples) {
  test(`${type}, alone and several`, async () => {
    await connection.run(`CREATE OR REPLACE TABLE t (id INTEGER, a ${type}, b ${type})`)
    const probe = await connection.prepare('SELECT * FROM t')
    const columns = probe.columns().map((column, i) => ({ ...column, sqlType: i === 0 ? 'INTEGER' : type, nullable: true }))
    probe.close()
    const writer = new TableWriter(connection, { path: 't', table: { columns } } as unknown as TableInfo)
    for (const [i, [cell]] of cells.entries()) await (await writer.statementFor({ count: 1, columns: [[i], [cell], [null]] }))()
    const ids = cells.map((_, i) => cells.length + i)
    const values = cells.map(([cell]) => cell)
    const none = cells.map(() => null)
    await (
      await writer.statementFor({
        count: cells.length + 1,
        columns: [
          [...ids, 99],
          [...values, null],
          [...none, values[0] as Cell],
        ],
      })
    )()
    writer.close()
    const rows = await connection.all('SELECT a::VARCHAR, b IS NULL FROM t WHERE id < 99 ORDER BY id')
    const expected = cells.map(([cell, text]) => [cell === null ? null : text === '*' ? cell : text, true])
    assert.equal(rows, [...expected, ...expected])
    assert.equal(await connection.all('SELECT a IS NULL, b::VARCHAR FROM t WHERE id = 99'), [[true, expected[0]?.[0]]])
  })
}

test.run()
