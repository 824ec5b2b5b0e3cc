/**
 * Makes the catalog in an instance that has no file yet: its views are of a guarded database of that name, and of no table of it. To DuckDB, which reads a view's
 * query when the view is made, an empty database stands in for it.
 */

import { ownSchema } from '../catalog.ts'
import { createNames } from '../constraint-names.ts'
import { Instance } from '../duckdb.ts'
import { quoteIdentifier } from '../sql/tokens.ts'
import { catalogStatements } from './relations.ts'

/** An instance with the catalog of a guarded database of that name, as soon as it is made. */
export interface PreparedInstance {
  readonly catalog: string
  readonly instance: Promise<Instance>
}

/** Who waits for it learns why it failed. */
export function prepareInstance(catalog: string): PreparedInstance {
  const instance = Instance.create().then(async (created) => {
    await createCatalog(created, catalog)
    return created
  })
  instance.catch(() => {})
  return { catalog, instance }
}

async function createCatalog(instance: Instance, catalog: string): Promise<void> {
  const standIn = quoteIdentifier(catalog)
  await instance.run([
    `ATTACH ':memory:' AS ${standIn}`,
    `USE ${standIn}`,
    `CREATE SCHEMA ${ownSchema}`,
    createNames,
    'BEGIN',
    ...catalogStatements(catalog),
    'COMMIT',
    'USE memory',
    `DETACH ${standIn}`,
  ])
}
