// deadline: 600s
// needs: psql, pgbench
// The benchmark runs: every row, in tiny sizes. What it measures is printed by `npm run bench` and tested nowhere.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { runChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { ratio, reached } from './report.ts'
import { rows } from './rows/index.ts'
import { percentile, summarize } from './statistics.ts'

const test = suite('bench')
const program = path.join(import.meta.dirname, 'run.ts')

test('every row runs, and its values are written as JSON', async () => {
  const file = path.join(temporaryDirectory('b'), 'bench.json')
  // PostgreSQL's user must be able to pass through the temporary directory, which the runner's does not let it.
  const env = { TMPDIR: undefined }
  const { code, stdout, stderr } = await runChild(process.execPath, [program, '--quick', '--json', file], { deadline: 500_000, env })
  assert.is(code, 0, stdout + stderr)
  const written = JSON.parse(fs.readFileSync(file, 'utf8'))
  assert.equal(
    written.rows.map(({ row }: { row: number }) => row),
    [...rows.keys()],
  )
  for (const { title, measures, error } of written.rows) {
    assert.is(error, undefined, title)
    assert.ok(measures.length > 0, title)
    for (const { what, values } of measures) assert.ok(values.length === 1 && values[0] >= 0, `${title}: ${what} ${values}`)
  }
  assert.ok(written.machine.fileSystem.type !== 'unknown', 'it says on which file system it ran')
})

test('an unknown row or a wrong number is wrong usage', async () => {
  for (const args of [['99'], ['1', '--rounds', '0'], ['--seconds', 'x'], ['--fast']]) {
    const { code, stderr } = await runChild(process.execPath, [program, '--quick', ...args])
    assert.is(code, 2, args.join(' '))
    assert.ok(stderr.trim() !== '')
  }
})

test('a median lies between the two middle values, a percentile is a value that occurred', () => {
  assert.equal(summarize([3, 1, 2]), { min: 1, median: 2, max: 3 })
  assert.equal(summarize([4, 1, 2, 3]), { min: 1, median: 2.5, max: 4 })
  assert.is(
    percentile(
      Array.from({ length: 1000 }, (_, i) => i),
      99.5,
    ),
    994.5,
  )
  assert.is(percentile([7], 99), 7)
  assert.throws(() => summarize([]))
})

test('a ratio is taken round by round, and the median decides about the goal', () => {
  const measure = ratio('other', [10, 30, 40], [10, 10, 10], { least: 2 })
  assert.equal(measure.values, [1, 3, 4])
  assert.is(reached(measure, summarize(measure.values)), true)
  assert.is(reached({ ...measure, goal: { most: 2 } }, summarize(measure.values)), false)
  assert.is(reached({ ...measure, goal: undefined }, summarize(measure.values)), undefined)
})

test.run()
