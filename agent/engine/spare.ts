/**
 * A spare engine, as the process itself has it (the agent's side: agent/supervisor/spare.ts): it loads the program and DuckDB's library,
 * and waits on its stdin for the word to begin. It takes nothing that an engine needs: no lock, no port, no file of the data directory.
 */

import path from 'node:path'
import { returnGarbage } from '../garbage.ts'
import { commandLine, isPacked } from '../runtime.ts'

/** Waits for the agent's word; false when that has gone without one. */
export async function waitForTurn(): Promise<boolean> {
  returnGarbage()
  const word = await new Promise<boolean>((resolve) => {
    process.stdin
      .once('data', () => resolve(true))
      .once('end', () => resolve(false))
      .once('error', () => resolve(false))
  })
  process.stdin.destroy()
  // From now on `ps` shows it as the engine that it is.
  if (word)
    process.title = [
      isPacked ? path.basename(process.execPath) : 'daemonguard',
      ...commandLine().filter((each) => each !== '--spare'),
    ].join(' ')
  return word
}
