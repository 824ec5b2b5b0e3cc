/** The database that a journal gives, made in this process: the engine's own recovery on a copy of the files. */

import fs from 'node:fs'
import path from 'node:path'
import * as assert from 'uvu/assert'
import { Instance } from '../../../agent/engine/duckdb.ts'
import { recover } from '../../../agent/engine/recovery.ts'
import { pathsOf } from '../../../agent/paths.ts'
import { temporaryDirectory } from '../../support/temp.ts'
import { type State, stateFrom } from './state.ts'

/** All of `data`'s journal after the watermark of `base`, a database file that nobody has open; onto nothing without one. */
export async function rebuiltState(data: string, base: string | undefined, options: { macros: boolean }): Promise<State> {
  const directory = temporaryDirectory('rebuilt')
  fs.copyFileSync(path.join(data, 'identity.json'), path.join(directory, 'identity.json'))
  fs.cpSync(path.join(data, 'journal'), path.join(directory, 'journal'), { recursive: true })
  const database = path.join(directory, 'trade_data.duckdb')
  if (base !== undefined) fs.copyFileSync(base, database)
  const paths = pathsOf({
    agent: { data_dir: directory },
    engine: { database, journal_dir: path.join(directory, 'journal') },
  } as Parameters<typeof pathsOf>[0])
  const recovered = await recover({ paths, threads: 1, memory: 512e6, externalAccess: false, now: Date.now, instance: Instance.create() })
  try {
    const { cutBytes, quarantined, gaps, refused } = recovered.report
    assert.equal({ cutBytes, quarantined, gaps, refused }, { cutBytes: 0, quarantined: [], gaps: [], refused: [] })
    await recovered.connection.run("SET TimeZone = 'UTC'")
    return await stateFrom(async (sql) => (await recovered.connection.all(sql)) as (string | null)[][], options)
  } finally {
    recovered.connection.close()
    recovered.database.close()
    fs.rmSync(directory, { recursive: true })
  }
}
