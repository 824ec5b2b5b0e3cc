import fs from 'node:fs'
import path from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { markerVariable } from '../runner/processes.ts'
import { isAlive, runChild, spawnChild } from '../support/process.ts'
import { seededRandom } from '../support/random.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const support = path.resolve(import.meta.dirname, '../support')

/** A test process of its own: starts a sleeper and makes a directory, prints both, then ends as `ending` says. */
function processThat(ending: string): [string, string[]] {
  const script = `
    import { spawnChild } from ${JSON.stringify(`${support}/process.ts`)}
    import { temporaryDirectory } from ${JSON.stringify(`${support}/temp.ts`)}
    const child = spawnChild('sleep', ['300'])
    process.stdout.write(child.pid + ' ' + temporaryDirectory() + '\\n')
    ${ending}`
  return [process.execPath, ['--input-type=module', '--eval', script]]
}

for (const [name, ending] of [
  ['ends', 'process.exit(0)'],
  ['throws', 'throw new Error("on purpose")'],
  ['is terminated', 'setTimeout(() => process.kill(process.pid, "SIGTERM"), 1); setInterval(() => {}, 1000)'],
] as const) {
  test(`no child and no temporary directory outlives a test process without a guard that ${name}`, async () => {
    const result = await runChild(...processThat(ending), { env: { [markerVariable]: undefined } })
    const [pid, directory] = result.stdout.trim().split(' ') as [string, string]
    await waitFor('the sleeper to die', () => !isAlive(Number(pid)))
    assert.not(fs.existsSync(directory))
  })
}

if (process.platform === 'linux') {
  test('no child outlives a test process that is killed with SIGKILL', async () => {
    const parent = spawnChild(...processThat('setInterval(() => {}, 1000)'))
    await waitFor('the line', () => parent.stdout().includes('\n'))
    const pid = Number(parent.stdout().split(' ')[0])
    assert.ok(isAlive(pid))
    await parent.kill()
    await waitFor('the sleeper to die', () => !isAlive(pid))
  })
}

test('killing a group reaches grandchildren', async () => {
  const shell = spawnChild('sh', ['-c', 'sleep 300 & echo $!; wait'], { group: true })
  await waitFor('the line', () => shell.stdout().includes('\n'))
  const sleeper = Number(shell.stdout())
  assert.ok(isAlive(sleeper))
  const exit = await shell.kill()
  assert.is(exit.signal, 'SIGKILL')
  await waitFor('the sleeper to die', () => !isAlive(sleeper))
})

test('a program that does not end is killed at its deadline, and the error has what it printed', async () => {
  let message = ''
  await runChild('sh', ['-c', 'echo begun; exec sleep 300'], { deadline: 500 }).catch((error: Error) => {
    message = error.message
  })
  assert.match(message, /did not end within 500 ms/)
  assert.match(message, /begun/)
})

test('a program that does not exist is an error, not a hang', async () => {
  const result = await runChild('no-such-program').catch((error: Error) => ({ code: error.message }))
  assert.ok(result.code !== 0)
})

test('a wait in vain says for what', async () => {
  let message = ''
  await waitFor('the moon', () => false, { deadline: 50 }).catch((error: Error) => {
    message = error.message
  })
  assert.match(message, /waited 50 ms in vain for: the moon/)
})

test('a seed repeats its numbers', () => {
  const draw = (seed: number) => {
    const random = seededRandom('process.test', seed)
    return [random.int(1, 6), random.float(), ...random.shuffle([1, 2, 3, 4, 5]), ...random.bytes(4)]
  }
  assert.equal(draw(7), draw(7))
  assert.not.equal(draw(7), draw(8))
})

test('a temporary directory is new and private', () => {
  const [a, b] = [temporaryDirectory(), temporaryDirectory()]
  assert.is.not(a, b)
  assert.is(fs.statSync(a).mode & 0o777, 0o700)
})

test.run()
