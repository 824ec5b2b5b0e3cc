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

    /** The load while `work` is repeated without pause. */
    const beside = async (work: () => Promise<void>) => {
      let over = false
      const loop = async () => {
        do await work()
        while (!over)
      }
      const working = loop()
      try {
        return await load()
      } finally {
        over = true
        await working
      }
    }
    /** The load while analysts ask and read answers of 28,800 rows, through libpq as the writers do. */
    const besideAnalysts = async () => {
      const { length } = stage
      const longer = 'seconds' in length ? { seconds: length.seconds + 1 } : length
      const asking = pgbench(daemonguard, {
        script: `${vwap.replaceAll('\n', ' ')};\n`,
        clients: analysts,
        length: longer,
        base: nextKeys(),
      })
      const [tail, { count }] = await Promise.all([load(), asking])
      done.queries += count
      return tail
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
      await stage.rounds(async () => {
        quiet.push(await load())
        maintained.push(await beside(maintain))
        analysed.push(await besideAnalysts())
      })
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
