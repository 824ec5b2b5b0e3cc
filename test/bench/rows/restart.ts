/** Row 7: from SIGKILL to the first answer, with 5,000 one-row transactions since the checkpoint. */

import { waitFor } from '../../support/wait.ts'
import { pgbench } from '../clients.ts'
import type { DaemonGuard } from '../peers/daemonguard.ts'
import { createDatabase, DuckDBAlone } from '../peers/duckdb.ts'
import { ratio } from '../report.ts'
import type { Stage } from '../stage.ts'
import { insertScript, nextKeys } from '../trades.ts'
import type { Row } from './index.ts'

const counting = 'SELECT count(*) FROM trades'
const clients = 10

export const restart: Row = {
  title: 'SIGKILL to the first answer, 5,000 one-row transactions since the checkpoint; DuckDB alone from its own WAL, in a new process',
  async measure(stage) {
    const transactions = stage.size(500, 5)
    const guarded: number[] = []
    const alone: number[] = []
    const daemonguard = await stage.daemonguard({
      agent: true,
      // The row wants 5,000 since the checkpoint, and as many kills in a row as there are rounds.
      plugins: ['checkpointer: { every_transactions: 1000000000 }', 'watchdog: { max_restarts: 1000 }'],
    })
    const file = stage.path('duckdb')
    await createDatabase(file, 0)
    try {
      await stage.rounds(async (round) => {
        guarded.push(await restartGuarded(daemonguard, transactions, round * clients * transactions))
        alone.push(await reopen(stage, file, clients * transactions, round * clients * transactions))
      })
    } finally {
      await daemonguard.end()
    }
    return {
      settings: `${clients * transactions} transactions, found again every time; the agent notices and starts the engine`,
      measures: [
        { what: 'DaemonGuard', unit: 's', values: guarded, goal: { most: 0.7 } },
        { what: 'DuckDB alone', unit: 's', values: alone },
        ratio('DuckDB alone', guarded, alone, { most: 0.25 }),
      ],
    }
  },
}

async function restartGuarded(daemonguard: DaemonGuard, transactions: number, expected: number): Promise<number> {
  await daemonguard.control((engine) => engine.checkpoint())
  await pgbench(daemonguard, { script: insertScript, clients, length: { transactions }, base: nextKeys() })
  await daemonguard.guarded.killEngine()
  const killed = performance.now()
  let count: string | undefined
  await waitFor(
    'the new engine answers',
    async () => {
      count = (await daemonguard.guarded.sql(counting))[0]?.[0]
      return true
    },
    { deadline: 120_000, every: 2 },
  )
  const seconds = (performance.now() - killed) / 1000
  if (count !== String(expected)) throw new Error(`${count} trades were found after the restart, not ${expected}`)
  return seconds
}

async function reopen(stage: Stage, file: string, transactions: number, expected: number): Promise<number> {
  const before = await DuckDBAlone.open(file)
  await before.run('CHECKPOINT')
  await before.load('inserts', { connections: 1, length: { transactions }, base: nextKeys() })
  await before.kill()
  const killed = performance.now()
  const after = await DuckDBAlone.open(file)
  await after.run(counting)
  const seconds = (performance.now() - killed) / 1000
  const found = await after.run(`${counting} HAVING count(*) = ${expected}`)
  await after.kill()
  if (found.rows !== 1) throw new Error(`DuckDB alone did not find ${expected} trades after its restart, in ${stage.directory}`)
  return seconds
}
