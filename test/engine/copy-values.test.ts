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
import { castsOf, columnOf } from './support/casts.ts'
import { typedTexts } from './support/typed-texts.ts'

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

const generated = typedTexts(random)
/** The types that COPY reads by itself. */
const types = generated.types.filter((type) => !/^(FLOAT|TIME|UUID|JSON|ENUM.*|U?HUGEINT|VARCHAR)$/.test(type))

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

for (const type of types) {
  test(`${type}: what is read without DuckDB is what DuckDB reads`, async () => {
    const column = await columnOf(connection, type)
    const texts = Array.from({ length: count }, () => generated.any(type))
    const cast = await castsOf(connection, texts, type)

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
