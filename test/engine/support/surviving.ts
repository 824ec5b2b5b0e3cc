/** What an engine has committed outlives it. */

import type pg from 'pg'
import * as assert from 'uvu/assert'
import type { TestEngine } from '../../support/engine.ts'
import { difference, stateOf } from './state.ts'

/** SIGKILL, recovery; what `client` saw is there again, and nothing was refused or missing. Gives a client of the new process. */
export async function assertSurvivesKill(engine: TestEngine, client: pg.Client): Promise<pg.Client> {
  const live = await stateOf(client)
  await engine.restart()
  const next = await engine.connect()
  assert.equal([engine.control.hello.recovery.refused, engine.control.hello.recovery.gaps], [[], []])
  assert.is(difference(live, await stateOf(next)), '')
  return next
}
