// Group commit: what is appended together becomes durable together.

import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { watchSteps } from '../../agent/step.ts'
import { append, batchesOf, openWriter } from '../fixtures/journal.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('journal group')

test('what is appended in one go, as a group of commits is, shares the first fsync', async () => {
  const directory = path.join(temporaryDirectory('group'), 'journal')
  const writer = openWriter(directory, {})
  await writer.durable(append(writer, 0))
  const steps: string[] = []
  watchSteps(({ label, kind }) => steps.push(`${label} ${kind}`))
  try {
    const [, , last] = [1, 2, 3].map((i) => append(writer, i))
    await writer.durable(last as number)
  } finally {
    watchSteps(() => {})
  }
  assert.is(steps.filter((text) => text === 'JOURNAL:SYNC synced').length, 1)
  assert.equal(
    batchesOf(directory).map(({ count }) => count),
    [1, 3],
  )
  await writer.close()
})

test.run()
