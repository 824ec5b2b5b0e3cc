// COPY … FROM STDIN: rows whose values are read here and rows that DuckDB casts are the same rows, in the table and after a replay; an error leaves nothing.

import fs from 'node:fs'
import path from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { seededRandom } from '../support/random.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('COPY in')
const random = seededRandom('COPY in')
/** More than a block has. */
const many = 40_000
let engine: TestEngine

test.before(async () => {
  engine = await TestEngine.start()
  await engine.sql('CREATE TABLE parents (id INTEGER PRIMARY KEY)', 'INSERT INTO parents SELECT i FROM range(10) r(i)')
})
test.after(() => engine.kill())

async function copy(client: pg.Client, sql: string, lines: readonly (string | Buffer)[]): Promise<void> {
  // In pieces that end anywhere.
  const data = Buffer.concat(lines.map((line) => Buffer.from(line as string)))
  const pieces = function* () {
    for (let at = 0, size = 0; at < data.length; at += size) {
      size = random.int(1, 100_000)
      yield data.subarray(at, at + size)
    }
  }
  await pipeline(Readable.from(pieces()), client.query(copyFrom(sql)))
}

async function withClient<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await engine.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

async function copyInto(sql: string, lines: readonly (string | Buffer)[]): Promise<void> {
  await withClient((client) => copy(client, sql, lines))
}

const digest = (table: string) => engine.sql(`SELECT count(*), sum(hash(t))::VARCHAR FROM ${table} t`)

const spills = () => fs.readdirSync(path.join(engine.data, 'journal')).filter((name) => name.endsWith('.dgs'))

const columns = {
  id: 'BIGINT',
  small: 'SMALLINT',
  price: 'DECIMAL(18,8)',
  cents: 'DECIMAL(9,2)',
  quantity: 'DOUBLE',
  moment: 'TIMESTAMP',
  day: 'DATE',
  maker: 'BOOLEAN',
  note: 'VARCHAR',
  wide: 'DECIMAL(38,2)',
  document: 'JSON',
}

/** `odd`: also values that are DuckDB's to cast. */
function row(id: number, odd: boolean): (string | null)[] {
  const two = () => String(random.int(1, 28)).padStart(2, '0')
  const values: (string | null)[] = [
    String(random.int(-30_000, 30_000)),
    (random.float() * 1e6).toFixed(random.int(0, 8)),
    (random.float() * 1e4).toFixed(2),
    String(random.float() * 10 ** random.int(-6, 6)),
    `20${two()}-0${random.int(1, 9)}-${two()} ${two().replace('2', '1')}:00:00${random.pick(['', '.5', '.123456', odd ? '+01' : ''])}`,
    `19${two()}-0${random.int(1, 9)}-${two()}`,
    random.pick(odd ? ['yes', 'TRUE', 'f'] : ['t', 'f', 'true', 'false']),
    random.pick(['', 'short', 'a "quoted", text\twith\\more', 'größer als zwölf 🦆']),
    `${random.int(0, 1e9)}${random.int(0, 1e9)}.5`,
    '{"a": [1, 2]}',
  ]
  return [String(id), ...values.map((value) => (random.chance(0.05) ? null : value))]
}

const asText = (values: readonly (string | null)[]) =>
  `${values.map((value) => (value === null ? '\\N' : value.replaceAll('\\', '\\\\').replaceAll('\t', '\\t'))).join('\t')}\n`
const asCsv = (values: readonly (string | null)[]) =>
  `${values.map((value) => (value === null ? '' : `"${value.replaceAll('"', '""')}"`)).join(',')}\n`

