// Small calls of DuckDB on the event loop: they do what the same calls through the pool do, and only when nobody has to wait for them.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Connection, Database, PreparedStatement } from '../../agent/engine/duckdb.ts'
import { messageOf } from '../../agent/errors.ts'
import type { Cell, ColumnType } from '../../agent/journal/types.ts'
import { newDatabase } from '../support/database.ts'

const test = suite('calls')
let database: Database
let connection: Connection

test.before(async () => {
  database = await newDatabase('calls', { threads: 2 })
  connection = await database.connect()
  await connection.run('CREATE TABLE parent (id INTEGER PRIMARY KEY)')
  await connection.run(
    'CREATE TABLE t (id BIGINT PRIMARY KEY, parent INTEGER REFERENCES parent (id), v VARCHAR, traded_at TIMESTAMP, price DECIMAL(18,4))',
  )
  await connection.run('INSERT INTO parent SELECT range FROM range(10)')
})
test.after(() => {
  connection.close()
  database.close()
})

/** Counts what goes to the event loop while `work` runs. */
async function direct<T>(work: () => Promise<T>): Promise<{ calls: number; value: T }> {
  const { direct: real } = database.calls
  assert.ok(real, 'this Node and this DuckDB can be called directly')
  let calls = 0
  const { execute } = real
  real.execute = (statement, read) => {
    calls++
    return execute.call(real, statement, read) as never
  }
  try {
    return { value: await work(), calls }
  } finally {
    real.execute = execute
  }
}

const types: ColumnType[] = [
  { kind: 'BIGINT' },
  { kind: 'INTEGER' },
  { kind: 'VARCHAR' },
  { kind: 'TIMESTAMP' },
  { kind: 'DECIMAL', width: 18, scale: 4 },
]
const row = (id: bigint): Cell[] => [id, Number(id % 10n), `row ${id} \u{1f4b9}`, 1_610_113_020_278_000n + id, -12345n * id]

function bindAll(statement: PreparedStatement, cells: readonly Cell[]): void {
  for (const [i, cell] of cells.entries()) {
    if (cell === null) statement.bindNull(i)
    else statement.bindCell(i, types[i] as ColumnType, cell)
  }
}

test('what is written and read is the same on both ways', async () => {
  const insert = await connection.prepare('INSERT INTO t VALUES ($1, $2, $3, $4, $5)')
  const select = await connection.prepare('SELECT * FROM t WHERE id = $1')
  const { calls } = await direct(async () => {
    for (const id of [1n, 2n, 3n]) {
      bindAll(insert, id === 3n ? [id, null, null, null, null] : row(id))
      await insert.execute(true)
      select.bindCell(0, { kind: 'BIGINT' }, id)
      const brief = await select.runBriefly()
      const pooled = await select.run()
      assert.equal(brief.columns, pooled.columns)
      const rows = await brief.rest()
      assert.equal(rows, await pooled.rest())
      assert.equal(
        rows.columns.map(([cell]) => cell),
        id === 3n ? [3n, null, null, null, null] : row(id),
      )
    }
  })
  assert.is(calls, 6)
  select.bindCell(0, { kind: 'BIGINT' }, 99n)
  assert.equal(await (await select.runBriefly()).rest(), { count: 0, columns: [[], [], [], [], []] })
  const update = await connection.prepare('UPDATE t SET v = $1 WHERE id >= $2')
  update.bindText(0, 'x')
  update.bindCell(1, { kind: 'BIGINT' }, 2n)
  const changed = await update.runBriefly()
  assert.is(changed.rowsChanged, 2)
  assert.not(changed.hasRows)
  for (const statement of [insert, select, update]) statement.close()
})

test('rows are whole although the next call comes before they are read', async () => {
  const many = await connection.prepare("SELECT range AS i, repeat('x', 100) || range AS v FROM range($1)")
  many.bindCell(0, { kind: 'BIGINT' }, 5000n)
  const first = await many.runBriefly()
  many.bindCell(0, { kind: 'BIGINT' }, 3n)
  const second = await many.runBriefly()
  assert.is((await second.rest()).count, 3)
  const rows = await first.rest()
  assert.is(rows.count, 5000)
  assert.is(rows.columns[1]?.[4999], `${'x'.repeat(100)}4999`)
  many.close()
})

test('errors say the same, and leave the transaction as they do on the other way', async () => {
  const insert = await connection.prepare('INSERT INTO t VALUES ($1, $2, $3, $4, $5)')
  for (const cells of [row(1n), [50n, 77, null, null, null]]) {
    const told: string[] = []
    for (const alone of [true, false]) {
      bindAll(insert, cells)
      await insert.execute(alone).catch((error) => told.push(messageOf(error)))
    }
    assert.is(told.length, 2)
    assert.is(told[0], told[1])
    assert.match(told[0] ?? '', /Constraint Error/)
  }
  await connection.runBriefly('BEGIN TRANSACTION')
  bindAll(insert, row(1n))
  await insert.execute(true).catch(() => {})
  bindAll(insert, row(60n))
  const after = await insert.execute(true).catch(messageOf)
  assert.match(String(after), /aborted/)
  await connection.run('ROLLBACK')
  insert.close()
})

test('a second connection in the same turn, and whoever comes while a small call is in the pool, goes to the pool', async () => {
  const other = await database.connect()
  const [mine, theirs] = [await connection.prepare('SELECT 1'), await other.prepare('SELECT 2')]
  const together = await direct(() => Promise.all([mine.runBriefly(), theirs.runBriefly(), mine.runBriefly()]))
  assert.is(together.calls, 1, 'the first one')
  for (const result of together.value) assert.is((await result.rest()).count, 1)
  await new Promise((resolve) => setImmediate(resolve))
  const apart = await direct(async () => {
    await mine.runBriefly()
    await new Promise((resolve) => setImmediate(resolve))
    await theirs.runBriefly()
  })
  assert.is(apart.calls, 2)
  for (const statement of [mine, theirs]) statement.close()
  other.close()
})

test('nothing is called on the event loop beside what may hold DuckDB for long', async () => {
  const other = await database.connect()
  await other.runBriefly('BEGIN TRANSACTION')
  await other.run(
    'INSERT INTO t SELECT range + 1000, 0 FROM range(10)'.replace('SELECT range + 1000, 0', 'SELECT range + 1000, 0, NULL, NULL, NULL'),
  )
  const committed = other.runAlone('COMMIT')
  const { calls } = await direct(async () => {
    await connection.runBriefly('BEGIN TRANSACTION')
  })
  assert.is(calls, 0)
  await committed
  assert.is((await direct(() => connection.runBriefly('COMMIT'))).calls, 1)
  other.close()
})

test.run()
