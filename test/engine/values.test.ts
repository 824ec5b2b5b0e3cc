// Values of every type go into DuckDB as cells, and come back as the same cells (R6): on the way to the journal, and back out of it in a replay.

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Connection, Database } from '../../agent/engine/duckdb.ts'
import { duckdbType } from '../../agent/engine/duckdb-values.ts'
import { ByteReader, ByteWriter } from '../../agent/journal/bytes.ts'
import { decodeColumn, encodeColumn } from '../../agent/journal/cells.ts'
import type { Cell, ColumnType } from '../../agent/journal/types.ts'
import { nestedTypes, randomCell, scalarTypes } from '../fixtures/cells.ts'
import { newDatabase } from '../support/database.ts'
import { seededRandom } from '../support/random.ts'
import { soak } from '../support/soak.ts'

const test = suite('values')
const random = seededRandom('values')
let database: Database
let connection: Connection

test.before(async () => {
  database = await newDatabase('values')
  connection = await database.connect()
})
test.after(() => {
  connection.close()
  database.close()
})

const name = fc.constantFrom('a', 'b c', 'quote"s', "it's", 'constructor', 'ünï', '0', 'select')
const named = (type: fc.Arbitrary<ColumnType>) =>
  fc.uniqueArray(fc.tuple(name, type), { minLength: 1, maxLength: 4, selector: ([field]) => field })
/** What a table can have as a column's type. */
const anyType: fc.Arbitrary<ColumnType> = fc.letrec<{ type: ColumnType }>((tie) => ({
  type: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom<ColumnType>(...scalarTypes),
    tie('type').map((child): ColumnType => ({ kind: 'LIST', child })),
    fc.tuple(tie('type'), fc.integer({ min: 1, max: 5 })).map(([child, size]): ColumnType => ({ kind: 'ARRAY', child, size })),
    named(tie('type')).map((fields): ColumnType => ({ kind: 'STRUCT', fields })),
    fc.tuple(fc.constantFrom<ColumnType>(...scalarTypes), tie('type')).map(([key, value]): ColumnType => ({ kind: 'MAP', key, value })),
    named(tie('type')).map((members): ColumnType => ({ kind: 'UNION', members })),
  ),
})).type

/** As text that tells -0 from 0, and one kind of cell from another. */
function textOf(cells: readonly Cell[]): string {
  return JSON.stringify(cells, (_key, value) => {
    if (typeof value === 'bigint') return `${value}n`
    if (value instanceof Uint8Array || value?.type === 'Buffer') return `bytes ${Buffer.from(value.data ?? value).toString('hex')}`
    return typeof value === 'number' && (Object.is(value, -0) || !Number.isFinite(value))
      ? `${Object.is(value, -0) ? '-' : ''}${value}`
      : value
  })
}

async function assertCarried(type: ColumnType, count: number, nulls: number): Promise<void> {
  const cells = Array.from({ length: count }, () => (random.chance(nulls) ? null : randomCell(type, random)))
  const sql = String(duckdbType(type))
  await connection.run(`CREATE OR REPLACE TABLE t (i INTEGER, v ${sql})`)
  await connection.append('main', 't', 'values', { count, columns: [cells.map((_, i) => i), cells] })
  const found = (await connection.all('SELECT v FROM t ORDER BY i')).map(([cell]) => cell as Cell)
  assert.is(textOf(found), textOf(cells), sql)
  const bytes = new ByteWriter(16)
  encodeColumn(bytes, type, found)
  assert.is(textOf(decodeColumn(new ByteReader(bytes.bytes()), type, count)), textOf(cells), `${sql}, through the journal`)
}

test('every scalar type, and the usual nested ones', async () => {
  // Fields without a name, or named like this, cannot be columns of a table.
  const possible = nestedTypes.filter(
    (type) => type.kind !== 'STRUCT' || type.fields.every(([field]) => !['', '__proto__'].includes(field)),
  )
  for (const type of [...scalarTypes, ...possible]) for (const nulls of [0, 0.3, 1]) await assertCarried(type, 60, nulls)
})

test('any type tree', () =>
  fc.assert(
    fc.asyncProperty(anyType, fc.integer({ min: 0, max: 20 }), fc.constantFrom(0, 0.3), (type, count, nulls) =>
      assertCarried(type, count, nulls),
    ),
    { seed: random.seed, numRuns: soak ? 20_000 : 200 },
  ))

test.run()
