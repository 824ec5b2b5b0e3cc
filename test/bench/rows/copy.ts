/** Row 4: COPY of 1 million trades, durable at its end, into a table of its own each time. */

import { copyFrom, psql, timedPsql, type WirePeer } from '../clients.ts'
import { writeCsv } from '../peers/duckdb.ts'
import { type Measure, ratio } from '../report.ts'
import { tradesTable } from '../trades.ts'
import type { Row } from './index.ts'

export const copy: Row = {
  title: 'COPY of 1 million trades; DuckDB alone by its appender, with a checkpoint',
  async measure(stage) {
    const { daemonguard, duckdb, postgres } = await stage.contenders()
    const count = stage.size(1_000_000, 1_000)
    const file = stage.path('csv')
    await writeCsv(file, count)
    let tables = 0
    const wire = async (peer: WirePeer) => {
      const table = `copied_${++tables}`
      await psql(peer, [tradesTable(table)])
      const ms = await timedPsql(peer, copyFrom(file, table))
      await psql(peer, [`DROP TABLE ${table}`])
      return ms / 1000
    }
    const embedded = async () => {
      const table = `copied_${++tables}`
      await duckdb.run(tradesTable(table))
      const ms = await duckdb.append(table, count)
      await duckdb.run(`DROP TABLE ${table}`, 'CHECKPOINT')
      return ms / 1000
    }
    const guarded: number[] = []
    const alone: number[] = []
    const server: number[] = []
    await stage.rounds(async () => {
      guarded.push(await wire(daemonguard))
      alone.push(await embedded())
      if (postgres !== undefined) server.push(await wire(postgres))
    })
    const measures: Measure[] = [
      { what: 'DaemonGuard', unit: 's', values: guarded },
      { what: 'DuckDB alone', unit: 's', values: alone },
      ratio('DuckDB alone, in speed', alone, guarded, { least: 0.3 }),
    ]
    if (postgres !== undefined) {
      measures.push({ what: 'PostgreSQL', unit: 's', values: server }, ratio('PostgreSQL, in speed', server, guarded, { least: 1 }))
    }
    return { settings: `psql \\copy of ${count} rows of CSV, primary key and foreign key`, measures }
  },
}
