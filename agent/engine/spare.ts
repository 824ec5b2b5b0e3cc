/**
 * A spare engine, as the process itself has it (the agent's side: agent/supervisor/spare.ts): it loads the program and DuckDB's library, makes
 * the instance that will get the file, rehearses a replay (agent/engine/rehearsal.ts), and waits on its stdin for the word to begin. It takes nothing that an engine
 * needs: no lock, no port, no file of the data directory.
 */

import path from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { returnFreedPages } from '../allocator.ts'
import { messageOf } from '../errors.ts'
import { returnGarbage } from '../garbage.ts'
import { createLog, type Log } from '../log.ts'
import { catalogName } from '../paths.ts'
import { commandLine, isPacked } from '../runtime.ts'
import { type PreparedInstance, prepareInstance } from './pgcatalog/creation.ts'
import { rehearse } from './rehearsal.ts'

/** As `returnGarbage` has it: up to 70 MB. V8 collects garbage twice in a replay of 5,000 transactions else, and what is compiled for it goes first. */
const growth = 400

interface SpareOptions {
  /** Of its log until it begins. */
  readonly level?: string | undefined
  /** `engine.database`, as far as it is known. */
  readonly database?: string | undefined
}

/** What a spare begins with, as far as it was to be had. */
interface Turn {
  readonly prepared: PreparedInstance | undefined
}

/** Waits for the agent's word; undefined when the agent has gone without one. */
export async function waitForTurn({ level = 'info', database }: SpareOptions): Promise<Turn | undefined> {
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
  const prepared = await prepare(log, database, () => answered)
  const word = await turn
  setFlagsFromString('--incremental-marking')
  process.stdin.destroy()
  if (!word) return undefined
  // From now on `ps` shows it as the engine that it is.
  process.title = [isPacked ? path.basename(process.execPath) : 'daemonguard', ...commandLine().filter((each) => each !== '--spare')].join(
    ' ',
  )
  return { prepared }
}

/** Whatever becomes of it: a spare without instance or rehearsal is slower, and no more. */
async function prepare(log: Log, database: string | undefined, isWanted: () => boolean): Promise<PreparedInstance | undefined> {
  // Before the rehearsal: compiled code is garbage to V8 as long as it does not run. So nothing is collected while the spare waits, either.
  returnGarbage(growth)
  setFlagsFromString('--no-incremental-marking')
  let prepared = database === undefined ? undefined : prepareInstance(catalogName(database))
  try {
    await prepared?.instance
  } catch (error) {
    prepared = undefined
    log.warn(`the spare engine could not prepare DuckDB: ${messageOf(error)}`)
  }
  try {
    const { replayed, refused, inserted, updated } = await rehearse(isWanted)
    log.info({ replayed, refused, inserted, updated }, 'rehearsed')
  } catch (error) {
    log.warn(`the spare engine could not rehearse: ${messageOf(error)}`)
  }
  if (!isWanted()) returnFreedPages()
  return prepared
}
