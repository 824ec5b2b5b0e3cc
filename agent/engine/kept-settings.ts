/**
 * Settings that SQL clients change for good: `settings.json` in the data directory, {version, checkpointEvery}. They are nothing of the database:
 * a restore leaves them as they are. A file that cannot be read is reported, and the configuration's values hold.
 */

import fs from 'node:fs'
import { writeAtomic } from '../disk.ts'
import { codeOf, messageOf } from '../errors.ts'
import { SqlError } from './sql-error.ts'

export class KeptSettings {
  #file: string
  #checkpointEvery: number | null = null

  constructor(file: string, warn: (message: string) => void) {
    this.#file = file
    try {
      const { checkpointEvery } = JSON.parse(fs.readFileSync(file, 'utf8'))
      if (Number.isSafeInteger(checkpointEvery) && checkpointEvery > 0) this.#checkpointEvery = checkpointEvery
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') warn(`${file} cannot be read; the configuration's values hold: ${messageOf(error)}`)
    }
  }

  /** A checkpoint after so many transactions; null: as the checkpointer is configured. */
  get checkpointEvery(): number | null {
    return this.#checkpointEvery
  }

  /** Durable when it returns. Throws 53100 or 58030 where the disk does not take it; then nothing has changed. */
  setCheckpointEvery(transactions: number | null): void {
    try {
      writeAtomic(this.#file, `${JSON.stringify({ version: 1, checkpointEvery: transactions })}\n`, 'ENGINE:SETTINGS')
    } catch (error) {
      throw new SqlError(codeOf(error) === 'ENOSPC' ? '53100' : '58030', `the setting could not be kept: ${messageOf(error)}`, {
        cause: error,
      })
    }
    this.#checkpointEvery = transactions
  }
}
