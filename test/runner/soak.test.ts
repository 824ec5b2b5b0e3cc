/** `npm run soak`: what it chooses, how long it goes on, what it prints, and its exit code. */

import fs from 'node:fs'
import path from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { runChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'

const fixtures = path.resolve(import.meta.dirname, '../fixtures/runner')
const root = temporaryDirectory()
for (const [name, fixture] of [
  ['engine/long', 'long-form'],
  ['fault/longer', 'long-form'],
  ['engine/short', 'passes'],
]) {
  const file = path.join(root, `${name}.test.ts`)
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.copyFileSync(path.join(fixtures, `${fixture}.ts`), file)
}

async function soak(args: readonly string[], env: Record<string, string> = {}) {
  const program = path.resolve(import.meta.dirname, '../soak.ts')
  const { code, stdout, stderr } = await runChild(process.execPath, [program, '--root', root, ...args], { env })
  return { code, out: stdout, err: stderr, last: stdout.trimEnd().split('\n').at(-1) }
}

test('without a time every long form runs once, and files without one are left out', async () => {
  const { code, out, last } = await soak([])
  assert.is(last, '1 rounds, 2 runs, 0 failed', out)
  assert.is(code, 0)
  assert.is(out.match(/^ok .*long\.test\.ts {2}SEED=\d+/gm)?.length, 1)
  assert.is(out.match(/^ok .*longer\.test\.ts {2}SEED=\d+/gm)?.length, 1)
  assert.is(out.match(/^ +# 3 rounds$/gm)?.length, 2)
  assert.not.match(out, /short/)
})

test('with a time rounds follow each other until it is up, of the chosen files alone', async () => {
  const { code, out } = await soak(['2s', 'engine/'])
  assert.is(code, 0, out)
  const seeds = [...out.matchAll(/^run .*SEED=(\d+)$/gm)].map(([, seed]) => seed)
  assert.ok(seeds.length >= 1)
  assert.is(new Set(seeds).size, seeds.length)
  assert.not.match(out, /longer/)
})

test('a failure is shown with its seed and how to repeat it, and fails the whole', async () => {
  const { code, out, last } = await soak(['1s'], { FAIL_ON_PURPOSE: '1' })
  assert.is(code, 1)
  assert.match(last ?? '', /^\d+ rounds, (\d+) runs, \1 failed$/)
  const [, seed] = /again: SOAK=1 SEED=(\d+) npm test -- .*long\.test\.ts/.exec(out) ?? []
  assert.match(out, new RegExp(`SOAK 1, seed ${seed}, until \\d+`))
  assert.match(out, new RegExp(`FAILED with SEED=${seed}`))
})

test('what cannot be read, or chooses nothing, is wrong usage', async () => {
  for (const args of [['5x'], ['0s'], ['1m', '2m'], ['nowhere'], ['engine/short'], ['--faster']]) {
    const { code, err } = await soak(args)
    assert.is(code, 2, `${args}: ${err}`)
    assert.ok(err.length > 0)
  }
})

test.run()
