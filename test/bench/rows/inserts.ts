/**
 * Rows 1, 2, 12 and 13: single-row durable inserts, from one client, from 64, from 8, which are about as many as a platform has, and from 64 that write their values into
 * the text, as psycopg2 does and all that is built on it.
 */

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
  measure: (stage) => measure(stage, 8, {}, { connections: 8 }),
}

export const writtenInserts: Row = {
  title: 'single-row durable inserts with their values in the text, 64 clients; DuckDB alone from 64 connections',
  measure: (stage) => measure(stage, 64, {}, { connections: 64, written: true }),
}

interface Goals {
  readonly duckdb?: number
  readonly postgres?: number
  readonly p99?: number
}

/** `connections`: DuckDB's. */
async function measure(stage: Stage, clients: number, goals: Goals, { connections = 1, written = false } = {}): Promise<RowReport> {
  const { daemonguard, duckdb, postgres } = await stage.contenders()
  const { length, warmUp } = stage
  const wire = (peer: typeof daemonguard | NonNullable<typeof postgres>, duration = length) =>
    pgbench(peer, { script: insertScript, clients, length: duration, base: nextKeys(), written })
  const embedded = (duration = length) => duckdb.load('inserts', { connections, length: duration, base: nextKeys(), written })

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
  return { settings: `pgbench -M ${written ? 'simple' : 'prepared'} -c ${clients}, primary key and foreign key`, measures }
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
