/**
 * ALTERs that make a column anew of what is in it: DuckDB 1.5 takes what was there before the latest UPDATEs, where a snapshot that is older than those is
 * still open; committed values are gone, without an error (tried: ALTER … TYPE, fields of a struct. CREATE INDEX refuses by itself there; what is rebuilt for a
 * constraint, and ADD COLUMN of a whole column, are right). So such an ALTER waits until there is none.
 */

import { waitUntil } from '../clock.ts'
import { type Table, tableName } from '../journal/types.ts'
import { gateTimeout } from './block.ts'
import { nameOf } from './blockers.ts'
import type { Foresight } from './foresight.ts'
import type { Presence } from './presence.ts'
import type { RowConflicts } from './row-conflicts.ts'
import type { SchemaStatement } from './sql/statement.ts'
import { SqlError } from './sql-error.ts'
import type { Transaction } from './transaction.ts'

/** ms */
const often = 5

/** Where snapshots are found, and the session that asks. */
export interface Snapshots {
  readonly rows: Pick<RowConflicts, 'lastChangeOf'>
  readonly presences: Iterable<Presence>
  readonly foresight: Pick<Foresight, 'isLooking'>
  readonly own: Presence
}

/**
 * Waits until DuckDB would see the latest values of all columns of the table. The caller holds the gate alone, so that no later ones come. Throws 40001 where this
 * transaction's own snapshot is older than they are, 55P03 where others' stay open.
 */
export async function untilLatestAreSeen(snapshots: Snapshots, transaction: Transaction, table: Table): Promise<void> {
  const { rows, presences, foresight, own } = snapshots
  const seq = rows.lastChangeOf(table)
  if (transaction.startSeq < seq)
    throw new SqlError('40001', `rows of ${tableName(table)} have changed since this transaction began`, {
      hint: 'roll back and try again',
    })
  const older = () => [...presences].find((presence) => presence !== own && (presence.work?.snapshotSeq ?? seq) < seq)
  if (await waitUntil(() => older() === undefined && !foresight.isLooking, { deadline: gateTimeout, every: often })) return
  const found = older()
  const whose = found === undefined ? 'the engine’s own' : `of ${nameOf(found.who)}`
  throw new SqlError(
    '55P03',
    `a transaction that is older than the latest changes of ${tableName(table)} stayed open for ${gateTimeout} ms: ${whose}`,
    { hint: 'end it (COMMIT or ROLLBACK) and try again' },
  )
}

/** Whether an ALTER TABLE may make a column of its old values: `ALTER c TYPE …`, and whatever names a field of a column. What only looks like it waits as well. */
export function mayRewriteColumn({ tokens, name }: SchemaStatement): boolean {
  const own = tokens.filter(({ depth }) => depth === 0)
  const points = own.filter(({ kind, text }) => kind === 'symbol' && text === '.').length
  return points > name.length - 1 || own.some(({ kind, text }) => kind === 'word' && (text === 'type' || text === 'using'))
}
