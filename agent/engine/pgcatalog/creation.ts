/**
 * Makes the catalog in an instance that has no file yet: its views are of any guarded database of that name. To DuckDB, which reads a view's query when the view is
 * made, a database stands in for it that has nothing but the one table that they read.
 */

import { ownSchema } from '../catalog.ts'
import { createNames } from '../constraint-names.ts'
import { Instance } from '../duckdb.ts'
import { quoteIdentifier, useCatalog } from '../sql/tokens.ts'
import { catalogStatements } from './relations.ts'

/** An instance with the catalog of a guarded database of that name, as soon as it is made. */
export interface PreparedInstance {
  readonly catalog: string
  readonly instance: Promise<Instance>
}

/** Who waits for it learns why it failed. */
export function prepareInstance(catalog: string): PreparedInstance {
  const instance = Instance.create().then(async (created) => {
    try {
      await createCatalog(created, catalog)
      return created
    } catch (error) {
      created.close()
      throw error
    }
  })
  instance.catch(() => {})
  return { catalog, instance }
}

/** What a spare has prepared, if it is for a database of that name; else one that is made now. */
export function instanceFor(catalog: string, prepared: PreparedInstance | undefined): Promise<Instance> {
  if (prepared?.catalog === catalog) return prepared.instance
  prepared?.instance.then(
    (unfit) => unfit.close(),
    () => {},
  )
  return prepareInstance(catalog).instance
}

async function createCatalog(instance: Instance, catalog: string): Promise<void> {
  const standIn = quoteIdentifier(catalog)
  await instance.run([
    `ATTACH ':memory:' AS ${standIn}`,
    useCatalog(catalog),
    `CREATE SCHEMA ${ownSchema}`,
    createNames,
    'BEGIN',
    ...catalogStatements(catalog),
    'COMMIT',
    useCatalog('memory'),
    `DETACH ${standIn}`,
  ])
}
