/** Runs SQL on one session's DuckDB connection: prepares, keeps what will come again, binds, runs. */

import type { ColumnType } from '../journal/types.ts'
import type { Analysts } from './analysts.ts'
import type { Connection, PreparedStatement, Result, StatementType } from './duckdb.ts'
import type { Interruption } from './interruption.ts'
import { LastUsed } from './last-used.ts'
import type { Parameter } from './pgwire/backend.ts'
import type { StatementSlots } from './slots.ts'
import { tokenize } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

const keptStatements = 128

interface Kept {
  readonly statement: PreparedStatement
  /** order[i]: the client's parameter (from 0) that is DuckDB's parameter i. */
  readonly order: readonly number[]
  /** As a query, it had its rows at once the last time. */
  quick?: boolean
}

/** ms that a thread has worked for a query up to its first rows, below which it costs more to ask one than to do it. */
const quickly = 1
/** ms after which one that was quick is so no more: it may have waited for others. */
const slowly = 50

interface RunOptions {
  /** Rows are fetched as they are read. */
  stream?: boolean
  /** It only reads: the threads of analysts.ts run it. */
  query?: boolean
  /** What DuckDB must take the statement for: our reading of its text decides how it is captured. Throws 0A000. */
  expect?: readonly StatementType[]
  /** It is known to be small, whatever its parameters are: it may run on the event loop, and cannot be interrupted. */
  brief?: boolean
  /** Called when DuckDB begins with it. */
  begun?: () => void
  /** Whether the prepared statement is kept for the next time. Default: when it has parameters; without any it is most likely typed text. */
  keep?: boolean
}

export class Executor {
  readonly connection: Connection
  #kept = new LastUsed<string, Kept>(keptStatements, ({ statement }) => statement.close())
  /** Version of the catalog that they were prepared with. */
  #schema: number | undefined

  #slots: StatementSlots
  #analysts: Analysts
  #interruption: Interruption

  constructor(connection: Connection, slots: StatementSlots, analysts: Analysts, interruption: Interruption) {
    this.connection = connection
    this.#slots = slots
    this.#analysts = analysts
    this.#interruption = interruption
  }

  /** Prepared, with its parameters in the client's order; kept for the next time. */
  async prepare(sql: string): Promise<Kept> {
    const known = this.#kept.get(sql)
    if (known !== undefined) return known
    const kept = await this.#prepareNew(sql)
    this.#kept.set(sql, kept)
    return kept
  }

  /** Runs `sql`, which may name any of the client's parameters. */
  async run(sql: string, parameters: readonly Parameter[] = [], options: RunOptions = {}): Promise<Result> {
    const { stream = false, query = false, brief = false, expect, begun, keep = parameters.length > 0 } = options
    const kept = keep ? await this.prepare(sql) : await this.#prepareNew(sql)
    try {
      if (expect !== undefined && !expect.includes(kept.statement.type))
        throw new SqlError('0A000', 'DuckDB reads this statement as something else')
      kept.order.forEach((from, to) => {
        const parameter = parameters[from]
        if (parameter === undefined) throw new SqlError('08P01', `parameter $${from + 1} was not bound`)
        bind(kept.statement, to, parameter)
      })
      const { signal } = this.#interruption
      signal?.throwIfAborted()
      if (brief) return await kept.statement.runBriefly()
      const large = query && kept.quick !== true
      // One at a time runs where all else does, until there is a thread: several would leave nothing for who commits.
      if (large && !this.#analysts.ready && this.#slots.queries.isUsed) {
        await this.#analysts.started(signal)
        signal?.throwIfAborted()
      }
      if (large && this.#analysts.ready && this.connection.isFree) {
        begun?.()
        const { result, ms } = await kept.statement.analyse(this.#analysts)
        kept.quick = keep && ms < quickly
        return result
      }
      const work = () => {
        begun?.()
        return stream ? kept.statement.stream() : kept.statement.run()
      }
      if (!query) return await this.#slots.writes.run(work, signal)
      this.#analysts.begin()
      const since = performance.now()
      const result = await this.#slots.queries.run(work, signal)
      if (performance.now() - since > slowly) kept.quick = false
      return result
    } finally {
      if (!keep) kept.statement.close()
    }
  }

  /** Makes something temporary of a query, as several sessions may at a time: it takes as long as that. False: DuckDB reads it as something else. */
  createTemporaryAs(sql: string): Promise<boolean> {
    return this.#slots.temporaries.run(() => this.connection.changeSchema(sql), this.#interruption.signal)
  }

  /**
   * Drops what was prepared for another version of the catalog: DuckDB runs it as it should be, but goes on telling of the types that its parameters and columns had.
   * `version`: undefined for a schema that has no number.
   */
  forSchema(version: number | undefined): void {
    if (version === undefined || version !== this.#schema) this.forget()
    this.#schema = version
  }

  /** Drops what is prepared: its names mean something else by now (search path, temporary tables), or the session ends. */
  forget(): void {
    for (const { statement } of this.#kept.values()) statement.close()
    this.#kept.clear()
  }

  async #prepareNew(sql: string): Promise<Kept> {
    const dense = renumber(sql)
    return { statement: await this.connection.prepare(dense.sql), order: dense.order }
  }
}

/** DuckDB wants its parameters numbered without gaps; a clause taken out of a statement may name only some. */
export function renumber(sql: string): { sql: string; order: number[] } {
  if (!sql.includes('$')) return { sql, order: [] }
  const order: number[] = []
  let text = ''
  let at = 0
  for (const token of tokenize(sql)) {
    if (token.kind !== 'parameter') continue
    const index = Number(token.text.slice(1)) - 1
    if (!Number.isInteger(index) || index < 0) throw new SqlError('42P02', `there is no parameter ${token.text}`)
    let dense = order.indexOf(index)
    if (dense === -1) dense = order.push(index) - 1
    text += `${sql.slice(at, token.start)}$${dense + 1}`
    at = token.end
  }
  return { sql: text + sql.slice(at), order }
}

function bind(statement: PreparedStatement, index: number, parameter: Parameter): void {
  if (parameter === null) statement.bindNull(index)
  else if (typeof parameter === 'string') statement.bindText(index, parameter)
  else statement.bindCell(index, parameter.type as ColumnType, parameter.cell)
}
