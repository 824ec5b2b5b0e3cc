/**
 * Whether DuckDB would take a row, known without asking it: its key is in a range that is known to be free (free-keys.ts), and what its foreign keys name is known
 * to be there, since rows that name it were committed and nobody has deleted from the parents since. Of a table for which more can be said against a row
 * (CHECK, UNIQUE) nothing is known. A mistake here costs no row: it is DuckDB that says yes or no, before COMMIT is answered; but it would say no later than a client expects.
 */

import { messageOf } from '../errors.ts'
import type { Cell } from '../journal/types.ts'
import type { Catalog, TableInfo } from './catalog.ts'
import type { CommitPipeline } from './commit.ts'
import type { Connection } from './duckdb.ts'
import { FreeKeys } from './free-keys.ts'
import type { ParentLocks } from './parent-locks.ts'
import { cellText, keyedName } from './row-conflicts.ts'
import { quoteIdentifier } from './sql/tokens.ts'
import type { Claim, Transaction } from './transaction.ts'

/** Types of keys of which there are ranges, and their last value. */
const largest: Readonly<Record<string, bigint>> = { INTEGER: (1n << 31n) - 1n, BIGINT: (1n << 63n) - 1n }
/** Parents of a foreign key that are kept. */
const mostParents = 10_000
/** A look for free keys reads a part of the table, or all of it: looks may take this part of the time, those for all tables together. */
const partForLooking = 0.02
/** ms between looks at a table that find too little. */
const longestPause = 60_000
/** Rows that a look should be good for. */
const worthwhile = 8
/** Tables of which it is remembered how much their looks were good for. */
const mostTables = 256

/** What is found while a look is under way counts for it as well. */
interface Look {
  readonly taken: (readonly [first: bigint, last: bigint])[]
  /** Keys were inserted that nobody has counted. */
  spoiled: boolean
}

interface KnownParents {
  /** How often somebody had deleted from the parent. */
  deletions: number
  /** Seq of a commit that says so, by the text of the columns that name it. */
  readonly keys: Map<string, number>
}

interface Known {
  readonly free: FreeKeys
  /** Keys that are foreseen to be there. */
  readonly claimed: Map<bigint, Claim>
  /** In the order of the table's foreign keys. */
  readonly parents: readonly KnownParents[]
  look: Look | undefined
  readonly worth: Worth
}

/** What looks at a table are good for, in whatever schema. */
interface Worth {
  /** Rows that were foreseen since the last one. */
  hits: number
  /** ms; and until when nobody looks, `performance.now()`. */
  pause: number
  pausedUntil: number
}

export interface ForesightOptions {
  readonly catalog: Catalog
  readonly locks: ParentLocks
  readonly pipeline: CommitPipeline
  readonly connect: () => Promise<Connection>
  readonly failed: (reason: string) => void
}

export class Foresight {
  #options: ForesightOptions
  /** By keyedName: of tables into which rows were to be foreseen. */
  #tables = new Map<string, Known>()
  #version = -1
  /** Seq of the last commit that may have changed the schema. */
  #versionSeq = 0
  #worth = new Map<string, Worth>()
  #connection: Connection | undefined
  #looking = false
  #pausedUntil = 0

  constructor(options: ForesightOptions) {
    this.#options = options
  }

  /** DuckDB reads a table for it. */
  get isLooking(): boolean {
    return this.#looking
  }

