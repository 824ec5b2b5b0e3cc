// Which UPDATE is so small that the event loop may run it: one that could take for ever would hold up everybody, and nobody could cancel it.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { namedRow } from '../../agent/engine/affected-keys.ts'
import type { TableInfo } from '../../agent/engine/catalog.ts'
import type { Executor } from '../../agent/engine/executor.ts'
import { parseStatement } from '../../agent/engine/sql/statement.ts'
import { tokenize } from '../../agent/engine/sql/tokens.ts'

const test = suite('affected keys')

const columns = ['id', 'part', 'v', 'price'].map((name) => ({ name, type: { kind: 'INTEGER' }, sqlType: 'INTEGER', nullable: true }))

/** Whether it is run as a brief statement; undefined: it does not name its row at all. */
async function isBrief(sql: string, primaryKey = [0]): Promise<boolean | undefined> {
  const statement = parseStatement(sql, tokenize(sql))
  if (statement.kind !== 'update') throw new Error(`not an UPDATE: ${sql}`)
  let brief: boolean | undefined
  const executor = { run: async (_sql: string, _parameters: unknown, options: { brief?: boolean }) => (brief = options.brief) }
  const info = { table: { schema: 'main', name: 't', columns, primaryKey } } as unknown as TableInfo
  await namedRow(executor as unknown as Executor, statement, info, [])?.run('')
  return brief
}

test('arithmetic on the row that its key names is', async () => {
  for (const sql of [
    'UPDATE t SET v = v + $1, price = price * 2 - 1 WHERE id = $2',
    'UPDATE t SET v = v + CAST($1 AS DOUBLE) WHERE id = $2',
    "UPDATE t SET v = 'select [', price = 1.5::DECIMAL(18, 4) WHERE id = 7".replace('1.5', '15'),
    'UPDATE t SET v = CASE WHEN (v > 3 AND (price < 5 OR v IN (1, 2))) THEN (0) ELSE abs(coalesce(v, 1)) END WHERE id = $1',
    'UPDATE t SET v = now() WHERE t.id = $1',
  ])
    assert.is(await isBrief(sql), true, sql)
})

test('what could take for ever is not', async () => {
  for (const sql of [
    'UPDATE t SET v = (SELECT count(*) FROM huge) WHERE id = 1',
    'UPDATE t SET v = len(repeat($1, 1000000000)) WHERE id = 1',
    'UPDATE t SET v = main.forever() WHERE id = 1',
    'UPDATE t SET v = "abs"(1) + "forever"(1) WHERE id = 1',
    'UPDATE t SET v = [x FOR x IN big] WHERE id = 1',
    "UPDATE t SET v = {'a': 1} WHERE id = 1",
    'UPDATE t SET v = (TABLE huge) WHERE id = 1',
    'UPDATE t SET v = (VALUES (1)) WHERE id = 1',
  ])
    assert.is(await isBrief(sql), false, sql)
})

test('nor is one whose row is found by a scan, or that does not name a row', async () => {
  assert.is(await isBrief('UPDATE t SET v = 1 WHERE id = 1 AND part = 2', [0, 1]), false)
  assert.is(await isBrief('UPDATE t SET v = 1 WHERE id = 1.0'), false)
  assert.is(await isBrief('UPDATE t SET v = 1 WHERE id = 1e0'), false)
  assert.is(await isBrief('UPDATE t SET v = 1 WHERE v = 1'), undefined)
  assert.is(await isBrief('UPDATE t SET v = 1'), undefined)
})

test.run()
