/**
 * Applies journaled transactions to DuckDB (R6). One DuckDB transaction for each, set-based: the images of one statement go in together.
 * Neighbours whose order cannot matter go in together by their net effect (agent/engine/net-changes.ts): that is where the speed is.
 */

import { messageOf } from '../errors.ts'
import type { Change, Rows, Table, Transaction } from '../journal/types.ts'
import { bytesOf, isSpilled, tableName } from '../journal/types.ts'
import { step } from '../step.ts'
import type { Connection } from './duckdb.ts'
import type { Appender } from './duckdb-appender.ts'
import { isCorruption, isFatal, isOrdinaryAtCommit, isShortage } from './duckdb-errors.ts'
import { isAlone, NetChanges } from './net-changes.ts'
import { nextValue } from './sequences.ts'
import { pathEntries, quoteIdentifier, quoteString, useCatalog } from './sql/tokens.ts'
import { hasUniqueAmong, type TableTies, TiesOfTables } from './table-ties.ts'

/** Rows of one statement that are changed together, where it may be taken apart: more take more memory than the statement itself did. */
const togetherRows = 500_000
/** Bytes that wait in an appender: it holds them in memory of its own, beyond DuckDB's limit. */
const appendedBytes = 16 << 20

export interface ReplayResult {
  replayed: number
  /** Transactions that DuckDB refused; they are skipped. */
  refused: { seq: number; error: string }[]
}

/** The transaction of that seq; whether DuckDB takes it is to be seen between the two calls. */
export interface Doubtful {
  readonly seq: number
  begin(): void
  end(): void
}

const imagesTable = 'daemonguard_images'
const imagesPath = `temp.main.${imagesTable}`

type RowChange = Extract<Change, { table: Table }>

export class Replay {
  #connection: Connection
  #catalog: string
  #result: ReplayResult = { replayed: 0, refused: [] }
  #group = new NetChanges()
  /** A COMMIT is under way, or has failed in a way that leaves DuckDB's state unknown. */
  #inDoubt = false
  #trying = false
  /** Rows in the temporary table that are still to be applied. */
  #staged = 0
  #appender: { table: Table; appender: Appender } | undefined
  /** Bytes that the appender holds, about. */
  #appended = 0
  #ties: TiesOfTables

  constructor(connection: Connection, catalog: string) {
    this.#connection = connection
    this.#catalog = catalog
    this.#ties = new TiesOfTables(connection, catalog)
  }

  /**
   * Applies them all, in order. Throws only when the instance itself fails. `doubtful`: one that DuckDB may have refused; it goes in by itself, since a net effect takes
   * what was committed for granted.
   */
  async run(transactions: Iterable<Transaction>, doubtful?: Doubtful): Promise<ReplayResult> {
    for (const transaction of transactions) {
      if (transaction.seq === doubtful?.seq) {
        await this.#flush()
        await this.#try(transaction, doubtful)
        continue
      }
      const ties = await this.#tiesOf(transaction)
      const mayJoin = !isAlone(transaction, ties)
      if (!mayJoin || !this.#group.add(transaction, ties)) {
        await this.#flush()
        if (!mayJoin || !this.#group.add(transaction, ties)) await this.#alone(transaction)
      }
      if (this.#group.isFull) await this.#flush()
    }
    await this.#flush()
    await this.#connection.run(useCatalog(this.#catalog))
    await this.#connection.run(`DROP TABLE IF EXISTS ${imagesPath}`)
    return this.#result
  }

  async #tiesOf({ changes }: Transaction): Promise<ReadonlyMap<string, TableTies>> {
    const ties = new Map<string, TableTies>()
    if (isSpilled(changes)) return ties
    for (const change of changes) if ('table' in change) ties.set(tableName(change.table), await this.#ties.of(change.table))
    return ties
  }

  async #flush(): Promise<void> {
    const { transactions } = this.#group
    if (transactions.length === 0) return
    const [first] = transactions
    const changes = transactions.length === 1 ? (first as Transaction).changes : this.#group.changes()
    this.#group = new NetChanges()
    if (transactions.length === 1) return this.#alone(first as Transaction)
    try {
      await this.#apply(changes)
      this.#result.replayed += transactions.length
    } catch (error) {
      this.#refuseOnlyIfSound(error)
      // One of them is the culprit: find it.
      for (const transaction of transactions) await this.#alone(transaction)
    }
  }

  async #alone(transaction: Transaction): Promise<void> {
    try {
      await this.#apply(transaction.changes)
      this.#result.replayed++
    } catch (error) {
      this.#refuseOnlyIfSound(error)
      this.#result.refused.push({ seq: transaction.seq, error: messageOf(error) })
    }
  }

