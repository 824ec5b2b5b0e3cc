import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type AgentControl, askAgent, NoAgent, serveAgentControl } from '../../agent/agent-control.ts'
import { waitUntil } from '../../agent/clock.ts'
import { DaemonGuardError } from '../../agent/errors.ts'
import { silentLog } from '../../agent/log.ts'

const test = suite('agent control')
let directory: string
let file: string
let control: AgentControl | undefined

test.before.each(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'dg-ctl-'))
  file = path.join(directory, 'agent.sock')
})
test.after.each(async () => {
  await control?.stop()
  control = undefined
  fs.rmSync(directory, { recursive: true, force: true })
})

async function rejection(promise: Promise<unknown>): Promise<DaemonGuardError> {
  try {
    await promise
  } catch (error) {
    return error as DaemonGuardError
  }
  throw new Error('it did not reject')
}

test('a request is answered with its result, bigints as strings', async () => {
  control = await serveAgentControl(file, { add: async ({ a, b }) => ({ sum: Number(a) + Number(b), big: 12n }) }, silentLog)
  assert.equal(await askAgent(file, 'add', { a: 1, b: 2 }), { sum: 3, big: '12' })
})

test('only the owner may open the socket', async () => {
  control = await serveAgentControl(file, {}, silentLog)
  assert.is(fs.statSync(file).mode & 0o777, 0o600)
})

test('an error keeps its message, place, hint and exit code on the way', async () => {
  const handlers = {
    async fail() {
      throw new DaemonGuardError('it failed', { where: 'here', hint: 'do that', exitCode: 3 })
    },
  }
  control = await serveAgentControl(file, handlers, silentLog)
  const error = await rejection(askAgent(file, 'fail'))
  assert.is(error.describe(), 'it failed (here)\n  hint: do that')
  assert.is(error.exitCode, 3)
})

test('an unknown method and a line that is no JSON are answered with an error', async () => {
  control = await serveAgentControl(file, {}, silentLog)
  assert.match((await rejection(askAgent(file, 'toString'))).message, 'does not know "toString"')
  const socket = net.connect(file)
  const line = await new Promise<string>((resolve) => {
    socket.once('data', (data) => resolve(data.toString()))
    socket.write('no json\n')
  })
  socket.destroy()
  assert.ok(JSON.parse(line).error.message)
})

test('without an agent the asker learns so and what to type, with exit code 3', async () => {
  const error = await rejection(askAgent(file, 'status'))
  assert.instance(error, NoAgent)
  assert.is(error.hint, 'daemonguard run')
  assert.is(error.exitCode, 3)
})

test('the socket of a dead agent is replaced', async () => {
  const stale = net.createServer().listen(file)
  await new Promise((resolve) => stale.once('listening', resolve))
  fs.renameSync(file, `${file}.kept`)
  stale.close()
  fs.writeFileSync(file, '')
  control = await serveAgentControl(file, { ping: async () => 'pong' }, silentLog)
  assert.is(await askAgent(file, 'ping'), 'pong')
})

test('an asker that goes away aborts its work', async () => {
  let started = false
  let aborted = false
  const handlers = {
    wait: (_params: unknown, signal: AbortSignal) =>
      new Promise((resolve) => {
        started = true
        signal.addEventListener('abort', () => {
          aborted = true
          resolve(null)
        })
      }),
  }
  control = await serveAgentControl(file, handlers, silentLog)
  const error = await rejection(askAgent(file, 'wait', {}, { timeoutMs: 100 }))
  assert.match(error.message, 'within 100 ms')
  assert.ok(started)
  assert.ok(await waitUntil(() => aborted, { deadline: 30_000 }))
})

test('an agent that ends before its answer is an error, not a hang', async () => {
  control = await serveAgentControl(file, { wait: () => new Promise(() => {}) }, silentLog)
  const asked = rejection(askAgent(file, 'wait'))
  await askAgent(file, 'nothing').catch(() => {})
  await control.stop()
  assert.match((await asked).message, 'ended before it answered')
})

test('a path that the system cannot take is refused with a hint', async () => {
  const error = await rejection(serveAgentControl(path.join(directory, 'x'.repeat(120)), {}, silentLog))
  assert.match(error.hint ?? '', 'data_dir')
})

test.run()