  /**
   * The row (all columns, in order) would be taken: the seq of the last commit that says so, 0 for none that is not durable. Its key counts as used until the
   * transaction ends. Undefined: that is for DuckDB to say.
   */
  insert(transaction: Transaction, info: TableInfo, cells: readonly Cell[]): number | undefined {
    const key = keyOf(info, cells)
    if (info.checked || info.temporary || info.image.includes(-1) || key === undefined) return undefined
    const known = this.#known(info)
    // What DuckDB has begun has a snapshot, and rows of its own.
    const latest = transaction.begun ? transaction.startSeq : Number.POSITIVE_INFINITY
    const own = transaction.inserted.get(keyedName(info.table))
    let seq = this.#versionSeq
    let isCertain = own === undefined || key === 'none' || !own.mayHave(key)
    for (const [i, { keys }] of this.#parents(info, known).entries()) {
      const parent = parentOf(info, i, cells)
      const at = parent === undefined ? 0 : keys.get(parent)
      if (at === undefined || at > latest) isCertain = false
      else seq = Math.max(seq, at)
    }
    if (key !== 'none' && !known.free.has(key)) {
      void this.#lookFrom(info, known, key)
      isCertain = false
    }
    if (!isCertain || (key !== 'none' && !this.#claim(transaction, info, known, key))) return undefined
    known.worth.hits++
    return seq
  }

  /**
   * The row will be there when the transaction has committed, whether it is now or not: until then nobody is foreseen to insert its key. False: somebody is already,
   * and which of the two comes first is for DuckDB to say.
   */
  claim(transaction: Transaction, info: TableInfo, cells: readonly Cell[]): boolean {
    const key = keyOf(info, cells)
    // Of others nobody is foreseen to insert any.
    if (typeof key !== 'bigint') return true
    return this.#claim(transaction, info, this.#known(info), key)
  }

  /** False: somebody has claimed it already, this transaction or another one. */
  #claim(transaction: Transaction, { table }: TableInfo, { free, claimed }: Known, key: bigint): boolean {
    if (claimed.has(key)) return false
    const claim = { table, key, isFree: free.has(key) }
    free.take(key)
    claimed.set(key, claim)
    transaction.claims.push(claim)
    return true
  }

  /** Rows of these plain inserts (all columns) are there. To be called before whoever wrote them lets go of their parents (parent-locks.ts). */
  inserted(info: TableInfo, rows: readonly (readonly Cell[])[], seq: number): void {
    const known = this.#knownBefore(keyedName(info.table))
    if (known === undefined) return
    const parents = this.#parents(info, known)
    for (const cells of rows) {
      const key = keyOf(info, cells)
      if (typeof key === 'bigint') take(known, key)
      for (const [i, { keys }] of parents.entries()) {
        const parent = parentOf(info, i, cells)
        if (parent === undefined || keys.has(parent)) continue
        if (keys.size >= mostParents) keys.clear()
        keys.set(parent, seq)
      }
    }
  }

  /** The same for whatever the transaction has inserted. */
  committed(transaction: Transaction, seq: number): void {
    const { inserted, plainRows } = transaction
    if (this.#tables.size === 0) return
    for (const [table, keys] of inserted) {
      const known = this.#knownBefore(table)
      if (known === undefined) continue
      const { ranges } = keys
      if (ranges !== 'any') for (const [first, last] of ranges) take(known, first, last)
      else {
        known.free.clear()
        for (const claim of known.claimed.values()) claim.isFree = false
        if (known.look !== undefined) known.look.spoiled = true
      }
    }
    // It may have deleted a row again, and then its parent.
    for (const { info, cells } of plainRows) if (!this.#options.locks.deletes(transaction, info.parents)) this.inserted(info, [cells], seq)
  }

  /** It has committed, or DuckDB has been given its rows: their keys are its own affair, and are not given back. */
  given({ claims }: Transaction): void {
    for (const claim of claims) this.#unclaim(claim)
    claims.length = 0
  }

  /** The transaction was rolled back: keys of its that nobody else has inserted meanwhile are free again. */
  rolledBack({ claims }: Transaction): void {
    for (const claim of claims) {
      const known = this.#unclaim(claim)
      if (claim.isFree) known?.free.add(claim.key, claim.key)
    }
    claims.length = 0
  }

  /** Undefined: with another schema nothing is known any more. */
  #unclaim(claim: Claim): Known | undefined {
    const known = this.#knownBefore(keyedName(claim.table))
    if (known?.claimed.get(claim.key) !== claim) return undefined
    known.claimed.delete(claim.key)
    return known
  }

  #known(info: TableInfo): Known {
    const name = keyedName(info.table)
    let known = this.#knownBefore(name)
    if (known === undefined) {
      const parents = info.parents.map((parent) => ({ deletions: this.#options.locks.deletions(parent), keys: new Map<string, number>() }))
      known = { free: new FreeKeys(), claimed: new Map(), parents, look: undefined, worth: this.#worthOf(name) }
      this.#tables.set(name, known)
    }
    return known
  }

  #worthOf(table: string): Worth {
    const worth = this.#worth.get(table) ?? { hits: worthwhile, pause: 0, pausedUntil: 0 }
    if (this.#worth.size >= mostTables) this.#worth.clear()
    this.#worth.set(table, worth)
    return worth
  }

  #knownBefore(table: string): Known | undefined {
    const { version } = this.#options.catalog
    if (version !== this.#version) {
      this.#tables.clear()
      this.#version = version
      this.#versionSeq = this.#options.pipeline.writer.nextSeq - 1
    }
    return this.#tables.get(table)
  }

  /** Without those that may have been deleted. */
  #parents({ parents }: TableInfo, known: Known): readonly KnownParents[] {
    for (const [i, of] of known.parents.entries()) {
      const deletions = this.#options.locks.deletions(parents[i] as string)
      if (deletions !== of.deletions) of.keys.clear()
      of.deletions = deletions
    }
    return known.parents
  }

  /** Looks how far the keys behind this one are free. */
  async #lookFrom(info: TableInfo, known: Known, key: bigint): Promise<void> {
    const since = performance.now()
    const { worth } = known
    if (this.#looking || since < Math.max(worth.pausedUntil, this.#pausedUntil)) return
    const look: Look = { taken: [], spoiled: false }
    known.look = look
    this.#looking = true
    let ms = 0
    try {
      this.#connection ??= await this.#options.connect()
      const { type, name } = info.table.columns[info.table.primaryKey[0] as number]!
      const column = quoteIdentifier(name)
      const [[next] = []] = await this.#connection.all(`SELECT min(${column}) FROM ${info.path} WHERE ${column} > ${key}`)
      ms = performance.now() - since
      // Whoever is told of a free key may know of the DELETE that freed it.
      await this.#options.pipeline.barrier()
      const end = next === null || next === undefined ? (largest[type.kind] as bigint) : BigInt(next as number | bigint) - 1n
      if (look.spoiled || key >= end) return
      known.free.add(key + 1n, end)
      for (const [first, last] of look.taken) known.free.take(first, last)
      for (const claimed of known.claimed.keys()) known.free.take(claimed)
    } catch (error) {
      this.#options.failed(messageOf(error))
    } finally {
      known.look = undefined
      this.#looking = false
      const now = performance.now()
      worth.pause = worth.hits >= worthwhile ? 0 : Math.min(longestPause, Math.max(1, worth.pause * 2))
      worth.hits = 0
      worth.pausedUntil = now + worth.pause
      this.#pausedUntil = now + ms / partForLooking
    }
  }
}

function take({ free, claimed, look }: Known, first: bigint, last = first): void {
  free.take(first, last)
  if (first === last) withdraw(claimed.get(first))
  else for (const [key, claim] of claimed) if (key >= first && key <= last) withdraw(claim)
  look?.taken.push([first, last])
}

/** Somebody has committed the key: it stays claimed for as long as it was, and is not free after that. */
function withdraw(claim: Claim | undefined): void {
  if (claim !== undefined) claim.isFree = false
}

/** 'none': the table has no key. Undefined: a key of which there are no ranges. */
function keyOf({ table: { primaryKey, columns } }: TableInfo, cells: readonly Cell[]): bigint | 'none' | undefined {
  const [column] = primaryKey
  if (column === undefined) return 'none'
  if (primaryKey.length > 1 || largest[columns[column]!.type.kind] === undefined) return undefined
  return BigInt(cells[column] as number | bigint)
}

/** Undefined: it names none. */
function parentOf({ foreignKeys }: TableInfo, index: number, cells: readonly Cell[]): string | undefined {
  const named = (foreignKeys[index] as readonly number[]).map((column) => cells[column] as Cell)
  return named.includes(null) ? undefined : named.map(cellText).join('\0')
}