  /** DuckDB decides on the doubtful one: what goes wrong is no fault of the file's. */
  get isTrying(): boolean {
    return this.#trying
  }

  /** What ends the process leaves it begun. */
  async #try(transaction: Transaction, { begin, end }: Doubtful): Promise<void> {
    this.#trying = true
    begin()
    try {
      await this.#alone(transaction)
    } catch (error) {
      if (isShortage(error) || isCorruption(error)) end()
      throw error
    }
    end()
    this.#trying = false
  }

  #refuseOnlyIfSound(error: unknown): void {
    if (isFatal(error) || isCorruption(error) || isShortage(error) || this.#inDoubt) throw error
  }

  async #apply(changes: Transaction['changes']): Promise<void> {
    await this.#connection.run('BEGIN TRANSACTION')
    try {
      for (const change of changes) await this.#change(change)
      this.#endAppend()
      step('REPLAY:COMMIT')
      this.#inDoubt = true
      await this.#connection.run('COMMIT')
      this.#inDoubt = false
    } catch (error) {
      if (isOrdinaryAtCommit(error)) this.#inDoubt = false
      this.#appender?.appender.close()
      this.#appender = undefined
      this.#appended = 0
      this.#staged = 0
      await this.#connection.run('ROLLBACK').catch(() => {})
      throw error
    }
  }

  async #change(change: Change): Promise<void> {
    if (change.kind !== 'insert' || !sameTable(this.#appender?.table, change.table)) this.#endAppend()
    switch (change.kind) {
      case 'insert':
        return this.#insert(change.table, change.rows)
      case 'delete':
        return this.#delete(change)
      case 'update':
        return this.#update(change)
      case 'upsert':
        return this.#upsert(change)
      case 'schema':
        this.#ties.forget()
        await this.#connection.run(useCatalog(this.#catalog))
        await this.#setSearchPath(change.searchPath)
        await this.#connection.run(`SET TimeZone = ${quoteString(change.timeZone)}`)
        for (const sql of change.statements ?? [change.sql]) {
          if (!(await this.#connection.changeSchema(sql))) await this.#connection.run(sql)
        }
        return
      case 'sequence':
        return this.#sequence(change)
    }
  }

  /** Schemas of the path that have been dropped since it was set are left out: DuckDB refuses them now, and passed them over then. */
  async #setSearchPath(searchPath: string): Promise<void> {
    const rows = await this.#connection.all(`SELECT schema_name FROM duckdb_schemas() WHERE database_name = ${quoteString(this.#catalog)}`)
    const there = new Set(rows.map(([schema]) => String(schema)))
    const path = pathEntries(searchPath).filter((schema) => there.has(schema))
    await this.#connection.run(`SET search_path = ${quoteString(path.map(quoteIdentifier).join(',') || 'main')}`)
  }

  async #insert(table: Table, rows: Rows): Promise<void> {
    // DuckDB refuses a row and its parent in one append: of a table that refers to itself, each statement's rows go by themselves.
    if (this.#appender !== undefined && (await this.#ties.of(table)).parents.has(tableName(table))) this.#endAppend()
    this.#appender ??= { table, appender: await this.#connection.appender(table.schema, table.name, this.#catalog) }
    this.#appender.appender.append(rows)
    this.#appended += bytesOf(rows)
    if (this.#appended < appendedBytes) return
    this.#appender.appender.flush()
    this.#appended = 0
    await turn()
  }

  #endAppend(): void {
    const current = this.#appender
    if (current === undefined) return
    current.appender.flush()
    current.appender.close()
    this.#appender = undefined
    this.#appended = 0
  }

  /** In parts: of one statement's deletions none depends on another. */
  async #delete({ table, rows, more }: Extract<Change, { kind: 'delete' }>): Promise<void> {
    const sql = `DELETE FROM ${this.#path(table)} AS t USING ${imagesPath} AS s WHERE ${this.#join(table)}`
    for (let start = 0; start < rows.count; start += togetherRows) {
      const end = Math.min(start + togetherRows, rows.count)
      await this.#stage(table, table.primaryKey, { count: end - start, columns: rows.columns.map((column) => column.slice(start, end)) })
      if ((end < rows.count || more) && this.#staged < togetherRows) continue
      await this.#expect(sql, table)
    }
  }

  /** In one statement, however many rows, where a constraint or an index holds what changes: values may be swapped between rows. */
  async #update(change: Extract<Change, { kind: 'update' }>): Promise<void> {
    const { table, changed, rows, more } = change
    if (changed.length === 0) return
    const columns = [...table.primaryKey, ...changed]
    await this.#stage(table, columns, { count: rows.count, columns: columns.map((i) => rows.columns[i] ?? []) })
    if (more && (this.#staged < togetherRows || hasUniqueAmong(await this.#ties.of(table), table, changed))) return
    const set = changed.map((i) => `${this.#name(table, i)} = s.${this.#name(table, i)}`).join(', ')
    await this.#expect(`UPDATE ${this.#path(table)} AS t SET ${set} FROM ${imagesPath} AS s WHERE ${this.#join(table)}`, table)
  }

  async #upsert(change: Extract<Change, { kind: 'upsert' }>): Promise<void> {
    const { table, changed, rows } = change
    const all = table.columns.map((_, i) => i)
    await this.#stage(table, all, rows)
    this.#staged = 0
    const names = all.map((i) => this.#name(table, i)).join(', ')
    const key = table.primaryKey.map((i) => this.#name(table, i)).join(', ')
    const set = changed.map((i) => `${this.#name(table, i)} = excluded.${this.#name(table, i)}`).join(', ')
    const action = changed.length === 0 ? 'NOTHING' : `UPDATE SET ${set}`
    await this.#connection.run(
      `INSERT INTO ${this.#path(table)} (${names}) SELECT ${names} FROM ${imagesPath} ON CONFLICT (${key}) DO ${action}`,
    )
  }

  /** Draws until the sequence has passed `value`: there is no setval in DuckDB. */
  async #sequence(change: Extract<Change, { kind: 'sequence' }>): Promise<void> {
    const where = `database_name = ${quoteString(this.#catalog)} AND schema_name = ${quoteString(change.schema)} AND sequence_name = ${quoteString(change.name)}`
    const name = quoteString(`${quoteIdentifier(change.schema)}.${quoteIdentifier(change.name)}`)
    const [row] = await this.#connection.all(
      `SELECT ${nextValue}, increment_by, min_value, max_value FROM duckdb_sequences() WHERE ${where}`,
    )
    if (row === undefined) throw new Error(`there is no sequence ${change.schema}.${change.name}`)
    const [next, increment, least, greatest] = row.map((value) => BigInt(value as bigint)) as [bigint, bigint, bigint, bigint]
    const wanted = change.value + increment
    let missing = (wanted - next) / increment
    // It cannot be ahead on this pass: one that cycles has begun anew, perhaps on other values.
    if (missing < 0n || (wanted - next) % increment !== 0n) {
      const [first, last] = increment > 0n ? [least, greatest] : [greatest, least]
      missing = (last - next) / increment + 1n + (wanted - first) / increment
    }
    if (missing > 0n) await this.#connection.all(`SELECT max(nextval(${name})) FROM range(${missing})`)
  }

  /** Puts images of some columns into a temporary table of the same types, behind those of the same statement that are there. */
  async #stage(table: Table, columns: readonly number[], rows: Rows): Promise<void> {
    if (this.#staged === 0) {
      const names = columns.map((i) => this.#name(table, i)).join(', ')
      await this.#connection.run(`CREATE OR REPLACE TEMPORARY TABLE ${imagesPath} AS SELECT ${names} FROM ${this.#path(table)} LIMIT 0`)
    }
    await this.#connection.append('main', imagesTable, 'temp', rows)
    this.#staged += rows.count
  }

  /** Applies what is staged: every row of it must find its own. */
  async #expect(sql: string, table: Table): Promise<void> {
    const count = this.#staged
    this.#staged = 0
    const [row] = await this.#connection.all(sql)
    const found = Number(row?.[0])
    if (found !== count) throw new Error(`${found} of ${count} rows were found in ${tableName(table)}`)
  }

  #join(table: Table): string {
    return table.primaryKey.map((i) => `t.${this.#name(table, i)} = s.${this.#name(table, i)}`).join(' AND ')
  }

  #name(table: Table, column: number): string {
    return quoteIdentifier(table.columns[column]?.name ?? '')
  }

  #path(table: Table): string {
    return `${quoteIdentifier(this.#catalog)}.${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)}`
  }
}

/** A turn of the event loop: what DuckDB's binding no longer needs is freed there, and the engine's memory is looked after. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function sameTable(one: RowChange['table'] | undefined, other: Table): boolean {
  return one !== undefined && one.schema === other.schema && one.name === other.name
}
