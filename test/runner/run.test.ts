/** The whole command: what it finds, its closing line, its exit code, and that nothing outlives it. */

import fs from 'node:fs'
import path from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isAlive, runChild, spawnChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const fixtures = path.resolve(import.meta.dirname, '../fixtures/runner')
const program = path.resolve(import.meta.dirname, '../run.ts')

/** A directory that holds the named fixtures as test files: { 'a/one': 'passes' } makes a/one.test.ts. */
function testsOf(files: Record<string, string>): string {
  const root = temporaryDirectory()
  for (const [name, fixture] of Object.entries(files)) {
    const file = path.join(root, `${name}.test.ts`)
    fs.mkdirSync(path.dirname(file), { recursive: true })
    fs.copyFileSync(path.join(fixtures, `${fixture}.ts`), file)
  }
  return root
}

async function guard(root: string, ...args: string[]) {
  const result = await runChild(process.execPath, [program, '--root', root, ...args])
  return { code: result.code, out: result.stdout, err: result.stderr, last: result.stdout.trimEnd().split('\n').at(-1) }
}

test('a good run ends with its one closing line and exit 0', async () => {
  const { code, out, last } = await guard(testsOf({ one: 'passes', 'deep/two': 'passes', 'fault/three': 'passes' }))
  assert.is(last, '6 passed, 0 failed, 0 skipped', out)
  assert.is(code, 0)
  assert.is(out.match(/^\d+ passed, \d+ failed, \d+ skipped$/gm)?.length, 1)
  assert.is(out.match(/^ok /gm)?.length, 3)
})

test('one bad file among good ones fails the run and is shown in full', async () => {
  const { code, out, last } = await guard(testsOf({ one: 'passes', two: 'before-throws', three: 'passes' }))
  assert.is(last, '4 passed, 1 failed, 0 skipped')
  assert.is(code, 1)
  assert.match(out, /^FAIL .*two\.test\.ts/m)
  assert.match(out, /before on purpose/)
})

test('a run that finds no test fails', async () => {
  const { code, last } = await guard(testsOf({}))
  assert.is(last, '0 passed, 0 failed, 0 skipped')
  assert.is(code, 1)
})

test('arguments choose files by a part of their path; a part that chooses none fails', async () => {
  const root = testsOf({ 'journal/reader': 'passes', 'engine/copy': 'throws-null' })
  const chosen = await guard(root, 'journal/')
  assert.is(chosen.last, '2 passed, 0 failed, 0 skipped')
  assert.is(chosen.code, 0)
  assert.is((await guard(root, 'nowhere')).code, 1)
})

test('a skip needs leave by name, and is then printed and counted', async () => {
  const root = testsOf({ one: 'skips' })
  assert.is((await guard(root)).code, 1)
  const allowed = await guard(root, '--allow-skip', 'two')
  assert.is(allowed.last, '1 passed, 0 failed, 1 skipped')
  assert.match(allowed.out, /SKIPPED \(allowed\): two/)
  assert.is(allowed.code, 0)
})

test('a file is left out, loudly, when its prerequisite is given leave to be missing', async () => {
  const root = testsOf({ one: 'passes', two: 'passes' })
  fs.writeFileSync(path.join(root, 'two.test.ts'), `// needs: redis\n${fs.readFileSync(path.join(root, 'two.test.ts'), 'utf8')}`)
  const { code, out, last } = await guard(root, '--allow-skip', 'redis')
  assert.is(last, '2 passed, 0 failed, 1 skipped')
  assert.match(out, /SKIPPED \(the whole file, counted as one\): .*two\.test\.ts needs redis/)
  assert.is(code, 0)
})

test('an unknown prerequisite and an unreadable deadline fail the run with the file or name at fault', async () => {
  const root = testsOf({ one: 'passes' })
  fs.writeFileSync(path.join(root, 'one.test.ts'), '// needs: oracle\n')
  const unknown = await guard(root)
  assert.is(unknown.code, 1)
  assert.match(unknown.err, /unknown prerequisite: oracle/)
  fs.writeFileSync(path.join(root, 'one.test.ts'), '// deadline: soon\n')
  const unreadable = await guard(root)
  assert.is(unreadable.code, 1)
  assert.match(unreadable.err, /one\.test\.ts: cannot read the deadline "soon"/)
})

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test(`nothing outlives a run that is ended by ${signal}`, async () => {
    const root = testsOf({ one: 'hangs-with-child' })
    const file = path.join(root, 'one.test.ts')
    const pids = path.join(root, 'pids')
    const source = fs.readFileSync(file, 'utf8').replace('deadline: 4s', 'deadline: 50s')
    const note = 'fs.writeFileSync(process.env.PIDS as string, process.pid + " " + child.pid + "\\n")'
    fs.writeFileSync(
      file,
      `import fs from 'node:fs'\n${source}`
        .replace('  await new', `  ${note}\n  await new`)
        .replace('new Promise(() => {})', 'new Promise(() => setInterval(() => {}, 1000))'),
    )
    const run = spawnChild(process.execPath, [program, '--root', root], { env: { PIDS: pids } })
    await waitFor('the test to begin', () => fs.existsSync(pids) && fs.readFileSync(pids, 'utf8').endsWith('\n'), { deadline: 20_000 })
    const [own, child] = fs.readFileSync(pids, 'utf8').split(' ').map(Number) as [number, number]
    assert.ok(isAlive(own) && isAlive(child))
    await run.kill(signal)
    await waitFor('the test process to die', () => !isAlive(own))
    // A child that detached itself by hand outlives a SIGKILL of the guard; whoever uses spawnChild is safe (process.test.ts).
    if (signal === 'SIGTERM') assert.not(isAlive(child))
    else process.kill(child, 'SIGKILL')
  })
}

test.run()
