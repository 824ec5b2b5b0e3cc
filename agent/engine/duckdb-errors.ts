/** What an error of DuckDB means: an SQLSTATE for the client, and whether the instance can still be trusted. */

import { isDiskFull, messageOf } from '../errors.ts'
import { SqlError } from './sql-error.ts'

/** DuckDB's error classes, as the text before the first ` Error:`, and Postgres' SQLSTATE for each. First match wins. */
const states: readonly (readonly [pattern: RegExp, code: string])[] = [
  // The appender says the same without `Constraint Error:`.
  [/Duplicate key|duplicate key|PRIMARY KEY or UNIQUE constraint|violates (primary key|unique) constraint/i, '23505'],
  [/foreign key constraint/i, '23503'],
  [/NOT NULL constraint/i, '23502'],
  [/CHECK constraint/i, '23514'],
  [/^Constraint Error/, '23000'],
  [/^TransactionContext Error: .*aborted/s, '25P02'],
  [/^TransactionContext Error: .*launched in read-only mode/s, '25006'],
  [/PRIMARY KEY or UNIQUE constraint violation|write-write conflict on key|duplicate key/i, '23505'],
  [/^TransactionContext Error: .*[Cc]onflict|Catalog write-write conflict|Could not commit|^Transaction.*[Cc]onflict/s, '40001'],
  [/^TransactionContext Error/, '25000'],
  [/^Catalog Error: .*(Table|View).* does not exist/s, '42P01'],
  [/^Catalog Error: .*(Scalar Function|Function|Macro).* does not exist/s, '42883'],
  [/^Catalog Error: .*Schema.* does not exist/s, '3F000'],
  [/^Catalog Error: .*Type.* does not exist/s, '42704'],
  [/^Catalog Error: .*already exists/s, '42P07'],
  [/^Catalog Error: .*(main key table|an index depends on it|involved in the foreign key)/s, '2BP01'],
  [/^Catalog Error/, '42704'],
  // Somebody tries to open the database's own file.
  [/^Binder Error: Unique file handle conflict/, '42501'],
  [/^Binder Error: .*(column.*not found|does not have a column )/s, '42703'],
  [/^Binder Error: .*(ambiguous)/is, '42702'],
  [/^Binder Error: .*(No function matches|best candidate)/s, '42883'],
  [/^Binder Error/, '42601'],
  [/^Parser Error/, '42601'],
  [/^(Invalid type|Mismatch Type) Error/i, '42804'],
  [/^Sequence Error/, '2200H'],
  [/^Conversion Error/, '22P02'],
  [/^Out of Range Error/, '22003'],
  [/^Invalid Input Error/, '22023'],
  [/^Dependency Error/, '2BP01'],
  [/^Permission Error/, '42501'],
  [/^Not implemented Error/, '0A000'],
  [/^INTERRUPT Error/, '57014'],
  // Rows go to disk before their COMMIT where there are many, and what does not fit into memory.
  [/No space left on device|[Qq]uota exceeded|failed to offload data block/, '53100'],
  [/^Out of Memory Error/, '53200'],
]

const limitations = / If this is an unexpected constraint violation, please refer to our foreign key limitations in the documentation$/

/** What to do about errors that are DuckDB's own limits. */
const hints: readonly (readonly [pattern: RegExp, hint: string])[] = [
  [
    /is still referenced by a foreign key/,
    'children that this transaction itself has deleted count as well: COMMIT their DELETE first; of a referenced row, lists and columns with an index cannot change',
  ],
  [
    /^Dependency Error: Cannot alter entry/,
    'DROP its indexes first, and create them again after; what foreign keys reference keeps its name',
  ],
  [/No space left on device|[Qq]uota exceeded|failed to offload data block/, 'free space on the disk of the database'],
  [/Adding columns with constraints/, 'ADD COLUMN with its DEFAULT first, then ALTER COLUMN … SET NOT NULL, or ADD CONSTRAINT'],
]

/** DuckDB notices it at COMMIT, and blames another transaction; it rolls back. */
const alteredAfterWrites = /Attempting to modify table .* but another transaction has altered this table/

/** An error from running a statement, for the client. */
export function toSqlError(error: unknown): SqlError {
  if (error instanceof SqlError) return error
  // The Node binding says where it happened before DuckDB says what.
  const message = messageOf(error).replace(/^Failed to (extract statements|append|bind value): /, '')
  if (alteredAfterWrites.test(message)) {
    return new SqlError('0A000', 'a transaction cannot update or delete rows of a table and then change its columns: rolled back', {
      hint: 'COMMIT the rows first, and ALTER TABLE in a transaction of its own',
      cause: error,
    })
  }
  const code = states.find(([pattern]) => pattern.test(message))?.[1] ?? 'XX000'
  const hint = hints.find(([pattern]) => pattern.test(message))?.[1]
  return new SqlError(code, message.replace(limitations, ''), hint === undefined ? { cause: error } : { cause: error, hint })
}

/** After one of these a DuckDB instance cannot be trusted, whatever it was doing: never checkpoint it again (duckdb.md 2 and 3). */
const fatal = /^(FATAL|INTERNAL) Error|has been invalidated|^IO Error: .*(could not (read|write|sync|truncate)|fsync|no space)/is

/** DuckDB read a block whose checksum does not match: the file is damaged. */
const corrupt = /Corrupt database file|computed checksum|does not match stored checksum/i

export function isCorruption(error: unknown): boolean {
  return !(error instanceof SqlError) && corrupt.test(messageOf(error))
}

/** Memory or disk did not suffice: the same would work with more of it. */
export function isShortage(error: unknown): boolean {
  return isDiskFull(error) || /out of memory/i.test(messageOf(error))
}

export function isFatal(error: unknown): boolean {
  return !(error instanceof SqlError) && fatal.test(messageOf(error)) && !isDiskFullBeforeCommit(error)
}

/** Ends the engine over an error after which its file or its instance cannot be trusted; returns after any other. */
export function judge(error: unknown, ends: { corrupt(reason: string): never; suspect(reason: string): never }): void {
  if (isCorruption(error)) ends.corrupt(messageOf(error))
  if (isFatal(error)) ends.suspect(messageOf(error))
}

/** A statement had no room for what it would write before its COMMIT, or for what memory does not hold: it fails alone. */
function isDiskFullBeforeCommit(error: unknown): boolean {
  return isDiskFull(error) && /^(IO|Out of Memory) Error/.test(messageOf(error)) && !/invalidated|failed to commit/i.test(messageOf(error))
}

/** At COMMIT only these are ordinary: the transaction was rolled back, the instance is sound. */
const ordinaryAtCommit =
  /PRIMARY KEY or UNIQUE constraint|[Dd]uplicate key|[Cc]onflict|foreign key|another transaction has altered this table/i

/** Whether a failed COMMIT was an ordinary rollback. Everything else makes the instance suspect: the commit is in doubt. */
export function isOrdinaryAtCommit(error: unknown): boolean {
  return (
    !fatal.test(messageOf(error)) &&
    !/out of memory|failed to pin|could not write|no space/i.test(messageOf(error)) &&
    ordinaryAtCommit.test(messageOf(error))
  )
}

/** The same for a statement that DuckDB commits by itself: before its COMMIT an error is ordinary if it is known. */
export function isOrdinaryAlone(error: unknown): boolean {
  if (/failed to commit/i.test(messageOf(error))) return isOrdinaryAtCommit(error)
  return !isFatal(error) && toSqlError(error).code !== 'XX000'
}
