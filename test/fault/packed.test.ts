// deadline: 400s
/** An essential part of the fault suite once more, with the packed executable as agent and engine. All of it: `npm test -- --binary`. */

import path from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { builtExecutable } from '../build/built.ts'
import { runChild } from '../support/process.ts'
import { binaryVariable } from '../support/program.ts'

const essential = ['fault/restart-time', 'fault/agent-kill', 'fault/flipped-byte', 'engine/analysts']

test('the packed executable, killed and damaged like the sources, survives as they do', async () => {
  // Run by --binary itself, these files have their own turn.
  if (process.env[binaryVariable] !== undefined) return
  await builtExecutable()
  const run = path.resolve('test/run.ts')
  const { code, stdout, stderr } = await runChild(process.execPath, [run, '--binary', ...essential], { deadline: 300_000 })
  process.stdout.write(stdout)
  assert.is(code, 0, stderr)
  for (const name of essential) assert.match(stdout, new RegExp(`^ok   .*${name}`, 'm'))
})

test.run()
