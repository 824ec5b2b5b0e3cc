// deadline: 240s
import fs from 'node:fs'
import os from 'node:os'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Ledger } from '../../agent/demo/ledger.ts'
import { runChild } from '../support/process.ts'

const leftovers = () => fs.readdirSync(os.tmpdir()).filter((name) => name.startsWith('daemonguard-demo-'))

test('the demo from the sources: every fault is played, nothing acknowledged is lost or doubled, nothing stays behind', async () => {
  const before = leftovers()
  const { code, stdout, stderr } = await runChild(process.execPath, ['agent/main.ts', 'demo', '--json'], { deadline: 170_000 })
  const ledger = JSON.parse(stdout) as Ledger
  assert.equal(ledger.problems, [], stderr)
  assert.is(code, 0)
  assert.ok(ledger.ok)
  assert.ok(ledger.acknowledged > 1500)
  assert.is(ledger.found, ledger.acknowledged)
  assert.is(ledger.lost, 0)
  assert.is(ledger.duplicated, 0)
  assert.equal(
    ledger.faults.map(({ fault }) => fault),
    ['engine killed', 'agent killed', 'engine killed again', 'byte flipped'],
  )
  assert.ok(ledger.faults.every(({ recoveredMs }) => recoveredMs > 0 && recoveredMs < 30_000))
  assert.equal(leftovers(), before)
})

test.run()
