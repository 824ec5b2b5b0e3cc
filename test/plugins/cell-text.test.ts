import { DuckDBInstance } from '@duckdb/node-api'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { dateDays, dateText } from '../../agent/calendar.ts'
import { cellText, parseCell } from '../../agent/cell-text.ts'
import type { Cell } from '../../agent/journal/types.ts'
import { nestedTypes, randomCell, scalarTypes } from '../fixtures/cells.ts'
import { seededRandom } from '../support/random.ts'

function same(a: Cell, b: Cell): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0
  if (typeof a === 'object' && typeof b === 'object' && a !== null && b !== null) {
    const [x, y] = [Object.entries(a), Object.entries(b)]
    return x.length === y.length && x.every(([key, value]) => same(value as Cell, (b as never)[key]))
  }
  return Object.is(a, b)
}

test('every type comes back from its text as it was', () => {
  const random = seededRandom('cell text')
  for (const type of [...scalarTypes, ...nestedTypes]) {
    for (let n = 0; n < 60; n++) {
      const cell = randomCell(type, random)
      const text = cellText(cell, type)
      assert.ok(same(parseCell(text, type), cell), `${JSON.stringify(type)}: ${text}`)
    }
  }
})

test('text that is not of the type is an error, never another value', () => {
  for (const [text, type] of [
    ['x', { kind: 'INTEGER' }],
    ['', { kind: 'INTEGER' }],
    ['yes', { kind: 'BOOLEAN' }],
    ['1.234', { kind: 'DECIMAL', width: 9, scale: 2 }],
    ['abc', { kind: 'DOUBLE' }],
    ['2021-1-8', { kind: 'DATE' }],
    ['2021-01-08', { kind: 'TIMESTAMP' }],
    ['12:00', { kind: 'TIME' }],
    ['1 day', { kind: 'INTERVAL' }],
    ['{}', { kind: 'LIST', child: { kind: 'DATE' } }],
  ] as const) {
    assert.throws(() => parseCell(text, type), undefined, `${text} as ${type.kind}`)
  }
})

test('dates agree with JavaScript over its whole range, and go beyond it', () => {
  for (let days = -100_000_000; days <= 100_000_000; days += 12_347) {
    const iso = new Date(days * 86_400_000).toISOString().slice(0, -14)
    const text = dateText(days)
    assert.is(dateDays(text), days)
    const [, sign, year, rest] = /^([+-]?)(\d+)(-.*)$/.exec(text)!
    assert.is(
      `${Number(`${sign}${year}`)}${rest}`,
      iso.replace(/^([+-]?)0*(\d+)/, (_, s, y) => `${s === '-' ? '-' : ''}${y}`).replace(/^-0-/, '0-'),
      iso,
    )
  }
  for (const days of [2_147_483_646, -2_147_483_646]) assert.is(dateDays(dateText(days)), days)
})

test('DuckDB reads the text of dates, times, decimals and intervals as the same values', async () => {
  const random = seededRandom('cell text in DuckDB')
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  const check = async (sql: string, expected: bigint) => {
    const rows = (await connection.runAndReadAll(`SELECT (${sql})::VARCHAR`)).getRows()
    assert.is(rows[0]?.[0], String(expected), sql)
  }
  for (let n = 0; n < 50; n++) {
    const cell = randomCell({ kind: 'TIMESTAMP' }, random, { ordinary: true }) as bigint
    await check(`epoch_us('${cellText(cell, { kind: 'TIMESTAMP' })}'::TIMESTAMP)`, cell)
    await check(`epoch_us('${cellText(cell, { kind: 'TIMESTAMPTZ' })}'::TIMESTAMPTZ)`, cell)
    const nanos = randomCell({ kind: 'TIMESTAMP_NS' }, random, { ordinary: true }) as bigint
    await check(`epoch_ns('${cellText(nanos, { kind: 'TIMESTAMP_NS' })}'::TIMESTAMP_NS)`, nanos)
    const days = randomCell({ kind: 'DATE' }, random, { ordinary: true }) as number
    await check(`'${cellText(days, { kind: 'DATE' })}'::DATE - DATE '1970-01-01'`, BigInt(days))
    const units = randomCell({ kind: 'DECIMAL', width: 18, scale: 8 }, random) as bigint
    await check(
      `('${cellText(units, { kind: 'DECIMAL', width: 18, scale: 8 })}'::DECIMAL(18,8)::DECIMAL(38,8) * 100000000)::HUGEINT`,
      units,
    )
  }
  await check(
    `datediff('microsecond', TIMESTAMP '2000-01-01', TIMESTAMP '2000-01-01' + '${cellText({ months: 0, days: 2, micros: -3n }, { kind: 'INTERVAL' })}'::INTERVAL)`,
    2n * 86_400_000_000n - 3n,
  )
  const zoned = (
    await connection.runAndReadAll(
      `SELECT (TIMETZ '12:34:56.789+05:30')::VARCHAR, ('${cellText((45_296_789_000n << 24n) | (57_599n - 19_800n), { kind: 'TIMETZ' })}'::TIMETZ)::VARCHAR`,
    )
  ).getRows()[0]!
  assert.is(zoned[0], zoned[1])
  instance.closeSync()
})

test.run()
