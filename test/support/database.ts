/** A new DuckDB file as the engine opens it, for tests of what stands directly on it. */

import path from 'node:path'
import { Database } from '../../agent/engine/duckdb.ts'
import { temporaryDirectory } from './temp.ts'

/** Its catalog has the name too. */
export function newDatabase(name: string, { threads = 1, memoryLimit = 256e6 } = {}): Promise<Database> {
  const directory = temporaryDirectory(name)
  return Database.open({
    file: path.join(directory, `${name}.duckdb`),
    create: true,
    catalog: name,
    threads,
    memoryLimit,
    temporaryDirectory: directory,
    externalAccess: false,
  })
}
