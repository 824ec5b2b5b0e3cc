/** Row 7: from SIGKILL to the first answer, with 5,000 one-row transactions since the checkpoint; the same with as many of an insert and an update. */

import { waitFor } from '../../support/wait.ts'
import { pgbench } from '../clients.ts'
import type { DaemonGuard } from '../peers/daemonguard.ts'
import { createDatabase, DuckDBAlone } from '../peers/duckdb.ts'
import { ratio } from '../report.ts'
import type { Stage } from '../stage.ts'
import { insertScript, nextKeys, transactionScript } from '../trades.ts'
import type { Row } from './index.ts'

const counting = 'SELECT count(*) FROM trades'
const clients = 10

export const restart: Row = {
  title: 'SIGKILL to the first answer, 5,000 one-row transactions since the checkpoint; DuckDB alone from its own WAL, in a new process',
  async measure(stage) {
    const transactions = stage.size(500, 5)
    const times = {
      inserts: { guarded: [] as number[], alone: [] as number[] },
      transactions: { guarded: [] as number[], alone: [] as number[] },
    }
    const daemonguard = await stage.daemonguard({
      agent: true,
      // The row wants 5,000 since the checkpoint, and as many kills in a row as there are rounds.
      plugins: ['checkpointer: { every_transactions: 1000000000 }', 'watchdog: { max_restarts: 1000 }'],
    })
    const file = stage.path('duckdb')
    await createDatabase(file, 0)
    let expected = 0
    try {
      await stage.rounds(async () => {
        for (const kind of ['inserts', 'transactions'] as const) {
          expected += clients * transactions
          times[kind].guarded.push(await restartGuarded(daemonguard, kind, transactions, expected))
          times[kind].alone.push(await reopen(stage, file, kind, clients * transactions, expected))
        }
      })
    } finally {
      await daemonguard.end()
    }
    const { inserts, transactions: pairs } = times
    return {
      settings: `${clients * transactions} transactions, found again every time; the agent notices, and the spare engine begins`,
      measures: [
        { what: 'DaemonGuard', unit: 's', values: inserts.guarded, goal: { most: 0.7 } },
        { what: 'DuckDB alone', unit: 's', values: inserts.alone },
        ratio('DuckDB alone', inserts.guarded, inserts.alone, { most: 0.25 }),
        { what: 'DaemonGuard, insert + update', unit: 's', values: pairs.guarded },
        { what: 'DuckDB alone, insert + update', unit: 's', values: pairs.alone },
        ratio('DuckDB alone, insert + update', pairs.guarded, pairs.alone),
      ],
    }
  },
}

type Kind = 'inserts' | 'transactions'

async function restartGuarded(daemonguard: DaemonGuard, kind: Kind, transactions: number, expected: number): Promise<number> {
  await daemonguard.guarded.control((engine) => engine.checkpoint())
  await pgbench(daemonguard, {
    script: kind === 'inserts' ? insertScript : transactionScript,
    clients,
    length: { transactions },
    base: nextKeys(),
  })
  await daemonguard.spareWaits()
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

async function reopen(stage: Stage, file: string, kind: Kind, transactions: number, expected: number): Promise<number> {
  const before = await DuckDBAlone.open(file)
  await before.run('CHECKPOINT')
  await before.load(kind, { connections: 1, length: { transactions }, base: nextKeys() })
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
