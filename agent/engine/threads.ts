/** The engine's threads beside the event loop and libuv's pool: those that work for queries, and the one that writes what has gathered. */

import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import { Analysts } from './analysts.ts'
import type { CommitPipeline } from './commit.ts'
import type { Database } from './duckdb.ts'
import { TaskThread, threadNames } from './task-thread.ts'
import { WriteThread } from './write-thread.ts'

/** ms after a commit during which another one is expected. */
const busy = 100

/** They start when there is something for them. `cores`: how many the engine may use. */
export function employThreads(database: Database, pipeline: CommitPipeline, cores: number, log: Log): Analysts {
  const analysts = new Analysts({
    cores,
    database: database.address,
    start: (waiting) => new TaskThread({ name: threadNames.query, waiting }),
    isCommitting: () => pipeline.isCommitting,
    isBusy: () => performance.now() - pipeline.committedAt < busy,
    failed: (error) => log.warn(`a thread for queries is missing: ${messageOf(error)}`),
  })
  database.calls.analysts = analysts
  database.calls.writing = new WriteThread({
    start: () => new TaskThread({ name: threadNames.write }),
    failed: (error) => log.warn(`the thread that writes is missing, the pool's do its work: ${messageOf(error)}`),
  })
  return analysts
}
