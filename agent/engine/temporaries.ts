/** What only one session sees: temporary tables, views, sequences, macros, types. They hide others of their name, and are not journaled. */

import type { Answer } from './answer.ts'
import type { Block } from './block.ts'
import type { Catalog, ObjectKind } from './catalog.ts'
import { StatementType } from './duckdb.ts'
import type { Executor } from './executor.ts'
import type { Parameter } from './pgwire/backend.ts'
import { MemoryRows } from './row-stream.ts'
import type { QualifiedName, SchemaStatement, Statement } from './sql/statement.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

/** Kinds, what depends on others first: where they are listed, what their columns begin with, and which of them it is. */
const kinds = [
  ['VIEW', 'duckdb_views()', 'view', 'NOT internal'],
  ['TABLE', 'duckdb_tables()', 'table', 'NOT internal'],
  ['SEQUENCE', 'duckdb_sequences()', 'sequence', 'true'],
  ['MACRO', 'duckdb_functions()', 'function', "function_type = 'macro'"],
  ['MACRO TABLE', 'duckdb_functions()', 'function', "function_type = 'table_macro'"],
  ['TYPE', 'duckdb_types()', 'type', 'NOT internal'],
] as const

/** What has rows. */
const relations: readonly ObjectKind[] = ['table', 'view']
/** By what a schema change is about, the kinds whose names it means. */
const kindsOf: Readonly<Record<string, readonly ObjectKind[]>> = {
  TABLE: relations,
  VIEW: relations,
  COLUMN: relations,
  INDEX: ['index'],
  SEQUENCE: ['sequence'],
  TYPE: ['type'],
  MACRO: ['function'],
  FUNCTION: ['function'],
}

const rowChanges = [StatementType.INSERT, StatementType.UPDATE, StatementType.DELETE, StatementType.MERGE_INTO]

interface TemporariesOptions {
  readonly executor: Executor
  readonly block: Block
  readonly catalog: Catalog
}

export class Temporaries {
  #options: TemporariesOptions
  #any = false
  /** In the open transaction. */
  #changed = false

  constructor(options: TemporariesOptions) {
    this.#options = options
  }

  /** There may be some: a name may mean another thing than it does to others. */
  get any(): boolean {
    return this.#any
  }

  /** A table, or (`kinds`) something else. */
  async has(name: QualifiedName, kinds = relations): Promise<boolean> {
    if (!this.#any) return false
    const { executor, block, catalog } = this.#options
    // DuckDB takes the transaction's snapshot for that.
    block.touch()
    return catalog.isTemporary(executor.connection, name, kinds)
  }

  /** With a transaction, however it ended, its changes of what is temporary may have ended as well. */
  transactionEnded(): void {
    if (this.#changed) this.#options.executor.forget()
    this.#changed = false
  }

  /** Makes a schema change, if it is about what is temporary; else returns false. Throws SqlError. */
  async change(statement: SchemaStatement): Promise<boolean> {
    if (!statement.temporary && !(await this.#isChangedBy(statement))) return false
    const { executor, block } = this.#options
    this.#any = true
    await block.forReading()
    const { text, asQuery } = statement
    if (!(await (asQuery === undefined ? executor.connection.changeSchema(text) : executor.createTemporaryAs(text))))
      throw new SqlError('0A000', 'DuckDB reads this statement as something else')
    this.#forget()
    return true
  }

  /** Runs what writes rows of a temporary table. Throws SqlError. */
  async write(statement: Statement, parameters: readonly Parameter[]): Promise<Answer> {
    if (statement.kind === 'copy-in') throw new SqlError('0A000', 'COPY into a temporary table is not supported', { hint: 'use INSERT' })
    const { executor, block } = this.#options
    await block.forTemporary()
    const result = await executor.run(statement.text, parameters, { expect: rowChanges })
    const verb = statement.kind === 'insert' ? 'INSERT 0' : statement.kind.toUpperCase()
    if (!result.hasRows) return `${verb} ${result.rowsChanged}`
    const rows = await result.rest()
    return new MemoryRows(result.columns, rows, `${verb} ${rows.count}`)
  }

  /** Drops all of them, the engine's own helpers too: those are made anew whenever they are needed. */
  async drop(): Promise<void> {
    if (!this.#any) return
    const { executor, block } = this.#options
    await block.forReading()
    for (const [kind, list, prefix, those] of kinds) {
      // What was made later may refer to what was made before.
      const rows = await executor.connection.all(
        `SELECT schema_name, ${prefix}_name FROM ${list} WHERE database_name = 'temp' AND ${those} GROUP BY ALL ORDER BY max(${prefix}_oid) DESC`,
      )
      for (const [schema, name] of rows)
        await executor.connection.run(`DROP ${kind} temp.${quoteIdentifier(String(schema))}.${quoteIdentifier(String(name))}`)
    }
    this.#forget()
    // A rollback brings them back.
    this.#any = block.isOpen
  }

  /** Names mean something else from now on, and again after a rollback. */
  #forget(): void {
    this.#options.executor.forget()
    this.#changed = this.#options.block.isOpen
  }

  /** Only CREATE TEMPORARY creates such; an index is what its table is. */
  async #isChangedBy({ verb, object, on, name }: SchemaStatement): Promise<boolean> {
    if (on !== undefined) return this.has(on)
    if (verb === 'CREATE') return false
    return this.has(object === 'COLUMN' ? name.slice(0, -1) : name, kindsOf[object] ?? [])
  }
}
