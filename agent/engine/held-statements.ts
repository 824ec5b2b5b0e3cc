/**
 * Statements of one session that DuckDB is not told of before COMMIT, since what comes of them is known: plain inserts of rows that it would take (foresight.ts),
 * plain upserts (plain-upsert.ts), and UPDATEs of a row by its key whose result is known (simple-update.ts). A transaction that changes nothing else is committed together with those of other
 * clients (transaction-buffer.ts), and has a snapshot in DuckDB only where it has read before: whoever commits first wins a row, so it does not matter in which of
 * DuckDB's transactions a row is changed. Whatever it asks for after that has DuckDB begin it, if it has not, and do what was held back: so it is as if it had begun only then, which
 * nobody can tell, since nothing of the database was read for it but rows that nobody may have changed meanwhile. Plain inserts are held back beside changes of which DuckDB has been
 * told as well: many of them are one statement then.
 */

import { asRows, bytesOf, type Cell, type Rows } from '../journal/types.ts'
import { Foreseen } from './answer.ts'
import type { Block } from './block.ts'
import { type CaptureContext, captureInsert, captureUpdate, columnIndexes, imagesOf } from './capture.ts'
import { besideKey, type TableInfo } from './catalog.ts'
import type { Executor } from './executor.ts'
import type { Parameter } from './pgwire/backend.ts'
import { cellsOf, typedParameters } from './plain-insert.ts'
import { type PlainUpsert, planUpsert } from './plain-upsert.ts'
import { insertPlainly } from './row-change.ts'
import { keyedName, keyOf } from './row-conflicts.ts'
import type { SessionContext } from './session-context.ts'
import type { Settings } from './settings.ts'
import { type SimpleUpdate, simpleUpdate } from './simple-update.ts'
import type { QualifiedName, Statement } from './sql/statement.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import { TableWriter } from './table-writer.ts'
import type { HeldStatement, Transaction } from './transaction.ts'

/** What a transaction holds back at most: statements, and bytes. */
const mostHeld = 1_000
const mostBytes = 256 * 1024
/** Plain inserts into a table, one behind the other, from which on one statement for all of them is worth being prepared. */
const several = 8

interface HeldStatementsOptions {
  readonly context: SessionContext
  readonly executor: Executor
  readonly block: Block
  readonly settings: Settings
  table(name: QualifiedName): Promise<TableInfo>
}

type Insert = Extract<Statement, { kind: 'insert' }>
type Update = Extract<Statement, { kind: 'update' }>

export class HeldStatements {
  #options: HeldStatementsOptions

  constructor(options: HeldStatementsOptions) {
    this.#options = options
  }

