/**
 * `_dg_hosts`: which database ships under which host name. Two databases under one name (two hosts with one agent.name, or a new database
 * whose seqs begin at 1 again) would overwrite each other's rows, unseen: the second is refused.
 */

import type { Server } from './server.ts'
import { UnfitTarget } from './target.ts'
import { identifier, literal } from './types.ts'

/** Registers this database, or throws UnfitTarget when another one has the name. */
export async function registerHost(server: Server, database: string, host: string, databaseId: string, now: number): Promise<void> {
  const table = `${identifier(database)}._dg_hosts`
  await server.command(
    `CREATE TABLE IF NOT EXISTS ${table} (host String, database_id String, registered UInt64) ENGINE = MergeTree ORDER BY host`,
  )
  const owner = async () => {
    const query = `SELECT database_id FROM ${table} WHERE host = ${literal(host)} ORDER BY registered, database_id LIMIT 1`
    return (await server.rows<{ database_id: string }>(query))[0]?.database_id
  }
  let first = await owner()
  if (first === undefined) {
    await server.command(`INSERT INTO ${table} VALUES (${literal(host)}, ${literal(databaseId)}, ${now})`)
    first = await owner()
  }
  if (first === databaseId) return
  throw new UnfitTarget(
    `another database (${first}) ships to ${database} under the host name ${host}; its rows are not overwritten`,
    `give this host another agent.name; or, when the old database is gone for good: ALTER TABLE ${table} DELETE WHERE host = ${literal(host)}, and the same for _dg_host in every target table`,
  )
}

/** The highest seq of this host in any target table; 0 when there is none. */
export async function highestSeq(server: Server, database: string, host: string): Promise<number> {
  const tables = await server.rows<{ table: string }>(
    `SELECT table FROM system.columns WHERE database = ${literal(database)} AND name = '_dg_seq'`,
  )
  let highest = 0
  for (const { table } of tables) highest = Math.max(highest, await highestSeqIn(server, database, table, host))
  return highest
}

export async function highestSeqIn(server: Server, database: string, table: string, host: string): Promise<number> {
  const rows = await server.rows<{ n: string }>(
    `SELECT max(_dg_seq) AS n FROM ${identifier(database)}.${identifier(table)} WHERE _dg_host = ${literal(host)}`,
  )
  return Number(rows[0]?.n ?? 0)
}
