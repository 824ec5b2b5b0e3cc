// What COPY reads of text by itself is bit for bit what DuckDB's own casts make of it: random texts of each type, in common and in odd forms, go both ways.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { copyReader } from '../../agent/engine/copy-blocks.ts'
import type { Connection, Database } from '../../agent/engine/duckdb.ts'
import { ByteReader, ByteWriter } from '../../agent/journal/bytes.ts'
import { decodeColumn } from '../../agent/journal/cells.ts'
import { encodePacked, type PackedColumn } from '../../agent/journal/packed.ts'
import type { Cell, Column, ColumnType } from '../../agent/journal/types.ts'
import { newDatabase } from '../support/database.ts'
import { seededRandom } from '../support/random.ts'
import { soak } from '../support/soak.ts'

const test = suite('copied values')
const random = seededRandom('copied values')
const count = soak ? 20_000 : 2_000
let database: Database
let connection: Connection

test.before(async () => {
  database = await newDatabase('d', { memoryLimit: 512e6 })
  connection = await database.connect()
})
test.after(() => {
  connection.close()
  database.close()
})

const digits = (least: number, most: number) => Array.from({ length: random.int(least, most) }, () => random.int(0, 9)).join('')
const sign = () => (random.chance(0.3) ? '-' : '')
const two = (low: number, high: number) => String(random.int(low, high)).padStart(2, '0')
const year = () => (random.chance(0.7) ? String(random.int(1960, 2060)) : String(random.int(0, 12_000)).padStart(4, '0'))
const day = () => `${year()}-${two(0, 13)}-${two(random.chance(0.2) ? 28 : 0, 32)}`
const time = () => `${two(0, 24)}:${two(0, 60)}:${two(0, 60)}`
const fraction = () => (random.chance(0.6) ? `.${digits(1, 7)}` : '')
const zone = () => random.pick(['Z', '+00', '-03', '+05:30', '-0330', '+14', '+15:59', ' UTC', '+1', '+24:00'])
const whole = (most: number) => sign() + digits(1, most)
const point = (before: number, after: number) => `${sign()}${digits(0, before)}.${digits(0, after)}`

/** Texts that a writer of the type gives, and those near them. */
const common: Record<string, () => string> = {
  BOOLEAN: () => random.pick(['t', 'f', 'true', 'false', 'True', 'FALSE', '1', '0', 'yes', 'tru', 'trues']),
  TINYINT: () => whole(3),
  SMALLINT: () => whole(5),
  INTEGER: () => random.pick([() => whole(10), () => `${sign()}214748364${digits(1, 1)}`])(),
  BIGINT: () => random.pick([() => whole(15), () => whole(20), () => `${sign()}922337203685477580${digits(1, 1)}`])(),
  UTINYINT: () => whole(3),
  USMALLINT: () => whole(5),
  UINTEGER: () => whole(10),
  UBIGINT: () => random.pick([() => whole(20), () => `1844674407370955161${digits(1, 1)}`])(),
  DOUBLE: () =>
    random.pick([
      () => String((random.float() - 0.5) * 10 ** random.int(-8, 20)),
      () => (random.float() * 1e6).toFixed(random.int(0, 10)),
      () => point(12, 12),
      () => point(18, 18),
      () => `${point(3, 6)}e${sign()}${digits(1, 3)}`,
      () => whole(18),
    ])(),
  'DECIMAL(18,8)': () => random.pick([() => point(7, 8), () => point(12, 10), () => whole(11), () => (random.float() * 1e5).toFixed(8)])(),
  'DECIMAL(9,2)': () => random.pick([() => point(7, 2), () => point(8, 3), () => whole(9)])(),
  'DECIMAL(4,0)': () => whole(5),
  'DECIMAL(18,18)': () => `0${point(0, 19)}`,
  DATE: day,
  TIMESTAMP: () => random.pick([() => `${day()} ${time()}${fraction()}`, () => `${day()}T${time()}`, day, () => `${day()} ${time()}Z`])(),
  TIMESTAMPTZ: () => `${day()} ${time()}${fraction()}${zone()}`,
}
const odd = ['', ' ', '-', '.', '+1', ' 1', '1 ', '1_000', '0x10', '١', 'ü', 'NaN', 'inf', '-Infinity', 'null', '1e5', '1.', '.5', '--1']

function anyText(type: string): string {
  const text = random.chance(0.05) ? random.pick(odd) : (common[type] as () => string)()
  if (text.length === 0 || random.chance(0.95)) return text
  // One letter of it is another.
  const at = random.int(0, text.length - 1)
  return text.slice(0, at) + random.pick(['0', '-', '.', ':', ' ', 'T', 'e', '+', 'x']) + text.slice(at + 1)
}

