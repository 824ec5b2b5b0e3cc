/**
 * The statements of one session that need not be run as such, since what comes of them is known: plain inserts (insert-ways.ts), plain upserts and UPDATEs of a row by its
 * key (held-statements.ts); with bound parameters, or with their values in the text (written-values.ts).
 */

import { systemClock } from '../clock.ts'
import type { Foreseen } from './answer.ts'
import type { Block } from './block.ts'
import type { TableInfo } from './catalog.ts'
import type { Executor } from './executor.ts'
import { HeldStatements } from './held-statements.ts'
import { InsertWays } from './insert-ways.ts'
import { LastUsed } from './last-used.ts'
import type { Parameter } from './pgwire/backend.ts'
import { plainInsert } from './plain-insert.ts'
import { plainUpsert } from './plain-upsert.ts'
import type { Prepared } from './preparation.ts'
import { RowConflict } from './row-conflicts.ts'
import type { SessionContext } from './session-context.ts'
import type { Settings } from './settings.ts'
import { parseStatement, type QualifiedName, type Statement } from './sql/statement.ts'
import { tokenize } from './sql/tokens.ts'
import type { HeldStatement, Transaction } from './transaction.ts'
import { withParameters } from './written-values.ts'

/** Statements with values in their text that are kept, with parameters in their place: a program writes a few. */
const mostWritten = 64

/** How long a statement by itself gives way to others that change the same row, ms. */
const patience = 5_000
/** ms before another attempt; they double. */
const firstPause = 1
const longestPause = 16

interface ForeseenStatementsOptions {
  readonly context: SessionContext
  readonly executor: Executor
  readonly block: Block
  readonly settings: Settings
  table(name: QualifiedName): Promise<TableInfo>
  /** Whether a name can only mean a table that all see, which the user may change. */
  writesPlainly(): boolean
  prepare(statement: Statement): Promise<Prepared>
  /** Of whatever stops the statement. */
  signal(): AbortSignal | undefined
}

export class ForeseenStatements {
  #options: ForeseenStatementsOptions
  #inserts: InsertWays
  #held: HeldStatements
  /** By their text. */
  #written = new LastUsed<string, Prepared>(mostWritten)

  constructor(options: ForeseenStatementsOptions) {
    this.#options = options
    this.#held = new HeldStatements(options)
    this.#inserts = new InsertWays({ ...options, held: this.#held })
  }

  /** As InsertWays.short. */
  short(query: Prepared, parameters: readonly Parameter[]): Promise<boolean> | undefined {
    return this.#options.writesPlainly() ? this.#inserts.short(query, parameters) : undefined
  }

  /** Has DuckDB do what was held back. Throws SqlError. */
  run(held: readonly HeldStatement[], transaction: Transaction): Promise<void> {
    return this.#held.run(held, transaction)
  }

  /** `isLast`: nothing else belongs to its transaction, unless one is open. What it answers; undefined: it is to be run. Throws SqlError. */
  async bound(query: Prepared, parameters: readonly Parameter[], isLast: boolean): Promise<string | Foreseen | undefined> {
    const { block, writesPlainly } = this.#options
    const { statement, insert, upsert } = query
    if (statement !== undefined && parameters.length === 0) return this.written(statement, isLast)
    if (statement === undefined || block.schemaChanged || !(isLast || block.isOpen) || !writesPlainly()) return undefined
    const isAlone = isLast && !block.isOpen
    if (insert !== undefined) return this.#inserts.long(query, parameters, isAlone)
    const held =
      statement.kind === 'update'
        ? () => this.#held.update(statement, parameters, isAlone)
        : statement.kind === 'insert' && upsert !== undefined
          ? () => this.#held.upsert(statement, upsert, parameters, isAlone)
          : undefined
    return isAlone && held !== undefined ? this.#alone(held) : held?.()
  }

  /** By itself it has seen nothing that would have to be as it was: where another such statement was first to change the row, it is done anew. */
  async #alone(held: () => Promise<string | Foreseen | undefined>): Promise<string | undefined> {
    const { block, signal, settings } = this.#options
    const end = performance.now() + Math.min(patience, settings.timeout('lock_timeout') || patience)
    for (let pause = firstPause; ; pause = Math.min(2 * pause, longestPause)) {
      try {
        const answer = await held()
        if (answer === undefined) return undefined
        await block.commitImplicit()
        return typeof answer === 'string' ? answer : answer.tag
      } catch (error) {
        if (!(error instanceof RowConflict && error.isBrief) || performance.now() > end) throw error
        await block.rollback()
        // Not all at the same moment: the first of them is in the way of the others again.
        await systemClock.sleep(pause * (0.5 + Math.random()))
        signal()?.throwIfAborted()
      }
    }
  }

  /** The same for a statement whose values stand in its text. */
  async written(statement: Statement, isLast: boolean): Promise<string | Foreseen | undefined> {
    const { block, writesPlainly } = this.#options
    if (!(isLast || block.isOpen) || !writesPlainly()) return undefined
    const found = withParameters(statement)
    const query = found === undefined ? undefined : await this.#withParameters(found.text)
    return query === undefined || found === undefined ? undefined : this.bound(query, found.parameters, isLast)
  }

  /** DuckDB has read it, and found nothing wrong; else undefined: it will say of the statement as it was written what is. */
  async #withParameters(text: string): Promise<Prepared | undefined> {
    const known = this.#written.get(text)
    if (known !== undefined) return known
    const query = await this.#prepare(parseStatement(text, tokenize(text)))
    if (query !== undefined) this.#written.set(text, query)
    return query
  }

  async #prepare(statement: Statement): Promise<Prepared | undefined> {
    if (statement.kind === 'insert' && plainInsert(statement) === undefined && plainUpsert(statement) === undefined) return undefined
    return this.#options.prepare(statement).catch(() => undefined)
  }
}