  /** `typed`: the client's parameters. Undefined: DuckDB is to be told. Throws SqlError. */
  insert(
    transaction: Transaction,
    statement: Insert,
    info: TableInfo,
    cells: readonly Cell[],
    typed: readonly Parameter[],
  ): Foreseen | undefined {
    const { foresight, locks } = this.#options.context
    const rows = asRows(cells)
    const seq = hasRoom(transaction, rows) ? foresight.insert(transaction, info, cells) : undefined
    if (seq === undefined) return undefined
    locks.referring(info.parents, transaction)
    transaction.hold({
      info,
      cells,
      change: { kind: 'insert', table: info.table, rows },
      run: () => insertPlainly(this.#capture(transaction), statement, info, cells, typed),
    })
    return new Foreseen('INSERT 0 1', seq)
  }

  /** `alone`: it is committed as soon as it is held. Undefined: DuckDB is to be told. Throws SqlError. */
  async upsert(statement: Insert, upsert: PlainUpsert, parameters: readonly Parameter[], alone: boolean): Promise<Foreseen | undefined> {
    const { block, context, settings, table: tableOf } = this.#options
    const transaction = await block.forHolding()
    // What DuckDB has begun has a snapshot, in which the row may be another one, or none.
    if (transaction === undefined || transaction.changing || transaction.begun) return undefined
    const info = await tableOf(statement.target)
    const plan = planUpsert(upsert, info)
    const cells = plan === undefined ? undefined : cellsOf(plan, info, parameters, { timeZone: settings.timeZone, alone: false })
    if (plan === undefined || cells === undefined) return undefined
    const { table } = info
    const typed = typedParameters(plan, info, cells)
    const rows = asRows(cells)
    const change = { kind: 'upsert', table, rows, changed: besideKey(table) } as const
    const key = keyOf(change, 0)
    // Its statements of a kind are done together: of two that write the same row only UPDATEs are told apart.
    if (typed === undefined || !hasRoom(transaction, rows) || transaction.written.has(keyedName(table), key)) return undefined
    context.rows.checkOpen(transaction, table, key)
    if (!context.foresight.claim(transaction, info, cells)) return undefined
    transaction.hold({
      info,
      cells,
      change,
      run: async () => void (await captureInsert(this.#capture(transaction), statement, info, typed)),
    })
    transaction.isBrief = alone
    transaction.known.set(keyedName(table), key, cells)
    return new Foreseen('INSERT 0 1', 0)
  }

  /** The same. */
  async update(statement: Update, parameters: readonly Parameter[], alone: boolean): Promise<string | Foreseen | undefined> {
    const { block, context, table: tableOf } = this.#options
    const transaction = await block.forHolding()
    if (transaction === undefined || transaction.changing) return undefined
    const info = await tableOf(statement.target)
    const { table } = info
    if (info.checked || info.indexed || info.image.includes(-1)) return undefined
    const simple = simpleUpdate(statement, info, parameters)
    if (simple === undefined || !simple.canBeOutright) return undefined
    const known = context.images.before(transaction, table, simple.key)
    const before = known ?? (await this.#read(transaction, info, simple))
    if (before === undefined) return undefined
    const after = simple.apply(before)
    const rows = asRows(after)
    const changed = columnIndexes(info, statement.assigned)
    const isTaken = (column: number) => after[column] !== null || table.columns[column]?.nullable
    const isTied = (column: number) => info.referencedColumns.includes(column) || info.foreignKeys.some((key) => key.includes(column))
    if (!hasRoom(transaction, rows) || simple.outright(after) === undefined || !changed.every(isTaken) || changed.some(isTied))
      return undefined
    context.rows.checkOpen(transaction, table, simple.key)
    if (info.parents.length > 0) context.locks.referring(info.parents, transaction)
    transaction.hold({
      info,
      cells: after,
      change: { kind: 'update', table, rows, changed },
      run: async () => {
        const { count } = await captureUpdate(this.#capture(transaction), statement, info, parameters)
        if (count !== 1) throw new SqlError('40001', `another transaction has changed the same row of ${table.name}`, { hint: 'try again' })
      },
    })
    transaction.isBrief = alone
    transaction.known.set(keyedName(table), simple.key, after)
    // What was read may be of a commit that has no seq yet.
    return known === undefined ? 'UPDATE 1' : new Foreseen('UPDATE 1', context.images.seqOf(known))
  }

  /**
   * The row as it is now, all columns. Where it is changed meanwhile, whether it is seen here or not, that will be a conflict (row-conflicts.ts). Undefined: there is
   * none, or it is another one than at the transaction's first statement.
   */
  async #read(transaction: Transaction, info: TableInfo, { key, keyValue }: SimpleUpdate): Promise<readonly Cell[] | undefined> {
    if (transaction.written.has(keyedName(info.table), key) || this.#options.context.rows.hasChanged(transaction, info.table, key))
      return undefined
    this.#options.block.touch()
    const column = quoteIdentifier(info.table.columns[info.table.primaryKey[0] as number]!.name)
    const found = await this.#options.executor.run(`SELECT * FROM ${info.path} WHERE ${column} = $1`, [keyValue], { brief: true })
    const { count, columns } = imagesOf(info, await found.rest())
    return count === 1 ? columns.map(([cell]) => cell as Cell) : undefined
  }

  /** Has DuckDB do what was held back. Throws SqlError. */
  async run(held: readonly HeldStatement[], transaction: Transaction): Promise<void> {
    for (let from = 0; from < held.length; ) {
      const { info, change } = held[from] as HeldStatement
      let to = from + 1
      while (change.kind === 'insert' && held[to]?.change.kind === 'insert' && held[to]?.info === info) to++
      const part = held.slice(from, to)
      if (part.length < several) for (const { run } of part) await run()
      else await this.#insertMany(info, part, transaction)
      from = to
    }
  }

  async #insertMany(info: TableInfo, inserts: readonly HeldStatement[], transaction: Transaction): Promise<void> {
    const writer = new TableWriter(this.#options.executor.connection, info)
    try {
      const insert = await writer.statementFor(asRows(...inserts.map(({ cells }) => cells)))
      await insert()
    } finally {
      writer.close()
    }
    for (const { change, cells } of inserts) {
      transaction.add(change)
      transaction.notePlainRow(info, cells)
    }
  }

  #capture(transaction: Transaction): CaptureContext {
    const { context, executor } = this.#options
    const { locks, images, catalog } = context
    return { executor, transaction, locks, images, catalog: catalog.name }
  }
}

function hasRoom({ held, heldBytes }: Transaction, rows: Rows): boolean {
  return held.length < mostHeld && heldBytes + bytesOf(rows) <= mostBytes
}