for (const [format, spell] of [
  ['text', asText],
  ['csv', asCsv],
] as const) {
  test(`${format}: the rows are what DuckDB's casts make of their texts, block by block`, async () => {
    const names = Object.keys(columns)
    // The first block is read here but for two columns; DuckDB casts more of the second.
    const lines = Array.from({ length: many }, (_, id) => spell(row(id, id === many - 1 || random.chance(id > 38_000 ? 0.5 : 0))))
    await engine.sql(
      `CREATE TABLE copied_${format} (${Object.entries(columns).map(([name, type]) => `${name} ${type}${name === 'id' ? ' PRIMARY KEY' : ''}`)})`,
      `CREATE TABLE texts_${format} (${names.map((name) => `${name} VARCHAR`)})`,
    )
    await copyInto(`COPY copied_${format} FROM STDIN (FORMAT ${format})`, lines)
    await copyInto(`COPY texts_${format} FROM STDIN (FORMAT ${format})`, lines)
    const cast = `SELECT ${Object.entries(columns).map(([name, type]) => `${name}::${type}`)} FROM texts_${format}`
    assert.equal(await engine.sql(`(FROM copied_${format} EXCEPT ${cast}) UNION ALL (${cast} EXCEPT FROM copied_${format})`), [])
    assert.equal(await engine.sql(`SELECT count(*) FROM copied_${format}`), [[String(many)]])
  })
}

test('columns that are not given get their defaults, generated ones their values, others NULL', async () => {
  await engine.sql(
    'CREATE SEQUENCE numbers',
    'CREATE TABLE plain (id INTEGER PRIMARY KEY, a VARCHAR, b DOUBLE, twice INTEGER GENERATED ALWAYS AS (id * 2), c VARCHAR)',
    `CREATE TABLE nested (list INTEGER[], id INTEGER PRIMARY KEY, pair VARCHAR[2], record STRUCT(a INTEGER, b MAP(VARCHAR, DOUBLE[])), map MAP(VARCHAR, TIMESTAMP),
      either UNION(n INTEGER, t VARCHAR), mood ENUM('bull', 'bear'), huge HUGEINT, id16 UUID, span INTERVAL, bits BIT, bytes BLOB, note VARCHAR)`,
    "CREATE TABLE defaulted (id INTEGER PRIMARY KEY, a VARCHAR DEFAULT 'made', n BIGINT DEFAULT nextval('numbers'), b DOUBLE)",
  )
  await copyInto('COPY plain (c, id) FROM STDIN', ['x\t1\n', '\\N\t2\n'])
  await copyInto('COPY nested (note, id) FROM STDIN', ['x\t1\n', '\\N\t2\n'])
  await copyInto('COPY defaulted (b, id) FROM STDIN', ['0.5\t1\n', '1e2\t2\n'])
  assert.equal(await engine.sql('SELECT * FROM plain ORDER BY id'), [
    ['1', null, null, '2', 'x'],
    ['2', null, null, '4', null],
  ])
  assert.equal(await engine.sql('SELECT * FROM defaulted ORDER BY id'), [
    ['1', 'made', '1', '0.5'],
    ['2', 'made', '2', '100'],
  ])
})

test('known rows, cast rows and other statements of one transaction stay in order', async () => {
  await engine.sql('CREATE TABLE mixed (id INTEGER PRIMARY KEY, moment TIMESTAMP)')
  await withClient(async (client) => {
    await client.query('BEGIN')
    await client.query("INSERT INTO mixed VALUES (-1, '2021-01-01')")
    await copy(client, 'COPY mixed FROM STDIN', ['1\t2021-01-08 13:37:00.278\n', '2\t2021-01-08 13:37:01\n'])
    await copy(client, 'COPY mixed FROM STDIN', ['3\t2021-01-08\n', '4\t2021-01-08 1:2:3\n'])
    await client.query('UPDATE mixed SET id = id + 100 WHERE id IN (1, 3)')
    await client.query('DELETE FROM mixed WHERE id = 2')
    await copy(client, 'COPY mixed FROM STDIN', ['2\t\\N\n', '1\t2021-01-08T00:00:00\n'])
    await client.query('COMMIT')
  })
  assert.equal(await engine.sql('SELECT * FROM mixed ORDER BY id'), [
    ['-1', '2021-01-01 00:00:00'],
    ['1', '2021-01-08 00:00:00'],
    ['2', null],
    ['4', '2021-01-08 01:02:03'],
    ['101', '2021-01-08 13:37:00.278'],
    ['103', '2021-01-08 00:00:00'],
  ])
})

