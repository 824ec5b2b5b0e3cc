// The net effect of transactions is what they do one after another: random ones on a model, and those of a trading platform on a real engine.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { isAlone, NetChanges } from '../../agent/engine/net-changes.ts'
import type { TableTies } from '../../agent/engine/table-ties.ts'
import type { Cell, Change, Table, Transaction } from '../../agent/journal/types.ts'
import { tableName } from '../../agent/journal/types.ts'
import { rowsOf, TestEngine } from '../support/engine.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { soak } from '../support/soak.ts'

const test = suite('net changes')
const rounds = soak ? 20_000 : 500

const column = (name: string) => ({ name, type: { kind: 'VARCHAR' as const }, sqlType: 'VARCHAR', nullable: true })
/** A key of two columns, whose texts can run into each other. */
const fills: Table = { schema: 'main', name: 'fills', columns: ['a', 'b', 'parent', 'x', 'y'].map(column), primaryKey: [0, 1] }
const orders: Table = { schema: 'main', name: 'orders', columns: ['id', 'x', 'y'].map(column), primaryKey: [0] }
const log: Table = { schema: 'main', name: 'log', columns: ['line'].map(column), primaryKey: [] }
const free: TableTies = { unique: new Set(['a', 'b', 'id']), hasUnique: false, isParent: false, parents: new Set() }
const ties = new Map<string, TableTies>([
  ['main.fills', { ...free, parents: new Set(['main.orders']) }],
  ['main.orders', { ...free, isParent: true }],
  ['main.log', free],
])

type State = Map<string, Map<string, Cell[]>>

/** Does a change as the engine does; throws where it would be refused. */
function applyTo(state: State, change: Change): void {
  if (change.kind === 'schema' || change.kind === 'sequence')
    return void state.set(change.kind, new Map([['last', [JSON.stringify(change, (_, v) => String(v))]]]))
  const { table, rows } = change
  const there = state.get(tableName(table)) ?? new Map<string, Cell[]>()
  state.set(tableName(table), there)
  for (let row = 0; row < rows.count; row++) {
    const cells = rows.columns.map((cells) => cells[row] as Cell)
    const key = JSON.stringify(change.kind === 'delete' ? cells : table.primaryKey.map((i) => cells[i]))
    const old = there.get(key)
    if (table.name === 'log') there.set(String(there.size), cells)
    else if (change.kind === 'insert') {
      if (old !== undefined) throw new Error(`${key} is there`)
      if (table.name === 'fills' && cells[2] !== null && !state.get('main.orders')?.has(JSON.stringify([cells[2]])))
        throw new Error('no such parent')
      there.set(key, cells)
    } else if (change.kind === 'delete') {
      if (!there.delete(key)) throw new Error(`${key} is not there`)
    } else if (old === undefined) {
      if (change.kind === 'update') throw new Error(`${key} is not there`)
      there.set(key, cells)
    } else for (const i of change.changed) old[i] = cells[i] as Cell
  }
}

/** A change that the state allows, and its image. */
function randomChange(random: Random, state: State): Change | undefined {
  const table = random.pick([fills, fills, orders, log])
  const there = [...(state.get(tableName(table)) ?? new Map<string, Cell[]>()).values()]
  const text = () => random.pick(['', '1', '11', ':', '1:1', 'x'])
  const kind = table === log ? 'insert' : random.pick(['insert', 'update', 'upsert', 'delete'] as const)
  if (kind === 'insert' || (kind === 'upsert' && random.chance(0.5))) {
    const parents = [...(state.get('main.orders') ?? new Map<string, Cell[]>()).values()]
    const parent = parents.length > 0 && random.chance(0.7) ? (random.pick(parents)[0] as Cell) : null
    const cells = table === fills ? [text(), text(), parent, text(), text()] : table.columns.map(text)
    const taken = table !== log && state.get(tableName(table))?.has(JSON.stringify(table.primaryKey.map((i) => cells[i])))
    if (taken) return undefined
    const rows = { count: 1, columns: cells.map((cell) => [cell]) }
    return kind === 'insert' ? { kind, table, rows } : { kind, table, rows, changed: [table.columns.length - 1] }
  }
  if (there.length === 0) return undefined
  const old = random.pick(there)
  if (kind === 'delete') {
    const isReferenced = table === orders && [...(state.get('main.fills')?.values() ?? [])].some((fill) => fill[2] === old[0])
    return isReferenced ? undefined : { kind, table, rows: { count: 1, columns: table.primaryKey.map((i) => [old[i] as Cell]) } }
  }
  const [y, x] = [table.columns.length - 1, table.columns.length - 2]
  const changed = random.pick([[x], [y], [x, y]])
  return { kind, table, changed, rows: { count: 1, columns: old.map((cell, i) => [changed.includes(i) ? text() : cell]) } }
}

