// A bound parameter whose meaning the engine takes to be beyond doubt means just that to DuckDB: texts of every type, and typed values, into every other type.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { cellOf } from '../../agent/engine/certain-cells.ts'
import type { Connection, Database } from '../../agent/engine/duckdb.ts'
import type { Parameter } from '../../agent/engine/pgwire/backend.ts'
import { newDatabase } from '../support/database.ts'
import { seededRandom } from '../support/random.ts'
import { soak } from '../support/soak.ts'
import { castsOf, columnOf } from './support/casts.ts'
import { typedTexts } from './support/typed-texts.ts'

const test = suite('certain cells')
const random = seededRandom('certain cells')
const generated = typedTexts(random)
const count = soak ? 20_000 : 1_000
let database: Database
let connection: Connection

test.before(async () => {
  database = await newDatabase('d', { memoryLimit: 512e6 })
  connection = await database.connect()
  await connection.run("SET TimeZone = 'UTC'")
})
test.after(() => {
  connection.close()
  database.close()
})

for (const sqlType of generated.types) {
  test(`a text that is a ${sqlType} beyond doubt is that to DuckDB`, async () => {
    const column = await columnOf(connection, sqlType)
    const texts = Array.from({ length: count }, () => generated.any(sqlType))
    const cast = await castsOf(connection, texts, sqlType)
    let certain = 0
    for (const [i, text] of texts.entries()) {
      const cell = cellOf(column, text)
      if (cell === undefined) continue
      certain++
      assert.ok(Object.is(cell, cast[i]), `'${text}' is ${String(cell)}, of DuckDB ${String(cast[i])}`)
    }
    const castable = cast.filter((cell) => cell !== null).length
    process.stdout.write(`[${sqlType}: ${certain} of ${castable}] `)
    assert.ok(certain > castable * 0.4, `only ${certain} of ${castable} are certain`)
  })
}

/** Types that values have that come in binary (decoding.ts). */
const sent = [
  'BOOLEAN',
  'SMALLINT',
  'INTEGER',
  'BIGINT',
  'HUGEINT',
  'DECIMAL(18,8)',
  'DECIMAL(9,2)',
  'DECIMAL(4,0)',
  'FLOAT',
  'DOUBLE',
  'VARCHAR',
  'UUID',
  'DATE',
  'TIME',
  'TIMESTAMP',
  'TIMESTAMPTZ',
]
/** Of a value of the type of the column itself there is never any doubt. */
const isSame = (from: string, to: string) =>
  from === to || (from.startsWith('DECIMAL') && to === 'DECIMAL(18,8)' && from === 'DECIMAL(9,2)')

for (const from of sent) {
  test(`a ${from} of a binary driver that is another type's value beyond doubt is that to DuckDB`, async () => {
    const { type } = await columnOf(connection, from)
    const texts = Array.from({ length: 60 }, () => generated.any(from))
    const values = [
      ...(await castsOf(connection, texts, from)).filter((cell) => cell !== null),
      ...(from === 'DOUBLE' ? [Number.NaN, Number.POSITIVE_INFINITY, -0] : []),
    ]
    for (const to of generated.types) {
      const column = await columnOf(connection, to)
      const cast = await connection.prepare(`SELECT TRY_CAST($1::${from} AS ${to})`)
      for (const cell of values) {
        const parameter: Parameter = { type, cell }
        const certain = cellOf(column, parameter)
        if (isSame(from, to)) assert.ok(certain !== undefined, `of ${String(cell)}, a ${from}, nothing is certain as a ${to}`)
        if (certain === undefined) continue
        cast.bindCell(0, type, cell)
        const known = (await (await cast.run()).rest()).columns[0]?.[0]
        assert.ok(Object.is(certain, known), `${String(cell)}, a ${from}, as a ${to} is ${String(certain)}, of DuckDB ${String(known)}`)
      }
      cast.close()
    }
  })
}

test.run()
