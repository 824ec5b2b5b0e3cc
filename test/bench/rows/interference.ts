/** Row 9: what writers notice of a checkpoint, a scan and a snapshot, and of analysts. */

import { p99, pgbench } from '../clients.ts'
import { createDatabase } from '../peers/duckdb.ts'
import { type Measure, ratio } from '../report.ts'
import { insertScript, nextKeys, vwap } from '../trades.ts'
import type { Row } from './index.ts'

const writers = 16
/** Well below what the engine can take: the tail is then a delay that a single statement met, not a queue. */
const rate = 1_000
const analysts = 8

export const interference: Row = {
  title: "writers' p99 while a checkpoint, a scan and a snapshot run; and while 8 clients run long analytic queries without pause",
  async measure(stage) {
    const rows = stage.size(1_000_000, 1_000)
    const file = stage.path('duckdb')
    await createDatabase(file, rows)
    const daemonguard = await stage.daemonguard({ agent: true, file })
    const load = async () =>
      p99(await pgbench(daemonguard, { script: insertScript, clients: writers, rate, length: stage.length, base: nextKeys() }))
    const done = { maintenance: 0, queries: 0 }

    /** The load while `others` repeat their work, each without pause. */
    const beside = async (others: readonly (() => Promise<void>)[]) => {
      let over = false
      const loops = others.map(async (work) => {
        do await work()
        while (!over)
      })
      try {
        return await load()
      } finally {
        over = true
        await Promise.all(loops)
      }
    }
    const maintain = async () => {
      await daemonguard.guarded.control((engine) => engine.checkpoint())
      await daemonguard.ask('scan')
      await daemonguard.ask('snapshot')
      done.maintenance++
    }
    const quiet: number[] = []
    const maintained: number[] = []
    const analysed: number[] = []
    try {
      await load()
      const clients = await Promise.all(Array.from({ length: analysts }, () => daemonguard.guarded.connect()))
      const analyse = clients.map((client) => async () => {
        await client.query({ text: vwap, rowMode: 'array' })
        done.queries++
      })
      await stage.rounds(async () => {
        quiet.push(await load())
        maintained.push(await beside([maintain]))
        analysed.push(await beside(analyse))
      })
      await Promise.all(clients.map((client) => client.end()))
    } finally {
      await daemonguard.end()
    }
    const measures: Measure[] = [
      { what: 'quiet', unit: 'ms', values: quiet },
      { what: 'checkpoint, scan, snapshot', unit: 'ms', values: maintained, goal: { most: 20 } },
      ratio('quiet', maintained, quiet, { most: 3 }),
      { what: '8 analysts', unit: 'ms', values: analysed, goal: { most: 20 } },
      ratio('quiet', analysed, quiet, { most: 3 }),
    ]
    return {
      settings: `${rows} trades, pgbench -M prepared -c ${writers} -R ${rate}: latency counts from when a transaction was due`,
      measures,
      notes: [`${done.maintenance} rounds of checkpoint, scan and snapshot; ${done.queries} queries`],
    }
  },
}
