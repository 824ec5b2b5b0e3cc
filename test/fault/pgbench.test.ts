// deadline: 300s
// needs: pgbench
// pgbench's own TPC-B-like script from 8 clients, started again and again while the engine is killed every 5 s: the sums of all four tables agree,
// in the database and in a rebuild from the journal alone, and no acknowledged transaction is missing. For 15 s; with SOAK=1 for a minute.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock } from '../../agent/clock.ts'
import { TestEngine } from '../support/engine.ts'
import { spawnChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { Guarded, patience } from './support/guarded.ts'

const test = suite('pgbench under kills')
const seconds = process.env.SOAK === undefined ? 15 : 60
const clients = 8
const sums = [
  'SELECT sum(bbalance) FROM pgbench_branches',
  'SELECT sum(tbalance) FROM pgbench_tellers',
  'SELECT sum(abalance) FROM pgbench_accounts',
  'SELECT coalesce(sum(delta), 0) FROM pgbench_history',
]

function pgbench(guarded: Guarded, ...args: string[]) {
  return spawnChild('pgbench', ['-h', '127.0.0.1', '-p', String(guarded.port), '-U', 'trader', ...args, 'trade_data'], {
    env: { PGCONNECT_TIMEOUT: '5' },
  })
}

/** What the four sums and the number of transactions are. */
async function balance(sql: (text: string) => Promise<(string | null)[][]>): Promise<{ totals: string[]; transactions: number }> {
  const totals: string[] = []
  for (const text of sums) totals.push(String((await sql(text))[0]?.[0]))
  return { totals, transactions: Number((await sql('SELECT count(*) FROM pgbench_history'))[0]?.[0]) }
}

test('eight clients of pgbench keep their books through every kill', async () => {
  const guarded = await Guarded.prepare({
    plugins: [
      'watchdog: { schedule: "* * * * * *", max_restarts: 1000 }',
      'checkpointer: false', // its own are too few
      'integrity-scanner: false', // or its snapshots let the journal forget its beginning
    ],
  })
  const rebuilt = await TestEngine.prepare({ data: path.join(temporaryDirectory('r'), 'data') })
  try {
    await guarded.start()
    const initialized = pgbench(guarded, '-i', '-q', '-s', '5')
    assert.is((await initialized.exited).code, 0, initialized.output())

    let acknowledged = 0
    let runs = 0
    const unexpected = new Set<string>()
    const until = systemClock.monotonic() + seconds * 1000
    const bench = async () => {
      while (systemClock.monotonic() < until) {
        const left = Math.max(1, Math.ceil((until - systemClock.monotonic()) / 1000))
        const run = pgbench(guarded, '-n', '-b', 'tpcb-like', '-c', String(clients), '-T', String(left), '--max-tries=0')
        await run.exited
        runs++
        acknowledged += Number(/transactions actually processed: (\d+)/.exec(run.stdout())?.[1] ?? 0)
        for (const [line] of run.stderr().matchAll(/(ERROR|FATAL|PANIC):.*/g)) unexpected.add(line)
      }
    }
    let kills = 0
    const killer = async () => {
      for (;;) {
        await systemClock.sleep(5_000) // the fault's own rhythm
        if (systemClock.monotonic() >= until) return
        await guarded.killEngine()
        kills++
      }
    }
    let checkpoints = 0
    /** So often that kills meet them. */
    const checkpointer = async () => {
      while (systemClock.monotonic() < until) {
        try {
          await guarded.control((engine) => engine.checkpoint())
          checkpoints++
        } catch {
          // The engine was killed, or is not there yet.
        }
        await systemClock.sleep(100)
      }
    }
    await Promise.all([bench(), killer(), checkpointer()])
    // The last kill may still be on its way.
    await guarded.until('the engine serves again', ({ engine }) => engine.state === 'up', patience)
    process.stdout.write(`[${runs} runs, ${kills} kills, ${checkpoints} checkpoints, ${acknowledged} transactions acknowledged] `)
    assert.equal([...unexpected], [])
    assert.ok(kills > 0 && acknowledged > 0 && checkpoints > 0)

    const { totals, transactions } = await balance((text) => guarded.sql(text))
    assert.equal(totals, Array(4).fill(totals[3]), 'the sums agree in the database')
    assert.ok(transactions >= acknowledged, `${acknowledged} acknowledged, ${transactions} found`)
    assert.ok(transactions <= acknowledged + clients * (kills + 1), `${acknowledged} acknowledged, ${transactions} found`)

    await guarded.stop()
    fs.copyFileSync(path.join(guarded.data, 'identity.json'), path.join(rebuilt.data, 'identity.json'))
    fs.cpSync(path.join(guarded.data, 'journal'), path.join(rebuilt.data, 'journal'), { recursive: true })
    await rebuilt.start()
    assert.equal(rebuilt.control.hello.recovery.refused, [])
    assert.equal(rebuilt.control.hello.recovery.gaps, [])
    assert.equal(await balance((text) => rebuilt.sql(text)), { totals, transactions }, 'the journal alone gives the same')
  } finally {
    await guarded.end()
    await rebuilt.kill()
  }
})

test.run()
