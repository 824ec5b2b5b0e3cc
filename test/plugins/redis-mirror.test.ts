import { Redis } from 'ioredis'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { cellText } from '../../agent/cell-text.ts'
import type { Cell, Table, Transaction } from '../../agent/journal/types.ts'
import type { RunningPlugin } from '../../agent/plugin.ts'
import { decodeRow, decodeTable, Keys } from '../../plugins/redis-mirror/row.ts'
import { applyUnit } from '../../plugins/redis-mirror/script.ts'
import { defaultLimits, units } from '../../plugins/redis-mirror/units.ts'
import redisMirror from '../../plugins/redis-mirror.ts'
import { MemoryConsumer, MemoryJournal, someSpilled } from '../fixtures/memory-consumer.ts'
import { type TestContext, testContext } from '../fixtures/plugin-context.ts'
import { TcpProxy } from '../fixtures/tcp-proxy.ts'
import { column, positions, rowsOf, ticks, trades, Workload } from '../fixtures/workload.ts'
import { seededRandom } from '../support/random.ts'
import { startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/server.ts'
import { waitFor } from '../support/wait.ts'

const keys = new Keys('host-1')
const hour = 3_600_000
let server: TestServer
let redis: Redis

test.before(async () => {
  server = await startRedis({ appendOnly: true })
  redis = new Redis(server.url, { retryStrategy: () => 50 })
  redis.on('error', () => {})
})
test.before.each(async () => {
  await redis.flushall()
})
test.after(async () => {
  redis?.disconnect()
  await server?.stop()
})

interface Mirror {
  plugin: RunningPlugin
  context: TestContext
  consumer: MemoryConsumer
}

async function start(
  journal: MemoryJournal,
  options: { port?: number; retention?: string; tables?: string[]; callsBeforeDeath?: number } = {},
): Promise<Mirror> {
  const consumer = new MemoryConsumer(journal, options.callsBeforeDeath)
  const context = testContext({ name: 'redis-mirror', consumer })
  const parsed = redisMirror.options.parse({
    url: `redis://127.0.0.1:${options.port ?? server.port}`,
    ...(options.retention === undefined ? {} : { retention: options.retention }),
    ...(options.tables === undefined ? {} : { tables: options.tables }),
  })
  return { plugin: await redisMirror.start(context, parsed), context, consumer }
}

async function mirrored(seq: number, { deadline = 20_000, signal }: { deadline?: number; signal?: AbortSignal } = {}): Promise<void> {
  await waitFor(
    `the watermark to reach ${seq}`,
    async () => Number(await redis.hget(keys.watermark, 'seq')) === seq && (await redis.hget(keys.watermark, 'part')) === null,
    { deadline, signal },
  )
}

function texts(table: Table, cells: readonly (Cell | undefined)[]): string {
  return JSON.stringify(
    cells.map((cell, i) => (cell === undefined ? '(default)' : cell === null ? null : cellText(cell, table.columns[i]!.type))),
  )
}

/** All rows of a table in Redis, decoded: cells as text, by key. */
async function rowsInRedis(table: Table): Promise<string[]> {
  const found = await redis.keys(`${keys.rows(table).replace(/[*%]/g, (c) => `\\${c}`)}*`)
  const hashes = await Promise.all(found.map((key) => redis.hgetall(key)))
  if (hashes.length === 0) return []
  const definition = decodeTable(await redis.hgetall(keys.table(table)))
  return hashes.map((hash) => texts(definition, decodeRow(hash, definition).cells)).sort()
}

async function assertEqualsModel(workload: Workload): Promise<void> {
  for (const table of [trades, positions, ticks]) {
    assert.equal(
      await rowsInRedis(table),
      [...workload.model.get(table)!.values()].map((row) => texts(table, row.cells)).sort(),
      table.name,
    )
  }
}

/** Seq and order of the stream's entries must be those of the journal, each once. */
async function assertStreamIs(transactions: readonly Transaction[]): Promise<void> {
  const expected = transactions.flatMap(({ seq, changes }) =>
    [...changes].flatMap((change, i) =>
      Array.from({ length: 'rows' in change ? change.rows.count : 1 }, () => `${seq}.${i} ${change.kind}`),
    ),
  )
  const entries = await redis.xrange(keys.changes, '-', '+')
  const found = entries.map(([, fields]) => {
    const entry = Object.fromEntries(Array.from({ length: fields.length / 2 }, (_, i) => [fields[i * 2], fields[i * 2 + 1]]))
    return `${entry.seq}.${entry.change} ${entry.op}`
  })
  assert.equal(found, expected)
}

test('a random workload leaves the same rows in Redis as in the model, and every change once in the stream', async () => {
  const workload = new Workload(seededRandom('redis workload'))
  const journal = new MemoryJournal()
  const { plugin } = await start(journal)
  for (let round = 0; round < 10; round++) journal.append(...workload.transactions(30))
  await mirrored(workload.seq)
  await assertEqualsModel(workload)
  await assertStreamIs(journal.transactions)
  await waitFor('the cursor', () => journal.confirmed === workload.seq)
  assert.ok(plugin.health().healthy)
  assert.is(plugin.health().facts.lag_transactions, 0)
  await plugin.stop()
})

test('a crash of the agent at any durable step, or a connection cut before or after any request, loses and doubles nothing', async () => {
  const random = seededRandom('redis crashes')
  const workload = new Workload(random)
  const journal = new MemoryJournal()
  const proxy = await TcpProxy.start(server.port)
  for (let round = 0; round < 60; round++) {
    journal.append(...someSpilled(workload.transactions(random.int(1, 12)), random))
    const mirror = await start(journal, {
      port: proxy.port,
      ...(random.chance(0.5) ? { callsBeforeDeath: random.int(0, 3) + (random.chance(0.5) ? 0.5 : 0) } : {}),
    })
    const cutOff = new Promise<void>((resolve) => {
      proxy.onCut = resolve
    })
    proxy.cutAt(random.int(1, 8), random.pick(['before', 'after']))
    const over = new AbortController()
    await Promise.race([mirror.consumer.died, cutOff, mirrored(workload.seq, { signal: over.signal })])
    over.abort()
    mirror.consumer.die()
    proxy.refuse()
    void mirror.plugin.stop()
    proxy.allow()
  }
  const { plugin } = await start(journal)
  await mirrored(workload.seq)
  await assertEqualsModel(workload)
  await assertStreamIs(journal.transactions)
  await plugin.stop()
  await proxy.close()
})

test('a batch that Redis gets a second time, late, from a connection thought lost, changes nothing', async () => {
  const workload = new Workload(seededRandom('redis replay'))
  const transactions = workload.transactions(20)
  const settings = {
    keys,
    selected: () => true,
    retention: hour,
    now: Date.now,
    limits: defaultLimits,
    knownTables: new Map<string, string>(),
  }
  const steps = [...units(transactions, null, settings)]
  const stream = { oldest: 0, expiry: hour }
  for (const { unit } of steps) assert.is((await applyUnit(redis, keys, 'db-1', unit, stream)).kind, 'applied')
  for (const { unit } of steps) assert.is((await applyUnit(redis, keys, 'db-1', unit, stream)).kind, 'moved')
  assert.is((await applyUnit(redis, keys, 'db-2', steps[0]!.unit, stream)).kind, 'foreign')
  await assertEqualsModel(workload)
  await assertStreamIs(transactions)
})

test('Redis killed and started again under load: it catches up by itself', async () => {
  const random = seededRandom('redis kills')
  const workload = new Workload(random)
  const journal = new MemoryJournal()
  const { plugin, context } = await start(journal)
  for (let round = 0; round < 4; round++) {
    journal.append(...someSpilled(workload.transactions(200), random))
    await waitFor('some of it to be mirrored', async () => Number(await redis.hget(keys.watermark, 'seq')) > round * 200 + 1)
    await server.kill()
    journal.append(...workload.transactions(random.int(1, 20)))
    await waitFor('the plugin to notice', () => !plugin.health().healthy)
    await server.start()
    journal.append(...workload.transactions(0))
    await mirrored(workload.seq)
  }
  await assertEqualsModel(workload)
  await assertStreamIs(journal.transactions)
  await waitFor('the plugin to be healthy', () => plugin.health().healthy)
  assert.ok(context.opened.every((incident) => incident.closedAt !== null))
  await plugin.stop()
})

test('Redis that lost everything is filled again from the oldest transaction that the journal has', async () => {
  const workload = new Workload(seededRandom('redis flushed'))
  const journal = new MemoryJournal()
  const { plugin } = await start(journal)
  journal.append(...workload.transactions(50))
  await mirrored(workload.seq)
  await redis.flushall()
  journal.append(workload.transaction())
  await mirrored(workload.seq)
  await assertEqualsModel(workload)
  await assertStreamIs(journal.transactions)
  await plugin.stop()
})

test('Redis that fell back behind what the journal still has starts anew, and an incident names the gap', async () => {
  const workload = new Workload(seededRandom('redis gap'))
  const journal = new MemoryJournal()
  journal.append(...workload.transactions(30))
  const first = await start(journal)
  await mirrored(30)
  await first.plugin.stop()
  await redis.hset(keys.watermark, 'seq', '10')
  journal.removedUpTo = 20
  journal.append({ seq: 31, time: Date.now(), changes: [{ kind: 'insert', table: ticks, rows: rowsOf([[1.5, 'A']]) }] })
  const second = await start(journal)
  await mirrored(31)
  assert.is(second.context.opened[0]?.cause, 'redis-mirror-gap')
  assert.match(second.context.opened[0]!.message, '11 to 20')
  for (const key of await redis.keys(`${keys.prefix}row:*`)) assert.ok(Number(await redis.hget(key, '_dg_seq')) > 20)
  await second.plugin.stop()
})

test('the mirror of another database is refused and left alone until an operator removes it', async () => {
  const journal = new MemoryJournal('mine')
  journal.append(...new Workload(seededRandom('redis foreign')).transactions(3))
  await redis.hset(keys.watermark, { database_id: 'other', seq: '7', time: '1' })
  const { plugin, context } = await start(journal)
  await waitFor('the incident', () => context.opened.length > 0)
  assert.is(context.opened[0]!.cause, 'redis-foreign-mirror')
  assert.match(context.opened[0]!.hint!, 'redis-cli')
  assert.is(context.alerts.length, 1)
  assert.not(plugin.health().healthy)
  assert.equal(await redis.hgetall(keys.watermark), { database_id: 'other', seq: '7', time: '1' })
  await redis.del(keys.watermark)
  await mirrored(3)
  await waitFor('the incident to close', () => context.opened[0]!.closedAt !== null)
  await plugin.stop()
})

test('Redis ahead of the journal is refused: what is in it may be the only trace', async () => {
  const journal = new MemoryJournal()
  journal.append(...new Workload(seededRandom('redis ahead')).transactions(3))
  await redis.hset(keys.watermark, { database_id: 'db-1', seq: '9', time: '1' })
  const { plugin, context } = await start(journal)
  await waitFor('the incident', () => context.opened[0]?.cause === 'redis-ahead-of-journal')
  assert.match(context.opened[0]!.message, '4 to 9')
  assert.is(await redis.hget(keys.watermark, 'seq'), '9')
  await plugin.stop()
})

test('rows and stream entries past retention are not mirrored, and rows expire by their commit time', async () => {
  const journal = new MemoryJournal()
  const insert = (seq: number, time: number): Transaction => ({
    seq,
    time,
    changes: [{ kind: 'insert', table: positions, rows: rowsOf([['a', seq, 1n]]) }],
  })
  const now = Date.now()
  journal.append(insert(1, now - 2 * hour), insert(2, now - hour / 2), insert(3, now))
  const { plugin } = await start(journal)
  await mirrored(3)
  assert.equal(
    (await rowsInRedis(positions)).map((text) => JSON.parse(text)[1]),
    ['2', '3'],
  )
  assert.ok(Math.abs((await redis.pexpiretime(keys.row(positions, 'a:2'))) - (now + hour / 2)) < 2)
  assert.is(await redis.xlen(keys.changes), 2)
  await plugin.stop()
})

test('a transaction of many rows is applied in parts, and resumes after a crash between two of them', async () => {
  const workload = new Workload(seededRandom('redis parts'))
  const journal = new MemoryJournal()
  journal.append(workload.transaction(), workload.bulk(45_000), workload.transaction())
  const proxy = await TcpProxy.start(server.port)
  const first = await start(journal, { port: proxy.port })
  await waitFor('the first part', async () => (await redis.hget(keys.watermark, 'part')) !== null)
  first.consumer.die()
  proxy.refuse()
  void first.plugin.stop()
  assert.is(await redis.hget(keys.watermark, 'seq'), '1')
  const second = await start(journal)
  await mirrored(3)
  await assertEqualsModel(workload)
  await assertStreamIs(journal.transactions)
  await second.plugin.stop()
  await proxy.close()
})

test('only the tables of the filter are mirrored; the watermark moves on all the same', async () => {
  const workload = new Workload(seededRandom('redis filter'))
  const journal = new MemoryJournal()
  journal.append(...workload.transactions(40))
  const { plugin } = await start(journal, { tables: ['ref.positions', 'TICKS'] })
  await mirrored(40)
  assert.equal(await rowsInRedis(trades), [])
  assert.ok((await rowsInRedis(positions)).length > 0)
  assert.ok((await rowsInRedis(ticks)).length > 0)
  await plugin.stop()
})

test('a dropped table goes; a renamed table, a renamed column and a new constraint keep their rows; an added column has its default', async () => {
  const journal = new MemoryJournal()
  const schemaChange = (seq: number, sql: string, table: Table): Transaction => ({
    seq,
    time: Date.now(),
    changes: [{ kind: 'schema', sql, verb: sql.slice(0, sql.indexOf(' ')), searchPath: 'main', timeZone: 'UTC', tables: [table] }],
  })
  const insert = (seq: number, table: Table, ...rows: Cell[][]): Transaction => ({
    seq,
    time: Date.now(),
    changes: [{ kind: 'insert', table, rows: rowsOf(rows) }],
  })
  const orders: Table = {
    schema: 'main',
    name: 'orders',
    columns: [column('id', { kind: 'INTEGER' }, false), column('note', { kind: 'VARCHAR' })],
    primaryKey: [0],
  }
  const orders2: Table = {
    ...orders,
    name: 'my orders',
    columns: [orders.columns[0]!, column('remark', { kind: 'VARCHAR' }), column('size', { kind: 'INTEGER' })],
  }
  journal.append(
    insert(1, orders, [1, 'one'], [2, null]),
    insert(2, ticks, [1, 'A'], [2, 'B']),
    schemaChange(3, '-- gone\nDROP TABLE ticks', ticks),
    schemaChange(4, 'ALTER TABLE orders RENAME TO "my orders"', orders),
    schemaChange(5, 'alter table "my orders" rename column note TO remark;', orders2),
    schemaChange(6, 'ALTER TABLE "my orders" ADD COLUMN size INTEGER DEFAULT 7', orders2),
    schemaChange(7, 'ALTER TABLE "my orders" ADD CONSTRAINT low CHECK (size < 100)', orders2),
    schemaChange(8, 'ALTER TABLE "my orders" DROP CONSTRAINT low', orders2),
    insert(9, orders2, [3, 'three', 9]),
  )
  const { plugin } = await start(journal)
  await mirrored(9)
  assert.equal(await rowsInRedis(ticks), [])
  assert.is(await redis.exists(keys.table(ticks)), 0)
  assert.equal(await rowsInRedis(orders), [])
  assert.equal(await rowsInRedis(orders2), ['["1","one","(default)"]', '["2",null,"(default)"]', '["3","three","9"]'])
  await plugin.stop()
})

test('a clock that stepped back, and a Redis that refuses writes, do not stop the mirror for good', async () => {
  const journal = new MemoryJournal()
  const now = Date.now()
  const insert = (seq: number, time: number): Transaction => ({
    seq,
    time,
    changes: [{ kind: 'insert', table: ticks, rows: rowsOf([[seq, 'A']]) }],
  })
  journal.append(insert(1, now), insert(2, now - 60_000))
  const { plugin, context } = await start(journal)
  await mirrored(2)
  await redis.config('SET', 'maxmemory', '1')
  journal.append(insert(3, now))
  await waitFor('an incident', () => context.opened.length === 1)
  assert.match(context.opened[0]!.message, 'OOM')
  assert.is(await redis.hget(keys.watermark, 'seq'), '2')
  await redis.config('SET', 'maxmemory', '0')
  await mirrored(3)
  await waitFor('the incident to close', () => context.opened[0]!.closedAt !== null)
  await assertStreamIs(journal.transactions)
  await plugin.stop()
})

test('a password is used and never shown; stop ends the work at once, twice if need be, with Redis gone too', async () => {
  const guarded = await startRedis({ password: 's3cret/pass' })
  const journal = new MemoryJournal()
  journal.append(...new Workload(seededRandom('redis password')).transactions(3))
  const consumer = new MemoryConsumer(journal)
  const context = testContext({ name: 'redis-mirror', consumer })
  const plugin = await redisMirror.start(context, redisMirror.options.parse({ url: guarded.url }))
  await waitFor('the cursor', () => journal.confirmed === 3)
  await guarded.kill()
  await waitFor('the incident', () => context.opened.length > 0)
  assert.not.match(JSON.stringify([context.opened, context.alerts, plugin.health()]), 's3cret')
  await Promise.all([plugin.stop(), plugin.stop()])
})

test.run()
