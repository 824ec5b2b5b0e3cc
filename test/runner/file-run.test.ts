// deadline: 240s
/** Every way in which uvu 0.5.6 (or a test) ends without having tested, against the guard. */

import path from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isAlive } from '../support/process.ts'
import { type FileResult, runTestFile } from './file-run.ts'
import { describeTestFile } from './files.ts'

const fixtures = path.resolve(import.meta.dirname, '../fixtures/runner')

function run(fixture: string, allowedSkips: string[] = []): Promise<FileResult> {
  return runTestFile(describeTestFile(path.join(fixtures, `${fixture}.ts`)), { allowedSkips: new Set(allowedSkips) })
}

const counts = ({ passed, failed, skipped }: FileResult) => ({ passed, failed, skipped })

for (const fixture of ['passes', 'runs-a-guarded-child']) {
  test(`a good file passes: ${fixture}`, async () => {
    const result = await run(fixture)
    assert.equal(result.problems, [], result.output)
    assert.is(result.failed, 0)
    assert.ok(result.passed > 0)
  })
}

const bad: [fixture: string, problem: RegExp, passed: number, failed: number][] = [
  ['before-throws', /hook before\(\) threw Error: before on purpose/, 0, 1],
  ['after-throws', /hook after\(\) threw Error: after on purpose/, 1, 1],
  ['after-each-throws', /hook after\.each\(\) threw Error: after\.each on purpose/, 0, 2],
  ['throws-null', /test "one" threw null/, 1, 1],
  ['never-run', /no suite ran: \.run\(\) was never called/, 0, 1],
  ['registered-after-run', /"two" never ran/, 1, 1],
  ['only-left', /\.only was left in at "one"/, 1, 1],
  ['only-alone', /\.only was left in at "one"/, 1, 1],
  ['skips', /"two" was skipped without leave \(--allow-skip "two"\)/, 1, 1],
  ['hangs', /did not end within its deadline of 4 s \(in "waits for ever"\); killed/, 1, 1],
  ['spins', /did not end within its deadline of 4 s \(in "spins for ever"\); killed/, 0, 1],
  ['never-settles', /uvu's summary is missing/, 0, 1],
  ['unhandled-rejection', /exit code 1/, 1, 1],
  ['late-rejection', /exit code 1/, 1, 1],
  ['exits-in-test', /uvu's summary is missing/, 0, 1],
  ['exits-with-forged-summary', /no suite went through to its end/, 0, 1],
  ['no-test', /no test ran/, 0, 1],
  ['two-suites', /2 suites ran: a file has exactly one/, 2, 1],
  ['same-name', /two tests are named "one"/, 2, 1],
  ['fails-with-bigints', /id: 2n/, 0, 1],
  ['leaves-open-handle', /its process lived on; something was left open: .*Timeout/, 1, 1],
  ['fails-with-open-handle', /test "one" threw Error: test on purpose/, 0, 1],
  ['leaves-child', /left a process behind: \d+ sleep 300; killed/, 1, 1],
  ['leaves-detached-child', /left a process behind: \d+ sleep 300; killed/, 1, 1],
  ['hangs-with-child', /did not end within its deadline/, 0, 1],
  ['exit-code', /exit code 3/, 1, 1],
]

// Most of them wait for something: a few run at a time.
const results = new Map<string, FileResult>()
test.before(async () => {
  const queue = bad.map(([fixture]) => fixture)
  async function lane(): Promise<void> {
    for (let fixture = queue.shift(); fixture !== undefined; fixture = queue.shift()) results.set(fixture, await run(fixture))
  }
  await Promise.all([lane(), lane(), lane()])
})

for (const [fixture, problem, passed, failed] of bad) {
  test(`a bad file fails: ${fixture}`, async () => {
    const result = results.get(fixture) as FileResult
    assert.match(result.problems.join('\n'), problem)
    assert.equal({ passed: result.passed, failed: result.failed }, { passed, failed }, result.problems.join('\n'))
    const child = /child (\d+)/.exec(result.output)?.[1]
    if (fixture.includes('child')) assert.ok(child !== undefined && !isAlive(Number(child)), 'the child is dead')
  })
}

test('a skip with leave passes, and is counted', async () => {
  const result = await run('skips', ['two'])
  assert.equal(result.problems, [])
  assert.equal(counts(result), { passed: 1, failed: 0, skipped: 1 })
  assert.equal(result.skips, ['two'])
})

test('leave to skip one test is no leave for another', async () => {
  assert.is.not((await run('skips', ['three'])).problems.length, 0)
})

test('uvu alone would have passed most of these files: the printed failure of a failed test is in the output too', async () => {
  const result = await run('fails-with-open-handle')
  assert.match(result.output, /FAIL[\s\S]*test on purpose/)
})

test.run()
