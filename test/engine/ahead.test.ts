// deadline: 120s
// A client that has the engine to itself: the journal is given each transaction while DuckDB commits it. What DuckDB refuses is in the journal no more when the client is told.

import fs from 'node:fs'
import path from 'node:path'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { TransactionEncoder } from '../../agent/journal/record.ts'
import { readTransactions } from '../../agent/journal/transactions.ts'
import type { Change, Transaction } from '../../agent/journal/types.ts'
import { faultEnvironment } from '../fault/support/faults.ts'
import { type BatchPlace, batchesOf, flip, lastIsAhead, openWriter, rebooted } from '../fixtures/journal.ts'
import { codeOf, TestEngine } from '../support/engine.ts'
import { sourceCommand } from '../support/program.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('written ahead')
let engine: TestEngine
let client: pg.Client
let next = 1

test.before.each(async () => {
  engine = await TestEngine.start()
  client = await engine.connect()
  await client.query('CREATE TABLE parent (id INTEGER PRIMARY KEY)')
  await client.query('CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR NOT NULL, p INTEGER REFERENCES parent (id))')
  next = 1
})

test.after.each(() => engine.kill())

const journal = () => path.join(engine.data, 'journal')
const insert = (id: number, v: string | null = `v${id}`, p: number | null = null) =>
  client.query('INSERT INTO t VALUES ($1, $2, $3)', [id, v, p])
const ahead = () => batchesOf(journal()).map((batch) => batch.ahead)

async function untilAlone(): Promise<void> {
  await waitFor('the engine finds that one client has it to itself', async () => {
    await insert(next++)
    return lastIsAhead(journal())
  })
}

/** Keys that the journal inserts into t, by seq; each seq stands once, and in order. */
function journaled(): number[] {
  const keys: number[] = []
  let seq = 0
  for (const transaction of readTransactions(journal(), 1)) {
    assert.is(transaction.seq, ++seq)
    for (const change of transaction.changes as readonly Change[])
      if (change.kind === 'insert' && change.table.name === 't') keys.push(...(change.rows.columns[0] as number[]))
  }
  return keys
}

const stored = async () => (await engine.sql('SELECT id FROM t ORDER BY id')).map(([id]) => Number(id))

test('what DuckDB refuses is not in the journal, and the engine is wary for a while; all else is, once', async () => {
  await untilAlone()
  const refusals: [string, () => Promise<unknown>][] = [
    ['23505', () => insert(1)],
    ['23502', () => insert(next, null)],
    ['23503', () => insert(next, 'x', 77)],
  ]
  for (const [code, refuse] of refusals) {
    const before = journaled()
    assert.is(await codeOf(refuse()), code)
    assert.equal(journaled(), before)
    await insert(next++)
    // A value that is missing is found before anything is written.
    assert.is(lastIsAhead(journal()), code === '23502', 'it is wary')
    await untilAlone()
  }
  await client.query('BEGIN')
  await insert(next++)
  await client.query('UPDATE t SET v = $1 WHERE id = $2', ['changed', 1])
  await client.query('COMMIT')
  assert.ok(lastIsAhead(journal()), 'a transaction block goes the same way')
  assert.equal(
    await stored(),
    Array.from({ length: next - 1 }, (_, i) => i + 1),
  )
  assert.equal(journaled(), await stored())
  await engine.restart()
  assert.equal(engine.control.hello.recovery.refused, [])
  assert.equal(journaled(), await stored())
})

test('beside others nothing is written ahead', async () => {
  await untilAlone()
  const other = await engine.connect()
  const before = ahead().length
  for (let i = 0; i < 20; i++) {
    await other.query('SELECT 1')
    await insert(next++)
  }
  assert.equal(ahead().slice(before), Array<boolean>(20).fill(false))
})

/** Leaves a transaction in the journal of the killed engine that was written ahead, and of which nothing says what DuckDB made of it. Gives back the last seq before it. */
async function leaveInDoubt(change: (last: Change) => Change, powerCut: boolean): Promise<number> {
  await insert(next++)
  const { databaseId } = engine.control.hello
  const { durableSeq } = await engine.control.status()
  await engine.kill()
  const last = [...readTransactions(journal(), durableSeq)].at(-1) as Transaction
  const mark = fs.readFileSync(path.join(journal(), 'durable.mark'))
  const writer = openWriter(journal(), { databaseId, nextSeq: durableSeq + 1 })
  const encoder = new TransactionEncoder()
  encoder.add(change((last.changes as readonly Change[])[0] as Change))
  const transaction = encoder.finish()
  writer.reserve([transaction])
  writer.writeAhead(transaction, Date.now()).confirm()
  await writer.close()
  fs.writeFileSync(path.join(journal(), 'durable.mark'), mark)
  if (powerCut) rebooted(journal(), databaseId)
  return durableSeq
}

