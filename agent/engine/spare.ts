/**
 * A spare engine, as the process itself has it (the agent's side: agent/supervisor/spare.ts): it loads the program and DuckDB's library,
 * rehearses a replay (agent/engine/rehearsal.ts), and waits on its stdin for the word to begin. It takes nothing that an engine needs: no
 * lock, no port, no file of the data directory.
 */

import path from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { returnFreedPages } from '../allocator.ts'
import { messageOf } from '../errors.ts'
import { returnGarbage } from '../garbage.ts'
import { createLog, type Log } from '../log.ts'
import { commandLine, isPacked } from '../runtime.ts'
import { rehearse } from './rehearsal.ts'

/** As `returnGarbage` has it: up to 70 MB. V8 collects garbage twice in a replay of 5,000 transactions else, and what is compiled for it goes first. */
const growth = 400

/** Waits for the agent's word; false when that has gone without one. `level`: of its log until then. */
export async function waitForTurn(level = 'info'): Promise<boolean> {
  const log = createLog({ name: 'engine', level, format: 'json' })
  let answered = false
  const turn = new Promise<boolean>((resolve) => {
    const answer = (word: boolean) => {
      answered = true
      resolve(word)
    }
    process.stdin
      .once('data', () => answer(true))
      .once('end', () => answer(false))
      .once('error', () => answer(false))
  })
  await prepare(log, () => answered)
  const word = await turn
  setFlagsFromString('--incremental-marking')
  process.stdin.destroy()
  // From now on `ps` shows it as the engine that it is.
  if (word)
    process.title = [
      isPacked ? path.basename(process.execPath) : 'daemonguard',
      ...commandLine().filter((each) => each !== '--spare'),
    ].join(' ')
  return word
}

/** Whatever becomes of the rehearsal: a spare without it is slower, and no more. */
async function prepare(log: Log, isWanted: () => boolean): Promise<void> {
  // Before the rehearsal: compiled code is garbage to V8 as long as it does not run. So nothing is collected while the spare waits, either.
  returnGarbage(growth)
  setFlagsFromString('--no-incremental-marking')
  try {
    const { replayed, refused, inserted, updated } = await rehearse(isWanted)
    log.info({ replayed, refused, inserted, updated }, 'rehearsed')
  } catch (error) {
    log.warn(`the spare engine could not rehearse: ${messageOf(error)}`)
  }
  if (!isWanted()) returnFreedPages()
}
