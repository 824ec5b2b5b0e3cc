/**
 * A stand-in for the engine: a process that owns a DuckDB file and writes, deletes, rolls back and checkpoints without pause.
 * Messages to it: 'hold' (checkpoints, then starts no other one; answers {held: content}), 'release', 'stop' (answers nothing, exits).
 */

import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'

const file = process.argv[2] as string
const instance = await DuckDBInstance.create(':memory:')
const connection = await instance.connect()
await connection.run(`ATTACH '${file}' AS d (RECOVERY_MODE 'NO_WAL_WRITES', STORAGE_VERSION 'v1.5.0')`)
for (const statement of ["SET checkpoint_threshold = '1TB'", 'PRAGMA disable_checkpoint_on_shutdown', 'USE d'])
  await connection.run(statement)
await connection.run('CREATE TABLE trades (id BIGINT PRIMARY KEY, note VARCHAR)')
await connection.run('CREATE TABLE bulk (id BIGINT, note VARCHAR)')

let held = false
let wanted = false
let next = 0
process.on('message', (message) => {
  if (message === 'hold') wanted = true
  if (message === 'release') held = false
  if (message === 'stop') process.exit(0)
})
process.on('disconnect', () => process.exit(0))

/** Refused while another transaction stands in the way; then the next round tries again. */
async function checkpoint(): Promise<boolean> {
  try {
    await connection.run('CHECKPOINT')
    return true
  } catch (error) {
    if (/Cannot CHECKPOINT/.test(String(error))) return false
    throw error
  }
}

/** Writes blocks that nobody will ever reach: DuckDB writes large inserts before they commit. */
async function bulkRollbacks(own: DuckDBConnection): Promise<void> {
  await own.run('USE d')
  for (;;) {
    await own.run('BEGIN')
    await own.run('INSERT INTO bulk SELECT i, md5(i::VARCHAR) FROM range(250000) r(i)')
    await own.run('ROLLBACK')
  }
}

async function rounds(): Promise<void> {
  for (let round = 0; ; round++) {
    const first = next
    next += 5000
    await connection.run(`INSERT INTO trades SELECT i, md5(i::VARCHAR) FROM range(${first}, ${next}) r(i)`)
    if (round % 5 === 4) await connection.run(`DELETE FROM trades WHERE id % 3 = ${round % 3} AND id < ${first}`)
    if (round % 20 === 19) await connection.run('DELETE FROM trades')
    if (wanted) {
      if (!(await checkpoint())) continue
      const rows = await connection.runAndReadAll('SELECT count(*)::VARCHAR, sum(hash(t)::HUGEINT)::VARCHAR FROM trades t')
      wanted = false
      held = true
      process.send?.({ held: `trades ${JSON.stringify(rows.getRows())}` })
    } else if (!held) await checkpoint()
  }
}

process.send?.('up')
void bulkRollbacks(await instance.connect())
await rounds()