const newRow = (last: Change) => ({ ...last, rows: { count: 1, columns: [[1000], ['in doubt'], [null]] } }) as Change

async function restarted() {
  await engine.start()
  client = await engine.connect()
  const { recovery, durableSeq } = engine.control.hello
  return { ...recovery, durableSeq }
}

for (const powerCut of [false, true]) {
  const end = powerCut ? 'a power cut' : 'a kill'

  test(`${end} between the two: what DuckDB refuses now was refused before; its seq is given anew, in a new epoch, and nobody is told of an incident`, async () => {
    const { epoch } = engine.control.hello
    const before = await leaveInDoubt((last) => last, powerCut)
    const { refused, gaps, quarantined, withdrawn, durableSeq } = await restarted()
    assert.equal([refused, gaps, quarantined, durableSeq], [[], [], [], before])
    assert.is(withdrawn?.seq, before + 1)
    assert.ok(fs.existsSync(withdrawn?.kept ?? ''))
    assert.is(engine.control.hello.epoch, epoch + 1)
    await insert(next++)
    assert.equal(journaled(), await stored())
    assert.is((await engine.control.status()).durableSeq, before + 1)
  })

  test(`${end} between the two: what DuckDB takes now is there from then on`, async () => {
    const before = await leaveInDoubt(newRow, powerCut)
    const { refused, gaps, withdrawn, durableSeq } = await restarted()
    assert.equal([refused, gaps, withdrawn, durableSeq], [[], [], undefined, before + 1])
    assert.ok((await stored()).includes(1000))
    await engine.restart()
    assert.ok((await stored()).includes(1000))
    assert.equal(journaled(), await stored())
  })
}

test('what has ended the engine twice when it was replayed is not tried again: it is withdrawn, and told of', async () => {
  await leaveInDoubt(newRow, false)
  engine.program = sourceCommand()
  engine.env = faultEnvironment({
    role: 'engine',
    faults: [{ label: 'DOUBT:TRIED', action: 'EIO' }],
  })
  for (let i = 0; i < 2; i++) {
    const child = engine.spawn()
    await waitFor('the engine has died', () => child.exit !== null)
    assert.is(child.exit?.code, 70, 'no fault of the file’s')
  }
  engine.env = {}
  assert.ok(fs.existsSync(path.join(journal(), 'trial.json')))
  const { refused, withdrawn } = await restarted()
  assert.not(fs.existsSync(path.join(journal(), 'trial.json')))
  assert.is(refused.length, 1)
  assert.is(refused[0]?.seq, withdrawn?.seq)
  assert.not((await stored()).includes(1000))
  await insert(next++)
  assert.equal(journaled(), await stored())
})

test('a refused row does not come in through the net effect of a replay, over a row that was changed', async () => {
  for (let i = 0; i < 5; i++) await insert(next++)
  const key = next
  await insert(next++)
  await client.query('UPDATE t SET v = $1 WHERE id = $2', ['acknowledged', key])
  await leaveInDoubt((last) => ({ ...last, rows: { count: 1, columns: [[key], ['refused'], [null]] } }) as Change, true)
  const { refused, withdrawn } = await restarted()
  assert.equal(refused, [])
  assert.ok(withdrawn)
  assert.equal(await engine.sql(`SELECT v FROM t WHERE id = ${key}`), [['acknowledged']])
})

test('beside other damage a refusal proves nothing: it is told of, and nothing is cut', async () => {
  await insert(next++)
  const last = batchesOf(journal()).at(-1) as BatchPlace
  await leaveInDoubt((change) => change, true)
  flip(last.file, last.offset + last.length - 12)
  const { refused, gaps, withdrawn } = await restarted()
  assert.is(withdrawn, undefined)
  assert.is(refused.length, 1)
  assert.is(gaps.length, 1)
})

test.run()
