/**
 * The ways of a plain insert (plain-insert.ts) of one session. One that stands alone goes through the write buffer, together with those of other clients; in
 * a transaction it is held back (held-statements.ts), or DuckDB gets typed values, and need not say what it made of them.
 */

import type { Foreseen } from './answer.ts'
import type { Block } from './block.ts'
import type { TableInfo } from './catalog.ts'
import type { Executor } from './executor.ts'
import type { HeldStatements } from './held-statements.ts'
import type { Parameter } from './pgwire/backend.ts'
import { cellsOf, planInsert, typedParameters } from './plain-insert.ts'
import type { Prepared } from './preparation.ts'
import { insertPlainly } from './row-change.ts'
import type { SessionContext } from './session-context.ts'
import type { Settings } from './settings.ts'
import type { QualifiedName } from './sql/statement.ts'

const tag = 'INSERT 0 1'

interface InsertWaysOptions {
  readonly context: SessionContext
  readonly executor: Executor
  readonly block: Block
  readonly settings: Settings
  readonly held: HeldStatements
  table(name: QualifiedName): Promise<TableInfo>
}

export class InsertWays {
  #options: InsertWaysOptions

  constructor(options: InsertWaysOptions) {
    this.#options = options
  }

  /**
   * The short way, for there are thousands a second: one that stands alone, is planned already, and in whose session nothing else is open, so that there is
   * nothing to interrupt either. Undefined: it takes the long way. Resolves with false when the schema has changed: nothing was written. Throws SqlError.
   */
  short({ insert, planned }: Prepared, parameters: readonly Parameter[]): Promise<boolean> | undefined {
    const { context, block, settings } = this.#options
    if (insert === undefined || planned?.plan === undefined || block.isOpen || block.status !== 'I' || settings.isPending) return undefined
    if (planned.version !== context.catalog.version || planned.searchPath !== settings.searchPath) return undefined
    const cells = cellsOf(planned.plan, planned.info, parameters, { timeZone: settings.timeZone, alone: true })
    return cells === undefined ? undefined : context.writeBuffer.submit(this, planned.info, planned.version, cells)
  }

  /** `alone`: nothing else belongs to its transaction. What it answers; undefined: it is none, or takes the ordinary way of statements. Throws SqlError. */
  async long(query: Prepared, parameters: readonly Parameter[], alone: boolean): Promise<string | Foreseen | undefined> {
    const { context, executor, block, settings, held } = this.#options
    const { statement, insert } = query
    if (insert === undefined || statement?.kind !== 'insert' || block.schemaChanged) return undefined
    if (!alone && !block.isOpen) return undefined
    // An older snapshot has an older schema: nothing is read from it, or kept as the one of now.
    const holding = alone ? undefined : await block.forHolding()
    if (!alone && holding === undefined) await block.forWriting('shared')
    const { catalog, locks, images, writeBuffer } = context
    const { searchPath } = settings
    if (query.planned?.version !== catalog.version || query.planned.searchPath !== searchPath) {
      const read = catalog.version
      const info = await this.#options.table(statement.target)
      query.planned = { version: read, searchPath, info, plan: planInsert(insert, info) }
    }
    const { info, plan, version } = query.planned
    const cells = plan === undefined ? undefined : cellsOf(plan, info, parameters, { timeZone: settings.timeZone, alone })
    if (plan === undefined || cells === undefined) return undefined
    if (alone) return (await writeBuffer.submit(this, info, version, cells)) ? tag : undefined
    const typed = typedParameters(plan, info, cells)
    if (typed === undefined) return undefined
    const foreseen = holding === undefined ? undefined : held.insert(holding, statement, info, cells, typed)
    if (foreseen !== undefined) return foreseen
    const transaction = await block.forWriting('shared')
    await insertPlainly({ executor, transaction, locks, images, catalog: catalog.name }, statement, info, cells, typed)
    return tag
  }
}
