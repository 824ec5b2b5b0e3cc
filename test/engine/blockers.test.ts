// deadline: 240s
// Who stands in the way of a checkpoint past the bound of time or memory is ended, the oldest first, and nobody else is.

import fs from 'node:fs'
import type { Socket } from 'node:net'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type pg from 'pg'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Blockers, type BlockersOptions } from '../../agent/engine/blockers.ts'
import type { Pass } from '../../agent/engine/gate.ts'
import type { OpenWork, Presence } from '../../agent/engine/presence.ts'
import type { SqlError } from '../../agent/engine/sql-error.ts'
import { silentLog } from '../../agent/log.ts'
import { createTestClock } from '../support/clock.ts'
import { codeOf, rowsOf, TestEngine } from '../support/engine.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const test = suite('blockers')

/** Runs until it is stopped, with a snapshot of `t`. */
const endless = 'SELECT count(*) FROM t a, range(10000000000) b, range(10000000000) c WHERE a.v + b.range + c.range < 0'
const sum = 'SELECT count(*), sum(v) FROM t'

const atOnce = 'blocked_checkpoint_timeout: 1ms'

async function withEngine(lines: string[], work: (engine: TestEngine) => Promise<void>): Promise<void> {
  const engine = await TestEngine.start({ engine: ['idle_in_transaction_timeout: 1h', ...lines] })
  try {
    await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)', 'INSERT INTO t SELECT i, i FROM range(100) r(i)')
    await work(engine)
  } finally {
    await engine.kill()
  }
}

/** A client that has begun a transaction with these statements; `ended` is the SQLSTATE that its connection was ended with. */
async function open(engine: TestEngine, ...statements: string[]): Promise<{ client: pg.Client; ended: string | undefined }> {
  const client = await engine.connect()
  const opened = { client, ended: undefined as string | undefined }
  client.on('error', (error: Error & { code?: string }) => {
    opened.ended ??= error.code
  })
  for (const text of ['BEGIN', ...statements]) await client.query(text)
  return opened
}

