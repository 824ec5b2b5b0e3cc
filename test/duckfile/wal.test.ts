// A WAL without a commit, as a checkpoint of the engine leaves it that was cut off, is told from one that holds something.

import fs from 'node:fs'
import path from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { holdsNoCommit } from '../../agent/duckfile/wal.ts'
import { checkpointNote } from '../fault/support/damage.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('DuckDB WAL')
const directory = temporaryDirectory('wal')

function judge(bytes: Buffer): boolean {
  const file = path.join(directory, 'some.wal')
  fs.writeFileSync(file, bytes)
  return holdsNoCommit(file)
}

test('a note of a checkpoint, an empty file and zeros hold no commit', () => {
  const header = checkpointNote.subarray(0, checkpointNote.indexOf('ffff', 'hex') + 2)
  for (const bytes of [checkpointNote, header, Buffer.alloc(0), Buffer.alloc(checkpointNote.length), Buffer.alloc(4096)])
    assert.ok(judge(bytes))
})

test('any other WAL may hold one: of one commit, cut short, damaged, or unknown', async () => {
  const database = path.join(directory, 'platform.duckdb')
  const instance = await DuckDBInstance.create(database)
  const connection = await instance.connect()
  await connection.run('CREATE SEQUENCE s')
  const wal = fs.readFileSync(`${database}.wal`)
  connection.closeSync()
  instance.closeSync()
  assert.ok(wal.length > 0)
  assert.not.ok(judge(wal))
  for (let length = wal.length - 1; length > 64; length--) assert.not.ok(judge(wal.subarray(0, length)), `${length} of ${wal.length} bytes`)
  assert.not.ok(judge(Buffer.concat([checkpointNote, wal.subarray(64)])))
  assert.not.ok(judge(checkpointNote.subarray(0, -1)), 'the rest of it is unknown')
  const damaged = Buffer.from(checkpointNote)
  damaged[2] = 0
  assert.not.ok(judge(damaged))
  assert.not.ok(judge(Buffer.alloc(4097)))
})

test.run()
