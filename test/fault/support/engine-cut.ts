/** What must hold where an engine's life was cut off (test/fault/support/engine-life.ts): of the journal as it lies there, and of an engine that starts on it. */

import fs from 'node:fs'
import path from 'node:path'
import * as assert from 'uvu/assert'
import { keep, withdraw } from '../../../agent/journal/doubt.ts'
import { repairJournal } from '../../../agent/journal/repair.ts'
import { listSegments } from '../../../agent/journal/segment.ts'
import { readTransactions } from '../../../agent/journal/transactions.ts'
import { isSpilled } from '../../../agent/journal/types.ts'
import { snapshotSource } from '../../../agent/snapshots.ts'
import { replaceDatabase } from '../../../agent/supervisor/restore.ts'
import { TestEngine } from '../../support/engine.ts'
import { waitFor } from '../../support/wait.ts'
import { bulkRows, type Engines, legs, type Told } from './engine-life.ts'
import { faultEnvironment } from './faults.ts'
import { assertConsumed, type Cut } from './power-cut.ts'

function relied(told: readonly Told[]): { orders: Set<number>; confirmed: number } {
  const orders = new Set<number>()
  let confirmed = 0
  for (const what of told) {
    if ('confirmed' in what) confirmed = what.confirmed
    else for (const order of what.orders) orders.add(order)
  }
  return { orders, confirmed }
}

/** Without an engine: the journal is repaired, and read from its beginning on; a consumer goes on. */
export async function assertJournalHolds({ root }: Cut, told: readonly Told[], { sent, refused }: Engines): Promise<void> {
  const data = path.join(root, 'data')
  const journal = path.join(data, 'journal')
  const { orders, confirmed } = relied(told)
  if (!fs.existsSync(path.join(data, 'identity.json'))) {
    assert.is(orders.size, 0, 'the identity is gone')
    assert.equal(listSegments(journal), [])
    return
  }
  const { databaseId } = JSON.parse(fs.readFileSync(path.join(data, 'identity.json'), 'utf8'))
  const repaired = repairJournal(journal, databaseId, path.join(data, 'quarantine'))
  assert.equal([repaired.gaps, repaired.quarantined], [[], []])
  if (repaired.doubt !== undefined) {
    // As DuckDB would decide: an order that is there already is refused.
    if (isAgain(journal, repaired.doubt.seq)) {
      withdraw(journal, databaseId, repaired.doubt, { quarantine: path.join(data, 'quarantine'), reason: 'it is there already' })
      repaired.lastSeq--
    } else keep(journal, databaseId, repaired.doubt)
  }
  const found = ordersIn(journal)
  assertOrders(new Map([...found].map(([order, { rows }]) => [order, rows])), orders, refused)
  for (const client of [1, 2, 3]) {
    const seqs = [...orders].filter((order) => sent.get(order) === client).map((order) => found.get(order)?.seq as number)
    assert.equal(
      seqs,
      seqs.toSorted((a, b) => a - b),
      `commits of client ${client} are in their order`,
    )
  }
  await assertConsumed({ journal, cursors: path.join(data, 'cursors'), databaseId }, confirmed, repaired)
}

/** Whether a transaction inserts an order that an earlier one has inserted. */
function isAgain(journal: string, seq: number): boolean {
  const ids = new Set<unknown>()
  for (const transaction of readTransactions(journal, 1, seq))
    for (const change of transaction.changes)
      if (change.kind === 'insert' && change.table.name === 'singles')
        for (const id of change.rows.columns[0] as bigint[]) {
          if (transaction.seq === seq && ids.has(id)) return true
          ids.add(id)
        }
  return false
}

/** Every order with its seq and rows. */
function ordersIn(journal: string): Map<number, { seq: number; rows: number }> {
  const found = new Map<number, { seq: number; rows: number }>()
  let expected = 1
  for (const { seq, changes } of readTransactions(journal, 1)) {
    assert.is(seq, expected++, 'seqs come in order, without holes')
    for (const change of changes) {
      if (change.kind !== 'insert') continue
      for (const id of change.rows.columns[0] as bigint[]) {
        const order = Number(id)
        const before = found.get(order)
        assert.ok(before === undefined || before.seq === seq, `order ${order} is at seq ${before?.seq} and ${seq}`)
        found.set(order, { seq, rows: (before?.rows ?? 0) + 1 })
      }
      assert.is(isSpilled(changes), change.table.name === 'bulk')
    }
  }
  return found
}

