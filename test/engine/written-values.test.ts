// Values that stand in the text of a statement: what is made of them without DuckDB is what DuckDB makes of them, alone, in a transaction, and in a group.

import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { parseStatement } from '../../agent/engine/sql/statement.ts'
import { tokenize } from '../../agent/engine/sql/tokens.ts'
import { withParameters } from '../../agent/engine/written-values.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { sourceCommand } from '../support/program.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { plainValues } from './support/plain-values.ts'
import { countOf, notingSteps } from './support/step-notes.ts'

const test = suite('written values')
const random = seededRandom('written values')
const notes = `${temporaryDirectory('notes')}/steps`
let engine: TestEngine
let clients: pg.Client[]

test.before(async () => {
  engine = await TestEngine.prepare()
  engine.program = sourceCommand()
  engine.env = notingSteps(notes, 'GROUP:')
  await engine.start()
  await connect()
})

test.after(() => engine.kill())

async function connect(): Promise<void> {
  clients = await Promise.all(Array.from({ length: 12 }, () => engine.connect()))
}

const read = (text: string) => withParameters(parseStatement(text, tokenize(text)))
const whole = (value: number | bigint) => ({ type: { kind: 'HUGEINT' }, cell: BigInt(value) })

test('each plain value becomes a parameter, and nothing else does', () => {
  assert.equal(read("insert into t values ( 1 , -2,'it''s', NULL , true) "), {
    text: 'insert into t values ( $1 , $2,$3, $4 , $5) ',
    parameters: [whole(1), whole(-2), "it's", null, { type: { kind: 'BOOLEAN' }, cell: true }],
  })
  assert.equal(read(`INSERT INTO s."t x" ("values", b) VALUES (0.50, -1e-07 /* , 3 */)`), {
    text: `INSERT INTO s."t x" ("values", b) VALUES ($1, $2 /* , 3 */)`,
    parameters: [
      { type: { kind: 'DECIMAL', width: 3, scale: 2 }, cell: 50n },
      { type: { kind: 'DOUBLE' }, cell: -1e-7 },
    ],
  })
  assert.equal(read("INSERT INTO t VALUES ('2021-01-08T13:37:00+05:30'::timestamptz, DATE '1970-01-02')")?.parameters, [
    { type: { kind: 'TIMESTAMPTZ' }, cell: 1_610_093_220_000_000n },
    { type: { kind: 'DATE' }, cell: 1 },
  ])
  assert.equal(read("UPDATE p AS x SET a = 1, b = b - -2, c = 'z' WHERE id = 3"), {
    text: 'UPDATE p AS x SET a = $1, b = b - $2, c = $3 WHERE id = $4',
    parameters: [whole(1), whole(-2), 'z', whole(3)],
  })
})

const others = [
  'INSERT INTO t VALUES (1), (2)',
  'INSERT INTO t VALUES (1, $1)',
  'INSERT INTO t VALUES (1 + 1)',
  'INSERT INTO t VALUES (now())',
  'INSERT INTO t VALUES (DEFAULT)',
  'INSERT INTO t VALUES (a)',
  'INSERT INTO t VALUES ()',
  'INSERT INTO t VALUES (1) RETURNING a',
  'INSERT INTO t SELECT 1',
  "INSERT INTO t VALUES (E'a')",
  'INSERT INTO t VALUES ($$a$$)',
  "INSERT INTO t VALUES ('1'::integer)",
  "INSERT INTO t VALUES ('2020-01-01' : : date)",
  `INSERT INTO t VALUES ("cast"('2020-01-01' AS date))`,
  "INSERT INTO t VALUES (CAST('2020-01-01' AS 'date'))",
  "UPDATE t SET a = b + '5' WHERE id = 1",
  "INSERT INTO t VALUES ('x'::date)",
  'INSERT INTO t VALUES (0x10)',
  'INSERT INTO t VALUES (1_000)',
  `INSERT INTO t VALUES (${'9'.repeat(39)})`,
  `INSERT INTO t VALUES ('${'x'.repeat(5_000)}')`,
  'UPDATE t SET a = 1',
  'UPDATE t SET a = b WHERE id = 1',
  'UPDATE t SET a = 1 WHERE id = 1 AND b = 2',
  'UPDATE t SET a = 1 WHERE id > 1',
  'UPDATE t SET (a, b) = (1, 2) WHERE id = 1',
  'DELETE FROM t WHERE id = 1',
  'SELECT 1',
]

test('of any other shape, and of any other value, DuckDB is told as it is written', () => {
  for (const text of others) assert.is(read(text), undefined, text)
})