test(`${rounds} random sequences of transactions and their net effect leave the same, and nothing in it is refused`, () => {
  const random = seededRandom('net changes')
  let merged = 0
  for (let round = 0; round < rounds; round++) {
    const [live, replayed]: [State, State] = [new Map(), new Map()]
    let net = new NetChanges()
    const flush = () => {
      merged += Math.max(0, net.transactions.length - 1)
      for (const change of net.changes()) applyTo(replayed, structuredClone(change))
      net = new NetChanges()
    }
    const images: string[] = []
    const transactions: Transaction[] = []
    for (let seq = 1; seq <= 30; seq++) {
      const changes: Change[] = []
      for (let i = random.int(1, 3); i > 0; i--) {
        const change = random.chance(0.05)
          ? ({ kind: 'sequence', schema: 'main', name: 's', value: BigInt(seq) } as const)
          : randomChange(random, live)
        if (change === undefined) continue
        applyTo(live, structuredClone(change))
        changes.push(change)
      }
      transactions.push({ seq, time: 0, changes })
      images.push(JSON.stringify(changes, (_, value) => String(value)))
    }
    for (const transaction of transactions) {
      if (isAlone(transaction, ties)) {
        flush()
        for (const change of transaction.changes) applyTo(replayed, structuredClone(change))
      } else if (!net.add(transaction, ties)) {
        flush()
        if (!net.add(transaction, ties)) for (const change of transaction.changes) applyTo(replayed, structuredClone(change))
      }
    }
    flush()
    const content = (state: State) =>
      [...state]
        .map(([table, rows]) => [table, [...rows].sort()])
        .filter(([, rows]) => rows?.length)
        .sort()
    assert.equal(content(replayed), content(live), `round ${round}`)
    // Where DuckDB refuses the net effect, they are replayed one by one.
    assert.equal(
      transactions.map(({ changes }) => JSON.stringify(changes, (_, value) => String(value))),
      images,
    )
  }
  assert.ok(merged > rounds * 5, `only ${merged} were merged`)
})

test('transactions on the same few rows become one change for each table', () => {
  const net = new NetChanges()
  const [order, fill] = [['1'], ['1', '1', '1']]
  const insert = (table: Table, cells: Cell[]): Change => ({
    kind: 'insert',
    table,
    rows: { count: 1, columns: cells.map((cell) => [cell]) },
  })
  const update = (table: Table, cells: Cell[]): Change =>
    ({ ...insert(table, cells), kind: 'update', changed: [cells.length - 1] }) as Change
  for (let seq = 1; seq <= 1000; seq++) {
    const changes = [
      insert(fills, [String(seq), '1', '7', 'new', 'new']),
      update(orders, [...order, 'x', String(seq)]),
      update(fills, [...fill, 'x', String(seq)]),
      insert(log, [String(seq)]),
      { kind: 'sequence', schema: 'main', name: 's', value: BigInt(seq) } as const,
    ]
    if (seq === 1) changes.splice(2, 1)
    assert.ok(net.add({ seq, time: 0, changes }, ties))
  }
  const changes = net.changes()
  assert.equal(
    changes
      .map((change) => [change.kind, 'table' in change ? change.table.name : change.kind === 'sequence' ? change.value : ''])
      .slice(0, 2),
    [
      ['update', 'orders'],
      ['insert', 'fills'],
    ],
  )
  assert.equal(changes.at(-1), { kind: 'sequence', schema: 'main', name: 's', value: 1000n })
  assert.is(changes.filter((change) => change.kind === 'insert' && change.table === log).length, 1000)
  assert.is(changes.length, 1003)
})

test('what a platform does all day is there after SIGKILL: orders, fills, positions, a sequence, an index, cancelled orders', async () => {
  const engine = await TestEngine.start()
  try {
    await engine.sql(
      'CREATE SEQUENCE ids',
      'CREATE TABLE positions (account INTEGER, symbol VARCHAR, quantity DOUBLE DEFAULT 0, fills BIGINT DEFAULT 0, PRIMARY KEY (account, symbol))',
      "CREATE TABLE orders (id BIGINT DEFAULT nextval('ids') PRIMARY KEY, state VARCHAR, CHECK (state <> ''))",

      'CREATE TABLE fills (id BIGINT, order_id BIGINT REFERENCES orders (id), note VARCHAR, PRIMARY KEY (id))',
      'CREATE INDEX by_note ON fills (note)',
      'CREATE TABLE codes (id BIGINT PRIMARY KEY, code VARCHAR UNIQUE)',
    )
    const client = await engine.connect()
    const random = seededRandom('platform')
    let fill = 0
    for (let i = 1; i <= 300; i++) {
      await client.query('BEGIN')
      const { id } = (await client.query(`INSERT INTO orders (state) VALUES ('open') RETURNING id`)).rows[0]
      for (let j = random.int(0, 2); j > 0; j--) {
        await client.query('INSERT INTO fills VALUES ($1, $2, $3)', [++fill, id, 'new'])
        await client.query(
          `INSERT INTO positions (account, symbol, quantity, fills) VALUES (${random.int(1, 3)}, '${random.pick(['A', 'B'])}', 1, 1)
           ON CONFLICT (account, symbol) DO UPDATE SET quantity = positions.quantity + 1, fills = positions.fills + 1`,
        )
      }
      await client.query('COMMIT')
      const any = random.int(1, i)
      await client.query(`UPDATE orders SET state = '${random.pick(['open', 'filled'])}' WHERE id = ${any}`)
      await client.query(`UPDATE fills SET note = note || 'x' WHERE order_id = ${any}`)
      if (i % 20 === 0) await client.query(`DELETE FROM fills WHERE order_id = ${any}`)
      if (i % 20 === 0) await client.query(`DELETE FROM orders WHERE id = ${any}`)
      await client.query(`INSERT INTO codes VALUES (${i}, 'code ${i}')`)
      if (i % 15 === 0) await client.query(`UPDATE codes SET code = code || '!' WHERE id = ${random.int(1, i)}`)
    }
    const state = async () => {
      const fresh = await engine.connect()
      const tables = ['positions', 'orders', 'fills', 'codes'].map((table) => rowsOf(fresh, `SELECT * FROM ${table} ORDER BY ALL`))
      return [await Promise.all(tables), await rowsOf(fresh, "SELECT count(*) FROM fills WHERE note = 'newx'")]
    }
    const live = await state()
    await engine.restart()
    assert.equal(engine.control.hello.recovery.refused, [])
    assert.equal(await state(), live)
    const next = await (await engine.connect()).query("SELECT nextval('ids') AS next")
    assert.is(Number(next.rows[0].next), 301)
  } finally {
    await engine.kill()
  }
})

test.run()
