// Columns of numbers go to the wire without a value for each: in text, in binary and by COPY they are the same as DuckDB's own, in chunks with NULLs and with numbers too large for it.

import type pg from 'pg'
import { to as copyTo } from 'pg-copy-streams'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { bind, execute, parse, RawClient, startup, sync } from '../fixtures/wire.ts'
import { codeOf, type Row, rowsOf, TestEngine } from '../support/engine.ts'
import { seededRandom } from '../support/random.ts'

const test = suite('numbers on the wire')
const random = seededRandom('numbers on the wire')
/** Several of DuckDB's chunks. */
const count = 9_000
let engine: TestEngine
let client: pg.Client

/** Bounds of whole numbers, and the digits behind the point of those that have some. */
const types: Record<string, readonly [least: bigint, most: bigint, scale: number]> = {
  TINYINT: [-128n, 127n, 0],
  UTINYINT: [0n, 255n, 0],
  SMALLINT: [-32_768n, 32_767n, 0],
  USMALLINT: [0n, 65_535n, 0],
  INTEGER: [-(2n ** 31n), 2n ** 31n - 1n, 0],
  UINTEGER: [0n, 2n ** 32n - 1n, 0],
  BIGINT: [-(2n ** 63n), 2n ** 63n - 1n, 0],
  UBIGINT: [0n, 2n ** 64n - 1n, 0],
  'DECIMAL(4,1)': [-9_999n, 9_999n, 1],
  'DECIMAL(9,2)': [-999_999_999n, 999_999_999n, 2],
  'DECIMAL(18,8)': [-(10n ** 18n) + 1n, 10n ** 18n - 1n, 8],
  'DECIMAL(30,3)': [-(10n ** 30n) + 1n, 10n ** 30n - 1n, 3],
}

function anyWhole(least: bigint, most: bigint, large: boolean): bigint {
  const edges = [0n, 1n, -1n, 2n ** 53n - 1n, -(2n ** 53n) + 1n].concat(large ? [least, most, 2n ** 53n, -(2n ** 53n), 2n ** 53n + 1n] : [])
  const value = random.chance(0.2)
    ? random.pick(edges)
    : BigInt(random.int(-(2 ** 31), 2 ** 31)) * BigInt(random.pick([1, 1_000, 1_000_000]))
  return value < least ? least : value > most ? most : value
}