/** Fields of csv, each of which is its text: quoted, since an empty one would be NULL. */
const csv = (texts: readonly (string | null)[]) => Buffer.from(texts.map((text) => (text === null ? '\n' : `"${text}"\n`)).join(''))

function read(column: Column, texts: readonly (string | null)[]): PackedColumn | undefined {
  const reader = copyReader({ format: 'csv' }, [column])
  reader.push(csv(texts))
  reader.push(null)
  return reader.take().columns[0]?.known
}

function journaled(column: PackedColumn, type: ColumnType, rows: number): Cell[] {
  const out = new ByteWriter()
  encodePacked(out, column, 0, rows)
  return decodeColumn(new ByteReader(out.bytes()), type, rows)
}

for (const type of Object.keys(common)) {
  test(`${type}: what is read without DuckDB is what DuckDB reads`, async () => {
    const probe = await connection.prepare(`SELECT NULL::${type}`)
    const column: Column = { name: 'c', type: probe.columns()[0]?.type as ColumnType, sqlType: type, nullable: true }
    probe.close()
    const texts = Array.from({ length: count }, () => anyText(type))
    await connection.run('CREATE OR REPLACE TEMPORARY TABLE texts (i INTEGER, t VARCHAR)')
    await connection.append('main', 'texts', 'temp', { count, columns: [texts.map((_, i) => i), texts] })
    const cast = (await connection.all(`SELECT TRY_CAST(t AS ${type}) FROM temp.texts ORDER BY i`)).map(([cell]) => cell as Cell)

    const known = texts.map((text) => read(column, [text]))
    let castable = 0
    let right = 0
    for (const [i, packed] of known.entries()) {
      if (cast[i] !== null) castable++
      if (packed === undefined) continue
      right++
      const [cell] = journaled(packed, column.type, 1)
      assert.ok(Object.is(cell, cast[i]), `'${texts[i]}' is ${String(cell)}, of DuckDB ${String(cast[i])}`)
    }
    process.stdout.write(`[${type}: ${right} of ${castable}] `)
    assert.ok(right > castable * 0.4 && right > count / 10, `only ${right} of ${castable} were read without DuckDB`)

    // All of them in one block, with NULLs between them, as the journal and as DuckDB gets them.
    const plain = texts.filter((_, i) => known[i] !== undefined)
    const expected = cast.filter((_, i) => known[i] !== undefined)
    const mixed = plain.flatMap((text) => (random.chance(0.1) ? [null, text] : [text]))
    const block = copyReader({ format: 'csv' }, [column])
    block.push(csv(mixed))
    block.push(null)
    const taken = block.take()
    const [only] = taken.columns
    assert.equal(
      journaled(only?.known as PackedColumn, column.type, mixed.length).filter((cell) => cell !== null),
      expected,
    )
    await connection.run(`CREATE OR REPLACE TEMPORARY TABLE staged (v ${only?.stagedType}, i INTEGER)`)
    const appender = await connection.appender('main', 'staged', 'temp')
    appender.appendStaged({ count: taken.count, columns: [only!.values, mixed.map((_, i) => i)] })
    appender.flush()
    appender.close()
    const stored = (await connection.all(`SELECT v::${type} FROM temp.staged ORDER BY i`)).map(([cell]) => cell as Cell)
    assert.is(stored.filter((cell) => cell === null).length, mixed.length - plain.length)
    assert.equal(
      stored.filter((cell) => cell !== null),
      expected,
    )
  })
}

test('texts of any length go into DuckDB and the journal as they are', async () => {
  const letters = ['a', 'Z', '0', ' ', 'ü', '🦆', '"', '\\', '\n']
  const text = () =>
    random.chance(0.1) ? null : Array.from({ length: random.int(0, random.chance(0.2) ? 200 : 16) }, () => random.pick(letters)).join('')
  const texts = Array.from({ length: 5_000 }, text)
  const reader = copyReader({ format: 'csv' }, [{ name: 'c', type: { kind: 'VARCHAR' }, sqlType: 'VARCHAR', nullable: true }])
  reader.push(Buffer.from(texts.map((value) => (value === null ? '\n' : `"${value.replaceAll('"', '""')}"\n`)).join('')))
  reader.push(null)
  const block = reader.take()
  assert.equal(journaled(block.columns[0]?.known as PackedColumn, { kind: 'VARCHAR' }, texts.length), texts)
  await connection.run('CREATE OR REPLACE TEMPORARY TABLE staged (v VARCHAR, i INTEGER)')
  const appender = await connection.appender('main', 'staged', 'temp')
  appender.appendStaged({ count: block.count, columns: [block.columns[0]!.values, texts.map((_, i) => i)] })
  appender.flush()
  appender.close()
  assert.equal(
    (await connection.all('SELECT v FROM temp.staged ORDER BY i')).map(([value]) => value),
    texts,
  )
})

test.run()
