/** Row 11: the same inserts into a table that has 1 thousand, 1 million, 50 million rows already. */

import fs from 'node:fs'
import { pgbench } from '../clients.ts'
import type { DaemonGuard } from '../peers/daemonguard.ts'
import { createDatabase } from '../peers/duckdb.ts'
import { format, type Measure, ratio } from '../report.ts'
import { insertScript, nextKeys } from '../trades.ts'
import type { Row } from './index.ts'

const clients = 64

export const growth: Row = {
  title: 'growth: single-row inserts, 64 clients, at 1 k, 1 M and (--large) 50 M rows already in the table',
  async measure(stage) {
    const sizes = [stage.size(1_000, 100), stage.size(1_000_000, 1_000), ...(stage.options.large ? [50_000_000] : [])]
    const sides: { rows: number; daemonguard: DaemonGuard; perSecond: number[] }[] = []
    const load = (daemonguard: DaemonGuard, length = stage.length) =>
      pgbench(daemonguard, { script: insertScript, clients, length, base: nextKeys() })
    try {
      for (const rows of sizes) {
        const file = stage.path('duckdb')
        await createDatabase(file, rows)
        const daemonguard = await stage.daemonguard({ agent: !stage.options.engineOnly, file })
        fs.rmSync(file)
        sides.push({ rows, daemonguard, perSecond: [] })
        await load(daemonguard, stage.warmUp)
      }
      await stage.rounds(async () => {
        for (const side of sides) side.perSecond.push((await load(side.daemonguard)).perSecond)
      })
    } finally {
      for (const { daemonguard } of sides) await daemonguard.end()
    }
    const smallest = sides[0]?.perSecond as number[]
    const measures = sides.flatMap(({ rows, perSecond }, i): Measure[] => [
      { what: `${format(rows)} rows`, unit: '/s', values: perSecond },
      ...(i === 0 ? [] : [ratio(`${format(rows)} rows, from ${format(sizes[0] as number)}`, smallest, perSecond, { most: 1.5 })]),
    ])
    return { settings: `pgbench -M prepared -c ${clients}; taken over from DuckDB`, measures }
  },
}
