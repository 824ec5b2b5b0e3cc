// beside: others
// The journal's disk fills up under a transaction that spills: it fails with 53100 and leaves nothing; smaller ones go on.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, TestEngine } from '../support/engine.ts'
import { canMount, SmallDisk } from './support/small-disk.ts'

const test = suite('full disk under a spill')
const name = 'a spill that does not fit fails its transaction alone, with 53100, and leaves nothing behind'

if (!canMount) test.skip(name)
else
  test(name, async () => {
    const journal = path.join(new SmallDisk('32m').directory, 'journal')
    const spills = () => fs.readdirSync(journal).filter((file) => file.endsWith('.dgs'))
    const engine = await TestEngine.start({ engine: [`journal_dir: ${journal}`] })
    try {
      const client = await engine.connect()
      await client.query('CREATE TABLE notes (id BIGINT PRIMARY KEY, note VARCHAR)')
      const fill = (from: number, count: number) =>
        client.query(`INSERT INTO notes SELECT i, repeat('n', 1000) || i FROM range(${from}, ${from + count}) r(i)`)
      assert.is(await codeOf(fill(0, 100_000)), '53100')
      assert.equal(spills(), [])
      await client.query('BEGIN')
      await fill(0, 10_000)
      assert.is(spills().length, 1)
      assert.is(await codeOf(fill(10_000, 100_000)), '53100')
      assert.is(await codeOf(client.query('COMMIT')), undefined)
      assert.equal(spills(), [])
      await fill(0, 10_000)
      await client.query("INSERT INTO notes VALUES (-1, 'small')")
      assert.is(spills().length, 1)
      await engine.restart()
      assert.equal(await engine.sql('SELECT count(*), min(id), max(id) FROM notes'), [['10001', '-1', '9999']])
      assert.equal(engine.control.hello.recovery.refused, [])
    } finally {
      await engine.kill()
    }
  })

test.run()