/** CPU time that the engine has used, in ticks of 10 ms. */
function ticks(engine: TestEngine): number {
  const fields = fs.readFileSync(`/proc/${engine.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return Number(fields[11]) + Number(fields[12])
}

/** Waits until it has nothing to do. */
async function rests(engine: TestEngine): Promise<void> {
  const seen: number[] = []
  await waitFor('the engine rests', () => seen.push(ticks(engine)) > 3 && seen.at(-1) === seen.at(-4), { every: 100 })
}

/** Begins a query, and waits until DuckDB is at work on it. */
async function begin(engine: TestEngine, client: pg.Client, query: string): Promise<{ answer: Promise<string | undefined> }> {
  const before = ticks(engine)
  const answer = codeOf(client.query(query))
  await waitFor('the query runs', () => ticks(engine) >= before + 20)
  return { answer }
}

const told = (checkpoint: Promise<unknown>) =>
  checkpoint.then(
    () => 'it was made',
    (error: Error) => error.message,
  )

const pidOf = (client: pg.Client) => (client as unknown as { processID: number }).processID

/** A session as blockers see it. */
class Actor {
  readonly who = { user: 'ada', application: 'psql', pid: 7 }
  work: { openedAt: number; snapshotSeq: number | undefined; pass: Pass; ended: boolean } | undefined
  activity: 'idle' | 'running' | 'ending' = 'idle'
  ended: string[] = []

  constructor(work: Partial<OpenWork>) {
    this.work = { openedAt: 0, snapshotSeq: 1, pass: { mode: 'none' }, ended: false, ...work }
  }

  async interrupt(reason: SqlError): Promise<boolean> {
    this.end(reason)
    return true
  }

  end({ code }: SqlError): void {
    this.ended.push(code)
    if (this.work !== undefined) this.work.ended = true
    this.work = undefined
  }
}

function blockersOf(actors: Actor[], options: Partial<BlockersOptions> = {}) {
  const clock = createTestClock()
  const presences = actors as unknown as Presence[]
  const all = { presences, lastChange: () => 10, timeout: 300_000, memoryShort: async () => false, clock, log: silentLog, ...options }
  return { blockers: new Blockers(all), clock, now: () => clock.monotonic() }
}

test('the bound counts from the first refusal in a row, and nobody is ended who came after the checkpoint was asked for', async () => {
  const [old, young] = [new Actor({ snapshotSeq: 3 }), new Actor({ snapshotSeq: 4, openedAt: Number.MAX_VALUE })]
  const { blockers, clock, now } = blockersOf([young, old])
  assert.is(await blockers.makeWay('readers', now()), false)
  // It was not asked for any more: what is refused now is another one.
  clock.advance(400_000)
  assert.not(blockers.blocked)
  assert.is(await blockers.makeWay('readers', now()), false)
  for (let minute = 0; minute < 5; minute++) {
    clock.advance(50_000)
    assert.is(await blockers.makeWay('readers', now()), false)
  }
  assert.equal([old.ended, young.ended], [[], []])
  clock.advance(50_000)
  assert.is(await blockers.makeWay('readers', now()), true)
  assert.equal([old.ended, young.ended], [['25P03'], []])
  assert.is(await blockers.makeWay('readers', now()), false)
  blockers.cleared()
  assert.not(blockers.blocked)
  assert.equal(young.ended, [])
})

test('who has the snapshot of the last change, none, or is about to be gone, is not in the way of a checkpoint', async () => {
  const actors = [new Actor({ snapshotSeq: 10 }), new Actor({ snapshotSeq: undefined }), new Actor({ snapshotSeq: 11 })]
  const { blockers, now } = blockersOf(actors, { timeout: 1 })
  assert.is(await blockers.makeWay('readers', now() - 10), false)
  const writer = new Actor({ pass: { mode: 'shared' } })
  writer.activity = 'ending'
  const committing = blockersOf([writer], { timeout: 1 })
  const way = committing.blockers.makeWay('writers', committing.now() - 10)
  Object.assign(writer.work as object, { ended: true })
  assert.is(await way, true)
  assert.equal(
    [...actors, writer].map(({ ended }) => ended.length),
    [0, 0, 0, 0],
  )
  assert.is(committing.blockers.facts.blockersEnded, 0)
})

test('where memory is short, a statement that writes is left to end by itself; who idles, or reads, is not', async () => {
  for (const [obstacle, activity, code] of [
    ['writers', 'running', undefined],
    ['writers', 'idle', '25P03'],
    ['readers', 'running', '40001'],
  ] as const) {
    const actor = new Actor({ pass: { mode: obstacle === 'writers' ? 'shared' : 'none' } })
    actor.activity = activity
    const { blockers, now } = blockersOf([actor], { memoryShort: async () => true })
    assert.is(await blockers.makeWay(obstacle, now()), code !== undefined)
    assert.equal(actor.ended, code === undefined ? [] : [code])
  }
})

test('those that write and stand in the way are ended, the oldest first: 25P03 for who idles, 40001 for what runs', () =>
  withEngine([atOnce], async (engine) => {
    const idle = await open(engine, 'UPDATE t SET v = 0')
    const busy = await open(engine, 'INSERT INTO t VALUES (1000, 1)')
    const ended: string[] = []
    idle.client.once('error', () => ended.push('idle'))
    const running = codeOf(busy.client.query(endless)).then((code) => ended.push(`running ${code}`))
    const before = await engine.control.status()
    assert.equal([before.blockersEnded, before.lastBlockerEnded], [0, null])
    const { watermark } = await engine.control.checkpoint()
    assert.is(watermark, 2)
    await running
    assert.is(idle.ended, '25P03')
    assert.equal(ended, ['idle', 'running 40001'])
    // Its transaction has failed, its session has not.
    assert.is(await codeOf(busy.client.query('SELECT 1')), '25P02')
    await busy.client.query('ROLLBACK')
    assert.equal(await rowsOf(busy.client, sum), [['100', '4950']])
    const { blockersEnded, lastBlockerEnded } = await engine.control.status()
    assert.is(blockersEnded, 2)
    assert.equal(
      { ...lastBlockerEnded, at: 0, why: '' },
      { at: 0, user: 'trader', application: '', pid: pidOf(busy.client), code: '40001', why: '' },
    )
    assert.match(lastBlockerEnded?.why ?? '', /^a checkpoint had been refused for \d/)
    assert.ok(Math.abs((lastBlockerEnded?.at ?? 0) - Date.now()) < 60_000)
  }))

test('of those who read, only who is older than an update is ended, who does not read its rows too; who is in nobody’s way goes on', () =>
  withEngine([atOnce], async (engine) => {
    // Its snapshot is not taken before it looks at the database.
    const unborn = await open(engine, 'SELECT 1')
    const oldest = await open(engine, sum)
    const deaf = await engine.connect()
    const { stream } = (deaf as unknown as { connection: { stream: Socket } }).connection
    stream.pause()
    const unread = codeOf(deaf.query('SELECT repeat(md5(a.v::VARCHAR), 1000) FROM t a, range(100000) b'))
    await rests(engine)
    const old = await engine.connect()
    const { answer } = await begin(engine, old, endless)
    await engine.sql('INSERT INTO t VALUES (500, 0)', 'DELETE FROM t WHERE id = 500')
    // Nobody is in the way of inserts and deletes.
    await engine.control.checkpoint()
    assert.is((await engine.control.status()).blockersEnded, 0)
    await engine.sql('UPDATE t SET v = v + 1')
    const young = await open(engine, sum)
    assert.is((await engine.control.checkpoint()).watermark, 5)
    await waitFor('the old idle reader is told', () => oldest.ended === '25P03')
    assert.is(await answer, '40001')
    assert.equal(await rowsOf(old, sum), [['100', '5050']])
    stream.resume()
    assert.is.not(await unread, undefined)
    assert.equal(await rowsOf(young.client, sum), [['100', '5050']])
    assert.equal(await rowsOf(unborn.client, 'SELECT 2'), [['2']])
    assert.is((await engine.control.status()).blockersEnded, 3)
  }))

test('before the bound nobody is ended: the refusal says who is in the way, without anything of its SQL; nobody waits for it twice', () =>
  withEngine(['blocked_checkpoint_timeout: 1h'], async (engine) => {
    const reader = await open(engine, sum)
    await engine.sql('UPDATE t SET v = 4711 WHERE id = 1')
    assert.match(
      await told(engine.control.checkpoint()),
      `stand in the way of a checkpoint: the oldest is of user trader (pid ${pidOf(reader.client)}), open for `,
    )
    const writer = await open(engine, 'UPDATE t SET v = 4711 WHERE id = 2')
    const refusal = told(engine.control.checkpoint())
    // Held up until the checkpoint is put off.
    await engine.sql('INSERT INTO t VALUES (501, 0)')
    assert.match(await refusal, /pid \d+\), open for \d s, idle$/)
    assert.not.match(await refusal, '4711 ')
    // The same transaction is still there: these are put off at once, and hold nobody up.
    const impatient = await engine.connect()
    await impatient.query("SET lock_timeout = '1s'")
    for (let id = 600; id < 603; id++) {
      const again = told(engine.control.checkpoint())
      assert.is(await codeOf(impatient.query(`INSERT INTO t VALUES (${id}, 0)`)), undefined)
      assert.match(await again, /stand in the way/)
    }
    await writer.client.query('COMMIT')
    await reader.client.query('COMMIT')
    assert.is(await told(engine.control.checkpoint()), 'it was made')
    assert.is((await engine.control.status()).blockersEnded, 0)
  }))

test('where memory is short, a reader in the way is not waited for', () =>
  withEngine(['blocked_checkpoint_timeout: 1h'], async (engine) => {
    await engine.sql('CREATE TABLE wide (id INTEGER PRIMARY KEY, s VARCHAR)', "INSERT INTO wide SELECT i, '' FROM range(100000) r(i)")
    const reader = await open(engine, sum)
    await engine.sql('UPDATE t SET v = v + 1')
    assert.match(await told(engine.control.checkpoint()), /stand in the way/)
    const before = (await engine.control.status()).watermark
    const writer = await engine.connect()
    const full = async () => {
      await writer.query('UPDATE wide SET s = repeat(md5(id::VARCHAR || random()), 4)')
      return reader.ended === '25P03'
    }
    await waitFor('the reader is told', full, { deadline: 90_000 })
    await waitFor('the checkpoint is made', async () => (await engine.control.status()).watermark > before)
    assert.match((await engine.control.status()).lastBlockerEnded?.why ?? '', /memory is short/)
    assert.equal(await rowsOf(writer, 'SELECT count(*), count(DISTINCT s) > 99000 FROM wide'), [['100000', 't']])
  }))

test('a COMMIT is waited for, however long it takes', async () => {
  const held = path.join(temporaryDirectory('held'), 'held')
  const engine = await TestEngine.prepare({ engine: [atOnce] })
  engine.env = { HELD_SYNC: held, NODE_OPTIONS: `--import=${pathToFileURL(path.join(import.meta.dirname, 'support/held-sync.ts')).href}` }
  await engine.start()
  try {
    await engine.sql('CREATE TABLE t (id INTEGER PRIMARY KEY, v VARCHAR)')
    // So large that its images go to a file of their own, which is fsynced before DuckDB commits.
    const { client } = await open(engine, 'INSERT INTO t SELECT i, repeat(md5(i::VARCHAR), 10) FROM range(50000) r(i)')
    fs.writeFileSync(held, '')
    const committed = codeOf(client.query('COMMIT'))
    await waitFor('the COMMIT waits for the disk', () => fs.existsSync(`${held}.waits`), { every: 2 })
    const checkpoint = told(engine.control.checkpoint())
    // It gets in when the checkpoint is put off; then the COMMIT is all that is in the way.
    const later = await open(engine, "SET idle_in_transaction_session_timeout = '6s'", "INSERT INTO t VALUES (-1, '')")
    // By then anything else that does not heed an interrupt would have been cut off.
    await waitFor('6 s to pass in the engine', () => later.ended === '25P03')
    assert.is((await engine.control.status()).blockersEnded, 0)
    fs.rmSync(held)
    assert.is(await committed, undefined)
    assert.is(await checkpoint, 'it was made')
    assert.is((await engine.control.status()).blockersEnded, 0)
    assert.equal(await engine.sql('SELECT count(*) FROM t'), [['50000']])
  } finally {
    fs.rmSync(held, { force: true })
    await engine.kill()
  }
})

test.run()
