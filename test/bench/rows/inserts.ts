/** Rows 1, 2 and 12: single-row durable inserts, from one client, from 64, and from 8, which are about as many as a platform has. */

import { type LoadResult, p99, pgbench } from '../clients.ts'
import { type Measure, type RowReport, ratio } from '../report.ts'
import type { Stage } from '../stage.ts'
import { insertScript, nextKeys } from '../trades.ts'
import type { Row } from './index.ts'

export const insertsOfOne: Row = {
  title: 'single-row durable inserts, 1 client',
  measure: (stage) => measure(stage, 1, { duckdb: 1.4, postgres: 0.2 }),
}

export const insertsOfMany: Row = {
  title: 'single-row durable inserts, 64 clients; DuckDB alone from one connection',
  measure: (stage) => measure(stage, 64, { duckdb: 20, postgres: 1, p99: 10 }),
}

export const insertsOfFew: Row = {
  title: 'single-row durable inserts, 8 clients; DuckDB alone from 8 connections',
  measure: (stage) => measure(stage, 8, {}, 8),
}

interface Goals {
  readonly duckdb?: number
  readonly postgres?: number
  readonly p99?: number
}

async function measure(stage: Stage, clients: number, goals: Goals, connections = 1): Promise<RowReport> {
  const { daemonguard, duckdb, postgres } = await stage.contenders()
  const { length, warmUp } = stage
  const wire = (peer: typeof daemonguard | NonNullable<typeof postgres>, duration = length) =>
    pgbench(peer, { script: insertScript, clients, length: duration, base: nextKeys() })
  const embedded = (duration = length) => duckdb.load('inserts', { connections, length: duration, base: nextKeys() })

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
    ...rateAndTail('DaemonGuard', guarded, goals.p99),
    ...rateAndTail('DuckDB alone', alone),
    ratio('DuckDB alone', rates(guarded), rates(alone), leastOf(goals.duckdb)),
  ]
  if (postgres !== undefined) {
    measures.push(...rateAndTail('PostgreSQL', server), ratio('PostgreSQL', rates(guarded), rates(server), leastOf(goals.postgres)))
  }
  return { settings: `pgbench -M prepared -c ${clients}, primary key and foreign key`, measures }
}

function leastOf(least: number | undefined): { least: number } | undefined {
  return least === undefined ? undefined : { least }
}

export function rates(results: readonly LoadResult[]): number[] {
  return results.map(({ perSecond }) => perSecond)
}

/** Transactions a second, and the latency that 99 of 100 keep to. */
export function rateAndTail(name: string, results: readonly LoadResult[], mostTail?: number): Measure[] {
  return [
    { what: name, unit: '/s', values: rates(results) },
    { what: `${name}, p99`, unit: 'ms', values: results.map(p99), goal: mostTail === undefined ? undefined : { most: mostTail } },
  ]
}
