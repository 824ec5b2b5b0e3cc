/**
 * What the rules demand (commits, capture and replay, checkpoints, the journal file), line by line, and the test that fails without it. This
 * file tests only that all of them are there.
 */

import fs from 'node:fs'
import path from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

/** Demand; file under test/; the beginning of the test's name. */
const demands: readonly (readonly [demand: string, file: string, name: string])[] = [
  // Commits (R1, R4)
  ['acknowledged only after the fsync', 'engine/durability', '${what} is not acknowledged, and its row not shown, before the fsync'],
  ['no client reads what a crash could take away', 'engine/durability', 'a row that a crash takes away was shown to nobody'],
  ['what was told "failed" never shows later', 'engine/concurrent', 'what failed left nothing, what was acknowledged is there'],
  ['COMMIT of a failed transaction is told as ROLLBACK', 'engine/transactions', 'COMMIT of a failed transaction answers ROLLBACK'],
  [
    'of a group that is retried only the culprit fails',
    'engine/transactions',
    'one bad row among 64 concurrent prepared inserts fails alone',
  ],
  ['a COMMIT that ran out of memory makes the instance suspect', 'engine/traps', 'out of memory in a COMMIT ends the engine'],
  ['a failed fsync is never repeated', 'journal/writer', 'after a failed fsync nothing is tried again'],
  ['a key or conflict error at COMMIT is ordinary', 'engine/transactions', 'of two transactions that insert the same key one wins'],
  ['so is a table that was altered after writes to it', 'engine/capture', '${what}, and then another column in one transaction'],

  // Capture and replay (R6)
  ['statement boundaries, set-based replay', 'engine/capture', 'unique values that swap and keys that shift'],
  ['an update image has its key and what it changed', 'engine/capture', 'an update of a referenced parent touches the columns'],
  ['the same for upserts', 'engine/traps', 'ON CONFLICT DO UPDATE and UPDATE … RETURNING work on rows'],
  ['the same for MERGE', 'engine/merge', 'every action in one statement${on}'],
  ['one DuckDB transaction for each that has an order', 'engine/capture', 'transactions whose order matters are replayed one by one'],
  ['a refused replay is named, never a crash loop', 'engine/capture', 'a transaction that DuckDB refuses to replay is named'],
  ['delete of a parent, insert of its child, open together', 'engine/transactions', 'a parent that is deleted while its child is inserted'],
  ['the same one after the other, by SQL and the buffer', 'engine/capture', 'a parent is deleted, and its child inserted by ${way}'],
  ['the same within one transaction', 'engine/traps', 'a child of a parent that the same transaction has deleted'],
  ['two updates of one row: first to commit wins', 'engine/transactions', 'of two transactions that update the same row'],
  ['also where DuckDB lets both commit', 'engine/capture', '${what} of one row: the transaction that commits later'],
  ['a schema change waits for writers, then 55P03', 'engine/transactions', 'a schema change waits for an open writer'],
  ['a rename beside an open update', 'engine/capture', 'a rename waits for an update that is open'],
  ['writers know when the schema has changed', 'engine/capture', 'a transaction that began before a schema change'],
  ['search_path and TimeZone are kept with its text', 'engine/capture', 'a schema change means what its session’s'],
  ['CREATE TABLE AS is CREATE and images', 'engine/capture', 'CREATE TABLE AS keeps the rows'],
  ['a volatile default is ALTER and images by key', 'engine/capture', 'a default that is not the same each time'],
  ['sequences: the highest value handed out', 'engine/capture', 'sequences hand out after a replay'],
  ['sequences that cycle', 'engine/capture', 'a sequence that cycles is where it was'],
  ['UPDATE and DELETE need a key', 'engine/transactions', 'UPDATE and DELETE on a table without a key'],
  ['writes to other catalogs are refused', 'engine/guard', 'other catalogs cannot be written to'],
  ['temporary tables are not journaled', 'engine/transactions', 'temporary tables work and are not journaled'],
  ['temp_directory lies under data_dir', 'engine/capture', 'what DuckDB spills lies under the data directory'],
  ['all shapes, all types, any order', 'engine/replay', 'workloads ${first + 1} to'],

  // Checkpoints (R3)
  ['only with a journal that is fsynced', 'engine/durability', 'a checkpoint waits for the fsync'],
  ['none on closing', 'engine/checkpoints', 'closing the database writes nothing'],
  ['none at an ordered stop but the one asked for', 'engine/checkpoints', 'an ordered stop checkpoints or not as it is told'],
  ['none by clients, no setting of theirs', 'engine/guard', 'checkpoints and what decides about them'],
  ['the header iteration proves the file', 'engine/checkpoints', 'a file that another program has written to'],
  ['the watermark is inserted, never updated', 'engine/checkpoints', 'an old reader beside inserts and deletes'],
  ['refused harmlessly', 'engine/checkpoints', 'a refused checkpoint leaves the file as it was'],
  ['and made when the reader has ended', 'engine/checkpoints', 'an old reader beside an update holds a checkpoint up'],
  ['an idle transaction is ended (25P03)', 'engine/checkpoints', 'an idle transaction is ended with 25P03'],
  ['past a bound of time the oldest is ended', 'engine/blockers', 'those that write and stand in the way are ended'],
  ['and one of memory', 'engine/blockers', 'where memory is short, a reader in the way'],
  ['nobody else, and nobody before', 'engine/blockers', 'of those who read, only who is older'],
  ['never while it commits', 'engine/blockers', 'a COMMIT is waited for'],
  ['writers wait for it for a bounded time', 'engine/gate', 'a checkpoint that gives up lets all those in'],
  ['never FORCE: reads go on', 'engine/checkpoints', 'a checkpoint waits for an open writer; reads go on meanwhile'],
  ['a failed one makes the instance suspect', 'engine/checkpoints', 'a checkpoint that fails ends the engine'],
  ['nothing is lost around it', 'engine/checkpoints', 'checkpoints under 8 writers keep every row'],
  ['an existing file gets a snapshot first', 'fault/adoption', 'a file and its WAL are taken over whole'],

  // The journal file
  ['consumers read what is durable', 'journal/consumer', 'reads what is durable and no further'],
  ['a cut starts a new epoch, which cursors carry', 'journal/epochs', 'seqs that are given anew after a cut'],
  ['torn: cut back to the last whole batch, with its size', 'journal/repair', 'a tail cut at any byte'],
  ['rotten: acknowledged data may be gone, and is named', 'journal/repair', 'one flipped byte at any offset of acknowledged'],
  ['the boot tells torn from rotten where the mark is gone', 'journal/repair', 'without the mark, bad bytes at the end'],
  ['a segment is durable before it is used', 'journal/writer', 'a segment and its directory entry are durable'],
  ['an empty last segment is fine, zeros end the log', 'journal/repair', 'segments that were only created are harmless'],
  ['locks for life', 'fault/locks', 'a second agent or engine on the same data directory'],
  ['adoption by nonce and start time, not by pid', 'supervisor/supervisor', 'an engine.json that names a stranger proves nothing'],
  ['and never of another database', 'supervisor/supervisor', 'an engine of another database is neither adopted nor killed'],
]

test('each demand has its test', () => {
  const root = path.resolve(import.meta.dirname, '..')
  const missing = demands.filter(([, file, name]) => {
    const source = fs.readFileSync(path.join(root, `${file}.test.ts`), 'utf8')
    return !["'", '`'].some((quote) => source.includes(`${quote}${name}`))
  })
  assert.equal(missing, [])
})

test.run()
