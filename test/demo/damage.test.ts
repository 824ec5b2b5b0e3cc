import fs from 'node:fs'
import path from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { flipByte } from '../../agent/demo/damage.ts'
import { scanFile } from '../../agent/duckfile/scan.ts'
import { temporaryDirectory } from '../support/temp.ts'

async function databaseWith(sql: string): Promise<string> {
  const file = path.join(temporaryDirectory(), 'x.duckdb')
  const instance = await DuckDBInstance.create(file)
  const connection = await instance.connect()
  await connection.run(sql)
  await connection.run('CHECKPOINT')
  connection.closeSync()
  instance.closeSync()
  return file
}

test('one bit is flipped, in a block that the scanner then names', async () => {
  const file = await databaseWith('CREATE TABLE t AS SELECT range AS id, random() AS r FROM range(200000)')
  const before = fs.readFileSync(file)
  assert.is((await scanFile(file)).verdict, 'clean')
  const damage = await flipByte(file, 1)
  const after = fs.readFileSync(file)
  const changed = [...after.keys()].filter((at) => after[at] !== before[at])
  assert.equal(changed, [damage?.offset])
  const scan = await scanFile(file)
  assert.is(scan.verdict, 'damaged')
  assert.ok(JSON.stringify(scan.damage).includes(String(damage?.block)))
})

test('a file without table data has nothing to flip', async () => {
  assert.is(await flipByte(await databaseWith('SELECT 1'), 0), null)
})

test.run()