const known = (id: number | string, parent = '1', note = 'x'.repeat(50)) => `${id},${parent},0.5,${note}\n`
const rows = Array.from({ length: many }, (_, i) => known(i))

for (const [what, lines, code, message, detail] of [
  [
    'a duplicate key in the first block, before a bad line in the second',
    [known(0), ...rows, 'lonely\n'],
    '23505',
    /Duplicate key/i,
    undefined,
  ],
  ['a bad line in the second block', [...rows, 'lonely\n', known(0)], '22P04', /missing data: 1 of 4 columns/, `COPY, line ${many + 1}`],
  ['a value in the second block that is none', [...rows, known('7x')], '22P02', /Could not convert string '7x' to INT64/, undefined],
  ['a NULL where none may be', [...rows, known('-1', '')], '23502', /NOT NULL constraint failed: broken.parent/, undefined],
  ['a child without a parent', [...rows, known('-1', '77')], '23503', /does not exist in the referenced table/, undefined],
  ['a number that is too large', [...rows, known('-1', '3000000000')], '22P02', /out of range|Could not convert/, undefined],
  [
    'what is no text',
    [...rows, known(-1), Buffer.from('7,1,1,\xc3(\n', 'latin1')],
    '22021',
    /invalid byte sequence/,
    `COPY, line ${many + 2}`,
  ],
] as const) {
  test(`${what}: ${code}, and nothing is left`, async () => {
    await engine.sql(
      'DROP TABLE IF EXISTS broken',
      'CREATE TABLE broken (id BIGINT PRIMARY KEY, parent INTEGER NOT NULL REFERENCES parents (id), quantity DOUBLE, note VARCHAR)',
    )
    const failure = await copyInto('COPY broken FROM STDIN (FORMAT csv)', lines).then(
      () => undefined,
      (error: pg.DatabaseError) => error,
    )
    assert.is(failure?.code, code)
    assert.match(failure?.message ?? '', message)
    assert.is(failure?.detail, detail)
    assert.equal(await engine.sql('SELECT count(*) FROM broken'), [['0']])
  })
}

test('a client that gives up while blocks are being inserted leaves nothing, and its connection goes on', async () => {
  await engine.sql(
    'CREATE TABLE given_up (id BIGINT PRIMARY KEY, parent INTEGER NOT NULL REFERENCES parents (id), quantity DOUBLE, note VARCHAR)',
  )
  await withClient(async (client) => {
    const before = spills()
    const stream = client.query(copyFrom('COPY given_up FROM STDIN (FORMAT csv)'))
    const failed = new Promise<Error>((resolve) => stream.on('error', resolve))
    for (let id = 0; id < many; id++) stream.write(known(id, '1', 'x'.repeat(300)))
    await waitFor('it spills', () => spills().length > before.length, { deadline: 60_000, every: 1 })
    stream.destroy(new Error('given up'))
    await failed
    assert.is(await codeOf(client.query('SELECT 1')), undefined)
    assert.equal(await rowsOf(client, 'SELECT count(*) FROM given_up'), [['0']])
    assert.equal(spills(), before)
  })
})

test('what is in the tables now is there after SIGKILL and a replay of the journal', async () => {
  const tables = ['copied_text', 'texts_text', 'copied_csv', 'texts_csv', 'plain', 'nested', 'defaulted', 'mixed']
  const live = await Promise.all(tables.map(digest))
  await engine.restart()
  assert.equal(engine.control.hello.recovery.refused, [])
  assert.equal(await Promise.all(tables.map(digest)), live)
})

test.run()
