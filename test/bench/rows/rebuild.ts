/** Row 8: the database is gone, the journal is there. */

import fs from 'node:fs'
import { TestEngine } from '../../support/engine.ts'
import { copyFrom, psql, type WirePeer } from '../clients.ts'
import { writeCsv } from '../peers/duckdb.ts'
import { duckdbSeries, schema } from '../trades.ts'
import type { Row } from './index.ts'

export const rebuild: Row = {
  title: 'rebuild of 5 million rows from the journal alone',
  async measure(stage) {
    const parts = 5
    const partRows = stage.size(1_000_000, 1_000)
    const engine = await TestEngine.prepare({ data: stage.path('engine') })
    engine.program = stage.program
    // Default settings: not the small ones of the tests.
    fs.writeFileSync(
      engine.config,
      `agent: { name: bench, data_dir: ${engine.data}, listen: "127.0.0.1:1" }\nengine: { listen: "127.0.0.1:${engine.port}" }\n`,
    )
    const peer: WirePeer = {
      name: 'DaemonGuard',
      socketDirectory: engine.data,
      port: engine.port,
      user: 'trader',
      database: 'trade_data',
    }
    const whole: number[] = []
    const replay: number[] = []
    try {
      await engine.start()
      await psql(peer, schema(duckdbSeries))
      const csv = stage.path('csv')
      for (let part = 0; part < parts; part++) {
        await writeCsv(csv, partRows, part * partRows)
        await psql(peer, [copyFrom(csv, 'trades')])
      }
      fs.rmSync(csv)
      await stage.rounds(async () => {
        await engine.kill()
        fs.rmSync(engine.database)
        const started = performance.now()
        await engine.start()
        const seconds = (performance.now() - started) / 1000
        const [[count] = []] = await engine.sql('SELECT count(*) FROM trades')
        if (count !== String(parts * partRows)) throw new Error(`the rebuilt table has ${count} rows`)
        whole.push((parts * partRows) / seconds)
        replay.push((parts * partRows) / (engine.control.hello.recovery.durationMs / 1000))
      })
    } finally {
      await engine.kill()
    }
    return {
      settings: `${parts} COPYs of ${partRows} rows; primary key and foreign key; from the start of the process until it serves`,
      measures: [
        { what: 'DaemonGuard', unit: 'rows/s', values: whole, goal: { least: 500_000 } },
        { what: 'DaemonGuard, its recovery alone', unit: 'rows/s', values: replay },
      ],
    }
  },
}
