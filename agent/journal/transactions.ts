/** Walks the transactions of a journal directory in order of seq, over segment boundaries. */

import { SegmentReader } from './reader.ts'
import { decodeBatch, spillOf } from './record.ts'
import { listSegments } from './segment.ts'
import { spillDamage } from './spill.ts'
import { type Table, type Transaction, tableName } from './types.ts'

export interface JournalDamage {
  readonly file: string
  readonly offset: number
  readonly reason: string
  /** The transaction that is lost, where it is known: its batch is whole, but not its spill, or it cannot be decoded. */
  readonly seq?: number
  /** Its batch, where that was written wrongly, which nothing else has found out; and the tables that it changes, where they are known. */
  readonly undecoded?: { readonly bytes: Buffer; readonly tables: readonly string[] }
}

/**
 * Transactions with `from` ≤ seq ≤ `to`. Damage is told to `onDamage` and passed over, up to the next whole batch; without `onDamage` it throws.
 */
export function* readTransactions(
  directory: string,
  from: number,
  to = Number.MAX_SAFE_INTEGER,
  onDamage?: (damage: JournalDamage) => void,
): Generator<Transaction> {
  const segments = listSegments(directory)
  for (const [i, segment] of segments.entries()) {
    const following = segments[i + 1]
    if (following !== undefined && following.firstSeq <= from) continue
    if (segment.firstSeq > to) return
    const reader = new SegmentReader(segment.file)
    try {
      for (;;) {
        const result = reader.next()
        if (result.kind === 'end') break
        if (result.kind === 'bad') {
          const next = reader.resume(result.offset)
          if (next === result.offset) continue
          const damage = { file: segment.file, offset: result.offset, reason: result.reason }
          if (onDamage === undefined) throw new Error(`${damage.reason} (${damage.file}, byte ${damage.offset})`)
          onDamage(damage)
          if (next === undefined) break
          continue
        }
        const { firstSeq, count } = result.header
        if (firstSeq > to) return
        if (firstSeq + count - 1 < from) continue
        const { bytes, header, offset } = result
        const onBad = (seq: number, reason: string, tables: readonly Table[]) =>
          onDamage?.({ file: segment.file, offset, reason, seq, undecoded: { bytes, tables: tables.map(tableName) } })
        const transactions = decodeBatch(bytes, header, directory, onDamage && onBad)
        const spill = spillOf(bytes, header)
        const reason = spill === undefined ? undefined : spillDamage(directory, spill.reference)
        if (reason !== undefined) {
          if (onDamage === undefined) throw new Error(reason)
          onDamage({ file: segment.file, offset, reason, seq: firstSeq })
          continue
        }
        for (const transaction of transactions) {
          if (transaction.seq >= from && transaction.seq <= to) yield transaction
        }
      }
    } finally {
      reader.close()
    }
  }
}
