/** Makes the catalog in a new instance. It depends on no table of the guarded database. */

import { createNames } from '../constraint-names.ts'
import type { Database } from '../duckdb.ts'
import { catalogStatements } from './relations.ts'

/** On a connection of its own. The engine's own schema must be there. */
export async function createCatalog(database: Database): Promise<void> {
  const connection = await database.connect()
  try {
    await connection.run(createNames)
    // One call, one transaction: a hundred of them would take half as long again.
    await connection.run(['BEGIN', ...catalogStatements(database.catalog), 'COMMIT'].join('; '))
  } finally {
    connection.close()
  }
}
