/** Row 3: transactions of an insert and an update by key, from 16 clients that never conflict. */

import { type LoadResult, pgbench } from '../clients.ts'
import { type Measure, ratio } from '../report.ts'
import { nextKeys, transactionScript } from '../trades.ts'
import type { Row } from './index.ts'
import { rateAndTail, rates } from './inserts.ts'

const clients = 16

export const transactions: Row = {
  title: 'transactions of insert + update by key, 16 clients; DuckDB alone from 16 connections',
  async measure(stage) {
    const { daemonguard, duckdb, postgres } = await stage.contenders()
    const { length, warmUp } = stage
    const wire = (peer: typeof daemonguard | NonNullable<typeof postgres>, duration = length) =>
      pgbench(peer, { script: transactionScript, clients, length: duration, base: nextKeys() })
    const embedded = (duration = length) => duckdb.load('transactions', { connections: clients, length: duration, base: nextKeys() })

    await wire(daemonguard, warmUp)
    await embedded(warmUp)
    if (postgres !== undefined) await wire(postgres, warmUp)
    const guarded: LoadResult[] = []
    const alone: LoadResult[] = []
    const server: LoadResult[] = []
    await stage.rounds(async () => {
      guarded.push(await wire(daemonguard))
      alone.push(await embedded())
      if (postgres !== undefined) server.push(await wire(postgres))
    })
    const measures: Measure[] = [
      ...rateAndTail('DaemonGuard', guarded),
      ...rateAndTail('DuckDB alone', alone),
      ratio('DuckDB alone', rates(guarded), rates(alone), { least: 1.2 }),
    ]
    if (postgres !== undefined) measures.push(...rateAndTail('PostgreSQL', server), ratio('PostgreSQL', rates(guarded), rates(server)))
    return { settings: `pgbench -M prepared -c ${clients}, BEGIN, INSERT, UPDATE, COMMIT`, measures }
  },
}