/** What is told is there, what was refused is not, and nothing is there in part. */
function assertOrders(rows: ReadonlyMap<number, number>, told: ReadonlySet<number>, refused: readonly number[]): void {
  assert.equal(
    [...told].filter((order) => !rows.has(order)),
    [],
    'acknowledged or read, and not there',
  )
  assert.equal(
    refused.filter((order) => rows.has(order)),
    [],
    'told "failed", and there',
  )
  assert.equal(
    [...rows].filter(([, count]) => ![1, legs, bulkRows].includes(count)),
    [],
    'half transactions',
  )
}

/**
 * An engine starts on what is left and has everything; a database file that the cut has damaged, in a checkpoint, is replaced as the agent does
 * it. The engine lives on until `end` has returned. `log`: records it. `earlier`: the cut that its life began with, which may have damaged the file as well.
 */
export async function assertEngineHolds(
  cut: Cut,
  told: readonly Told[],
  { refused }: Pick<Engines, 'refused'>,
  options: { log?: string; end?: (engine: TestEngine) => Promise<void>; earlier?: Cut } = {},
): Promise<'served' | 'restored'> {
  const engine = await TestEngine.prepare({ data: path.join(cut.root, 'data') })
  if (options.log !== undefined) engine.env = faultEnvironment({ role: 'engine', record: { log: options.log, database: engine.database } })
  const mayBeDamaged = [cut, options.earlier].some((each) => each?.description.includes(`\n${path.basename(engine.database)}: `))
  try {
    let result: 'served' | 'restored' = 'served'
    try {
      await check(engine, told, refused)
    } catch (error) {
      const damaged = (await ended(engine)) === 74
      if (!damaged || !mayBeDamaged) throw error
      await restore(engine)
      await check(engine, told, refused)
      result = 'restored'
    }
    await options.end?.(engine)
    return result
  } finally {
    await engine.kill()
  }
}

async function check(engine: TestEngine, told: readonly Told[], refused: readonly number[]): Promise<void> {
  await engine.start()
  const { recovery, durableSeq } = engine.control.hello
  assert.equal([recovery.gaps, recovery.refused, recovery.quarantined], [[], [], []])
  assert.ok(recovery.watermark <= durableSeq, 'the file has nothing that the journal has not')
  const { orders } = relied(told)
  const [[tables] = []] = await engine.sql("SELECT count(*) FROM duckdb_tables() WHERE table_name IN ('singles', 'legs', 'bulk')")
  if (tables !== '3') {
    assert.is(orders.size, 0, 'the tables are gone')
    return
  }
  const rows = await engine.sql(
    "SELECT id, count(*) FROM singles WHERE id > 0 AND note = 'order ' || id GROUP BY id",
    `SELECT id, count(*) FROM (
      SELECT id FROM singles WHERE id > 0 AND note = 'order ' || id UNION ALL SELECT id FROM legs WHERE amount IN (1, ${1 - legs})
      UNION ALL SELECT id FROM bulk WHERE v = repeat('v', 20000)) GROUP BY id`,
  )
  assertOrders(new Map(rows.map(([id, count]) => [Number(id), Number(count)])), orders, refused)
}

/** The exit code of an engine that is ending; null for one that serves. */
async function ended(engine: TestEngine): Promise<number | null> {
  if (!engine.running) return (await engine.exit()).code
  // A query has found the damage: the engine is about to end.
  await waitFor('the engine ends', () => !engine.running, { deadline: 2_000 }).catch(() => {})
  return engine.running ? null : (await engine.exit()).code
}

/** The agent's step for a damaged file. */
async function restore({ data, database }: TestEngine): Promise<void> {
  const { databaseId } = JSON.parse(fs.readFileSync(path.join(data, 'identity.json'), 'utf8'))
  const inData = (name: string) => path.join(data, name)
  const { loss, quarantined } = await replaceDatabase({
    paths: { database, journal: inData('journal'), quarantine: inData('quarantine'), engineLog: inData('engine.log') },
    snapshots: snapshotSource(inData('snapshots'), databaseId),
    reason: 'a power cut in a checkpoint',
    evidence: {},
    tried: new Set(),
    adopted: false,
    time: Date.now(),
  })
  await Promise.all(quarantined.map(({ settled }) => settled))
  assert.is(loss, 0)
}