function decimal(value: bigint, scale: number): string {
  const digits = String(value < 0n ? -value : value).padStart(scale + 1, '0')
  const text = scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`
  return value < 0n ? `-${text}` : text
}

/** Times as Postgres prints them that have another form than most. DuckDB writes the era in brackets. */
const strangeTimes = ['infinity', '-infinity', '0044-03-15 00:00:00 BC', '10000-01-01 00:00:00', '99999-12-31 23:59:59.999999']
const edgesOfTime = [
  ...['0001-01-01 00:00:00', '0001-01-01 00:00:00.000001', '9999-12-31 23:59:59.999999', '1969-12-31 23:59:59.9'],
  ...['1970-01-01 00:00:00', '2000-02-29 12:00:00.05', '2099-09-09 09:09:09.09', '1582-10-10 10:10:10.10101'],
]

/** From 1901 to 2068; every second one stays on the day of the one before it. */
function anyTime(strange: boolean): string {
  if (random.chance(0.1)) return random.pick(strange ? [...edgesOfTime, ...strangeTimes] : edgesOfTime)
  const seconds = random.chance(0.5) ? random.int(-(2 ** 31), 2 ** 31) : random.int(0, 86_399)
  const fraction = random.chance(0.4) ? '' : `.${String(random.int(1, 999_999)).padStart(6, '0')}`
  return new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ') + fraction.replace(/0+$/, '')
}

const dayOf = (time: string) => (time.includes('infinity') ? time : time.replace(/ [\d:.]+/, ''))
const forDuckDB = (value: string) => value.replace(/^([\d-]+)(.*) BC$/, '$1 (BC)$2')

let expected: Row[]
const columns = ['id INTEGER', ...Object.keys(types).map((type, i) => `c${i} ${type}`), 't TIMESTAMP', 'day DATE', 'd DOUBLE']

test.before(async () => {
  engine = await TestEngine.start()
  client = await engine.connect()
  await client.query(`CREATE TABLE numbers (${columns})`)
  const doubles = [0, -0, 0.1, 1e21, 1e-7, Number.MAX_VALUE, Number.POSITIVE_INFINITY, Number.NaN]
  expected = Array.from({ length: count }, (_, id) => [
    String(id),
    // Only the first half of the rows has what no double holds.
    ...Object.values(types).map(([least, most, scale]) =>
      random.chance(id % 4_096 < 2_048 ? 0.1 : 0) ? null : decimal(anyWhole(least, most, id < count / 2), scale),
    ),
    random.chance(id % 4_096 < 2_048 ? 0.1 : 0) ? null : anyTime(id < count / 2),
    random.chance(0.1) ? null : dayOf(anyTime(true)),
    random.chance(0.1) ? null : String(random.chance(0.1) ? random.pick(doubles) : random.int(-1e9, 1e9) / 10 ** random.int(0, 9)),
  ])
  for (let from = 0; from < count; from += 3_000) {
    const rows = expected
      .slice(from, from + 3_000)
      .map((row) => `(${row.map((value) => (value === null ? 'NULL' : `'${forDuckDB(value)}'`))})`)
    await client.query(`INSERT INTO numbers VALUES ${rows}`)
  }
})
test.after(() => engine.kill())

/** The same, but for doubles, of which Postgres and JavaScript write some differently. */
function assertRows(rows: readonly Row[]): void {
  assert.is(rows.length, count)
  for (const [i, row] of rows.entries()) {
    const wanted = expected[i] as Row
    assert.equal(row.slice(0, -1), wanted.slice(0, -1))
    const [value, double] = [row.at(-1), wanted.at(-1)]
    assert.ok(value === null ? double === null : Object.is(Number(value), Number(double)), `${value} is not ${double}`)
  }
}

test('as text', async () => {
  assertRows(await rowsOf(client, 'SELECT * FROM numbers ORDER BY id'))
})

test('as text of a prepared statement', async () => {
  assertRows(await rowsOf(client, 'SELECT * FROM numbers WHERE id >= $1 ORDER BY id', [0]))
})

test('in binary', async () => {
  const raw = await RawClient.connect(engine.port)
  raw.send(startup({ user: 'trader', database: 'trade_data' }))
  await raw.until('Z')
  raw.send(parse('', 'SELECT * FROM numbers ORDER BY id'), bind('', '', [], [], [1]), execute(''), sync)
  const rows = (await raw.until('Z')).filter(({ type }) => type === 'D').map(({ body }) => fields(body))
  raw.destroy()
  assert.is(rows.length, count)
  for (const [i, row] of rows.entries()) {
    const wanted = expected[i] as Row
    for (const [at, read] of [
      [0, (bytes: Buffer) => String(bytes.readInt32BE())],
      [1, (bytes: Buffer) => String(bytes.readInt16BE())],
      [2, (bytes: Buffer) => String(bytes.readInt16BE())],
      [3, (bytes: Buffer) => String(bytes.readInt16BE())],
      [4, (bytes: Buffer) => String(bytes.readInt32BE())],
      [5, (bytes: Buffer) => String(bytes.readInt32BE())],
      [6, (bytes: Buffer) => String(bytes.readBigInt64BE())],
      [7, (bytes: Buffer) => String(bytes.readBigInt64BE())],
      [9, numeric],
      [10, numeric],
      [11, numeric],
    ] as const)
      assert.is(row[at] === null ? null : read(row[at] as Buffer), wanted[at])
    assert.is(row[13]?.readBigInt64BE() ?? null, wanted[13] === null ? null : microsOf(wanted[13] as string))
    assert.is(
      row[14] === null ? null : BigInt((row[14] as Buffer).readInt32BE()),
      wanted[14] === null ? null : daysOf(wanted[14] as string),
    )
    const double = row.at(-1)
    assert.ok(double === null ? wanted.at(-1) === null : Object.is(double?.readDoubleBE(), Number(wanted.at(-1))))
  }
})

/** Microseconds from 2000-01-01 on, as Postgres' binary form has them. */
function microsOf(time: string): bigint {
  if (time === 'infinity') return 2n ** 63n - 1n
  if (time === '-infinity') return -(2n ** 63n)
  const [year, month, day, hour = 0, minute = 0, second = 0] = time.split(/[^\d]+/).map(Number) as [number, number, number]
  const date = new Date(Date.UTC(2000, month - 1, day, hour, minute, second))
  date.setUTCFullYear(time.endsWith('BC') ? 1 - year : year, month - 1, day)
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? ''
  return BigInt(date.getTime() - Date.UTC(2000, 0, 1)) * 1000n + BigInt(fraction.padEnd(6, '0'))
}

function daysOf(date: string): bigint {
  if (date === 'infinity') return 2n ** 31n - 1n
  return date === '-infinity' ? -(2n ** 31n) : microsOf(date) / 86_400_000_000n
}

/** The values of a DataRow. */
function fields(body: Buffer): (Buffer | null)[] {
  let at = 2
  return Array.from({ length: body.readInt16BE(0) }, () => {
    const length = body.readInt32BE(at)
    at += 4 + Math.max(0, length)
    return length === -1 ? null : body.subarray(at - length, at)
  })
}

/** numeric_recv: base 10000. */
function numeric(bytes: Buffer): string {
  const [groups, weight, sign, scale] = [bytes.readInt16BE(0), bytes.readInt16BE(2), bytes.readUInt16BE(4), bytes.readInt16BE(6)]
  let value = 0n
  for (let i = 0; i < groups; i++) value += BigInt(bytes.readInt16BE(8 + 2 * i)) * 10n ** BigInt(4 * (weight - i) + 40)
  return decimal((sign === 0 ? value : -value) / 10n ** BigInt(40 - scale), scale)
}

test('by COPY', async () => {
  const chunks: Buffer[] = []
  for await (const chunk of client.query(copyTo('COPY (SELECT * FROM numbers ORDER BY id) TO STDOUT'))) chunks.push(chunk)
  const lines = Buffer.concat(chunks).toString().trimEnd().split('\n')
  assertRows(lines.map((line) => line.split('\t').map((value) => (value === '\\N' ? null : value))))
})

test('an error behind the first rows fails the statement, and nothing else', async () => {
  // Of the engine's own threads, of libuv's (a prepared statement that was quick the last time), and of those that write.
  const failing = "SELECT CASE WHEN i = $1 THEN error('enough') ELSE i::VARCHAR END FROM range(100000) r(i)"
  const message = async (work: Promise<unknown>) =>
    assert.match(((await work.catch((error: Error) => error)) as Error).message ?? 'no error', /enough/)
  for (const at of [-1, 90_000, -1, -1, 90_000]) {
    const running = client.query(failing, [at])
    if (at === -1) assert.is((await running).rowCount, 100_000)
    else await message(running)
    await message(client.query(failing.replace('$1', '90000')))
  }
  await client.query('BEGIN')
  await message(client.query(failing, [90_000]))
  assert.is(await codeOf(client.query('SELECT 1')), '25P02')
  await client.query('ROLLBACK')
  assert.equal(await rowsOf(client, 'SELECT 1'), [['1']])
})

test.run()
