/** An agent and an engine of different versions: adopted where they understand each other, drained and replaced where not. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { waitFor } from '../support/wait.ts'
import { fixture, supervise } from './fixture.ts'

const running: ReturnType<typeof supervise>[] = []

test.after(async () => {
  for (const { supervisor } of running) await supervisor.stopEngine({ checkpoint: false })
  for (const { supervisor } of running) await supervisor.stop()
})

/** Starts an engine without an agent, then an agent whose own engine is `healthy`. */
async function meet(program: string) {
  const it = supervise({ engines: [['healthy']] })
  running.push(it)
  const { command, args } = fixture([program], it.paths.data)
  const child = spawn(command, args)
  const ended = once(child, 'exit')
  await waitFor('the other engine serves', () => fs.existsSync(it.paths.engineFile))
  await it.supervisor.start()
  await waitFor('an engine serves', () => it.supervisor.status().state === 'up')
  return { it, pid: child.pid, ended }
}

test('an engine that speaks the control protocol of another version ends in order, and one of ours takes its place', async () => {
  const { it, pid, ended } = await meet('other-protocol')
  assert.is.not(it.supervisor.status().pid, pid)
  assert.equal(await ended, [0, null])
  assert.equal(it.started, ['healthy'])
})

test('an engine that speaks ours is adopted, whatever its version', async () => {
  const { it, pid } = await meet('healthy')
  assert.is(it.supervisor.current?.hello.version, '0.0.0')
  assert.is(it.supervisor.status().pid, pid)
  assert.equal(it.started, [])
})

test.run()