const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`

/** What people and drivers write for a value of a type, right or wrong. */
function written(type: string): string {
  if (random.chance(0.1)) return 'NULL'
  const text = random.pick(plainValues[type] as readonly string[])
  const numbers = [
    '0',
    '-1',
    '7',
    '127',
    '-128',
    '70000',
    '2.5',
    '-0.50',
    '1.0',
    '0.1',
    '39432.48',
    '1e3',
    '-1.5e-7',
    '3.999999999',
    '123456789012345678901',
    '-0.0',
    '00012',
  ]
  const named = { DATE: 'date', TIME: 'time', TIMESTAMP: 'timestamp', TIMESTAMPTZ: 'timestamptz', UUID: 'uuid' }[type]
  return random.pick([
    () => quoted(text),
    () => quoted(text),
    () => random.pick(numbers),
    () => (/^-?\d+(\.\d+)?$/.test(text) ? text : quoted(text)),
    () =>
      named === undefined
        ? random.pick(['true', 'false'])
        : random.pick([`${quoted(text)}::${named}`, `${named.toUpperCase()} ${quoted(text)}`]),
    () => (random.chance(0.1) ? quoted(random.pick(['x', '', ' 1', '1e5', '2021-01-08'])) : quoted(text)),
  ])()
}

test('a value of any type that is written is the same to DuckDB, or refused as it is', async () => {
  const [first, second] = clients as [pg.Client, pg.Client]
  const types = Object.keys(plainValues)
  let same = 0
  for (const [i, type] of types.entries()) {
    const nullable = random.chance(0.5)
    for (const table of ['told', 'foreseen'])
      await engine.sql(`CREATE TABLE ${table}${i} (id INTEGER PRIMARY KEY, a ${type}, b ${type}${nullable ? '' : ' NOT NULL'})`)
    for (let id = 0; id < 40; id++) {
      const values = [id, written(type), written(type)].join(', ')
      // It answers with rows, and so is DuckDB's to run.
      const told = await codeOf(first.query(`INSERT INTO told${i} VALUES (${values}) RETURNING id`))
      const explicit = random.chance(0.3)
      if (explicit) await second.query('BEGIN')
      const code = await codeOf(second.query(`INSERT INTO foreseen${i} VALUES (${values})`))
      if (explicit) assert.is(await codeOf(second.query('COMMIT')), undefined)
      assert.is(code, told, `${type}: ${values}`)
      if (code === undefined) same++
    }
    for (let n = 0; n < 20; n++) {
      const [value, id] = [written(type), random.int(0, 40)]
      const told = await codeOf(first.query(`UPDATE told${i} SET a = ${value} WHERE id = ${id} AND true`))
      if (random.chance(0.5)) await second.query('BEGIN')
      assert.is(await codeOf(second.query(`UPDATE foreseen${i} SET a = ${value} WHERE id = ${id}`)), told, `${type}: ${value}`)
      await second.query('COMMIT')
    }
  }
  process.stdout.write(`[${same} rows] `)
  assert.ok(same > types.length * 15)
  const state = (table: string) =>
    Promise.all(types.map((_, i) => rowsOf(clients[0] as pg.Client, `SELECT * FROM ${table}${i} ORDER BY id`)))
  const told = await state('told')
  assert.equal(await state('foreseen'), told)
  await engine.restart()
  await connect()
  assert.equal(await state('foreseen'), told)
})

test('what many clients write in texts shares transactions of DuckDB’s; a sum, a wrong key and a table that is not there are told as ever', async () => {
  const [first] = clients as [pg.Client]
  await engine.sql('CREATE TABLE trades (id BIGINT PRIMARY KEY, symbol VARCHAR NOT NULL, price DECIMAL(18,8), quantity DOUBLE)')
  const before = countOf(notes, 'GROUP:COMMIT')
  await Promise.all(
    clients.map(async (client, i) => {
      for (let n = 0; n < 40; n++)
        await client.query(`INSERT INTO trades (id, symbol, price, quantity) VALUES (${n * 12 + i}, 'S${n}', ${n}.5, 0.${n + 1})`)
    }),
  )
  const groups = countOf(notes, 'GROUP:COMMIT') - before
  assert.ok(groups > 0 && groups < 400, `${groups} groups of 480 rows`)
  assert.equal(await rowsOf(first, 'SELECT count(*), sum(price), count(DISTINCT symbol) FROM trades'), [['480', '9600.00000000', '40']])
  assert.is(await codeOf(first.query("INSERT INTO trades VALUES (1, 'S', 1, 1)")), '23505')
  assert.is(await codeOf(first.query('INSERT INTO trades VALUES (1000, NULL, 1, 1)')), '23502')
  assert.is(await codeOf(first.query('INSERT INTO trades VALUES (1000, 1)')), '42601')
  assert.is(await codeOf(first.query('INSERT INTO nowhere VALUES (1, 2)')), '42P01')
  await first.query('BEGIN')
  await first.query("INSERT INTO trades VALUES (1000, 'S', 1, 1.5)")
  await first.query('UPDATE trades SET quantity = quantity + 0.25, price = -2 WHERE id = 1000')
  assert.equal(await rowsOf(first, 'SELECT price, quantity FROM trades WHERE id = 1000'), [['-2.00000000', '1.75']])
  await first.query('ROLLBACK')
  assert.equal(await rowsOf(first, 'SELECT count(*) FROM trades'), [['480']])
})

test('the schema changes between two of the same kind', async () => {
  const [first, second] = clients as [pg.Client, pg.Client]
  await first.query('CREATE TABLE changing (id INTEGER PRIMARY KEY, a INTEGER)')
  await first.query('INSERT INTO changing VALUES (1, 1)')
  await second.query('ALTER TABLE changing ALTER a TYPE VARCHAR')
  await first.query("INSERT INTO changing VALUES (2, 'x')")
  await second.query('ALTER TABLE changing ADD COLUMN b INTEGER DEFAULT 7')
  assert.is(await codeOf(first.query("INSERT INTO changing VALUES (3, 'x')")), '42601')
  await first.query("INSERT INTO changing (id, a) VALUES (3, 'y')")
  await second.query('DROP TABLE changing')
  assert.is(await codeOf(first.query("INSERT INTO changing (id, a) VALUES (4, 'y')")), '42P01')
  await first.query('CREATE TEMPORARY TABLE changing (id INTEGER, a VARCHAR)')
  await first.query("INSERT INTO changing (id, a) VALUES (4, 'y')")
  assert.equal(await rowsOf(first, 'SELECT * FROM changing'), [['4', 'y']])
  assert.is(await codeOf(second.query("INSERT INTO changing (id, a) VALUES (4, 'y')")), '42P01')
})

test.run()
