/** Rows 5 and 6: an aggregation over many rows, and many rows read by one client. */

import { timedPsql, type WirePeer } from '../clients.ts'
import { type Goal, type Measure, type RowReport, ratio } from '../report.ts'
import type { Stage } from '../stage.ts'
import { vwap } from '../trades.ts'
import type { Row } from './index.ts'

export const aggregation: Row = {
  title: 'VWAP by symbol and minute over 10 million trades; DuckDB alone in its process',
  measure: (stage) => measure(stage, vwap, { duckdb: { least: 0.9 }, postgres: { least: 10 } }),
}

export const reading: Row = {
  title: '1 million rows of 4 columns read by one client; DuckDB alone as JavaScript values in its process',
  measure: (stage) =>
    measure(stage, 'SELECT trade_id, symbol_id, price, quantity FROM trades WHERE trade_id < 1000000', { postgres: { least: 0.7 } }),
}

async function measure(stage: Stage, sql: string, goals: { duckdb?: Goal; postgres: Goal }): Promise<RowReport> {
  const { rows, daemonguard, duckdb, postgres } = await stage.loaded()
  const wire = (peer: WirePeer) => timedPsql(peer, sql)
  const embedded = async () => (await duckdb.run(sql)).ms
  await wire(daemonguard)
  await embedded()
  if (postgres !== undefined) await wire(postgres)
  const guarded: number[] = []
  const alone: number[] = []
  const server: number[] = []
  await stage.rounds(async () => {
    guarded.push(await wire(daemonguard))
    alone.push(await embedded())
    if (postgres !== undefined) server.push(await wire(postgres))
  })
  const measures: Measure[] = [
    { what: 'DaemonGuard', unit: 'ms', values: guarded },
    { what: 'DuckDB alone', unit: 'ms', values: alone },
    ratio('DuckDB alone, in speed', alone, guarded, goals.duckdb),
  ]
  if (postgres !== undefined) {
    measures.push({ what: 'PostgreSQL', unit: 'ms', values: server }, ratio('PostgreSQL, in speed', server, guarded, goals.postgres))
  }
  return { settings: `${rows} trades, psql \\timing until the whole answer has arrived`, measures }
}
