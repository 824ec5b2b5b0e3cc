/**
 * An engine's life, recorded: clients that write, a consumer, checkpoints, snapshots, a transaction that spills, kills and new starts. Its events are of the
 * engine's process and of this one, which does what an agent does.
 */

import fs from 'node:fs'
import path from 'node:path'
import { setImmediate } from 'node:timers/promises'
import type pg from 'pg'
import { systemClock } from '../../../agent/clock.ts'
import { DurableSeq } from '../../../agent/durable.ts'
import { takeSnapshot } from '../../../agent/snapshots.ts'
import { watchSteps } from '../../../agent/step.ts'
import { lastIsAhead } from '../../fixtures/journal.ts'
import { codeOf, TestEngine } from '../../support/engine.ts'
import { temporaryDirectory } from '../../support/temp.ts'
import { waitFor } from '../../support/wait.ts'
import { faultEnvironment } from './faults.ts'
import { LossyDisk } from './lossy-disk.ts'
import { type Consumer, follower } from './power-cut.ts'
import { type Answer, type DiskEvent, fileRecorder, fileTeller, readEvents, type Tell } from './recorder.ts'

export const legs = 3
/** Rows of 20 kB, beyond what a transaction holds in memory. */
export const bulkRows = 450

/** Orders that are durable, since a client was told so or has read them; what a consumer has confirmed. */
export type Told = { orders: readonly number[] } | { confirmed: number }

export interface Engines {
  readonly disk: LossyDisk
  readonly events: readonly DiskEvent[]
  /** Which client sent each order, in its own order. */
  readonly sent: ReadonlyMap<number, number>
  /** Orders that were told "failed". */
  readonly refused: readonly number[]
}

export async function recordEngines(): Promise<Engines> {
  const engine = await TestEngine.prepare({ data: path.join(temporaryDirectory('life'), 'data') })
  return await new EngineLife(engine).record()
}

class EngineLife {
  #engine: TestEngine
  #root: string
  #disk: LossyDisk
  #log: string
  #tell: Tell
  #source = new DurableSeq()
  #consumer: Consumer | undefined
  #sent = new Map<number, number>()
  #refused: number[] = []
  /** Orders that an answer proves, by client's port and number of the answer. */
  #proved = new Map<number, number[][]>()
  #nextOrder = 1
  #acknowledged = 0
  #stopped = false

  constructor(engine: TestEngine) {
    this.#engine = engine
    this.#root = path.dirname(engine.data)
    this.#disk = new LossyDisk(this.#root)
    const plan = { log: path.join(temporaryDirectory('log'), 'events'), database: engine.database }
    this.#log = plan.log
    this.#tell = fileTeller(plan.log)
    engine.env = faultEnvironment({ role: 'engine', record: plan })
    watchSteps(fileRecorder(plan))
  }

  async record(): Promise<Engines> {
    try {
      await this.#live(async () => {
        const client = await this.#connect()
        for (const statement of [
          'CREATE TABLE singles (id BIGINT PRIMARY KEY, note VARCHAR)',
          'CREATE TABLE legs (id BIGINT, leg INTEGER, amount INTEGER, PRIMARY KEY (id, leg))',
          'CREATE TABLE bulk (id BIGINT, i INTEGER, v VARCHAR)',
        ])
          await client.run(statement)
      })
      await this.#live(async () => {
        await this.#work(30, [
          () => this.#engine.control.checkpoint(),
          () => this.#consume(),
          () => this.#refuse(),
          () => this.#snapshot(),
          () => this.#bulk(),
          () => this.#consume(),
          () => this.#engine.control.checkpoint(),
        ])
      })
      await this.#live(() => this.#alone())
      // Killed in a checkpoint, or about then.
      await this.#live(async () => {
        await this.#work(20, [() => this.#consume(), () => this.#snapshot()])
        const running = this.#engine.control.checkpoint().catch(() => {})
        await Promise.race([running, waitFor('the checkpoint begins', () => fs.existsSync(`${this.#engine.database}.wal`), { every: 1 })])
      })
      await this.#live(async () => {
        await this.#work(15, [() => this.#consume(), () => this.#engine.control.checkpoint(), () => this.#refuse()])
        await this.#engine.control.shutdown({ checkpoint: true })
        await this.#engine.exit()
      })
    } finally {
      watchSteps(() => {})
      await this.#engine.kill()
      this.#consumer?.close()
    }
    return { disk: this.#disk, events: this.#events(), sent: this.#sent, refused: this.#refused }
  }

  /** From a start to a kill, which comes while the clients still write. */
  async #live(life: () => Promise<void>): Promise<void> {
    await this.#engine.start()
    const { hello } = this.#engine.control
    this.#source.connected(hello)
    this.#engine.control.onDurable((seq) => this.#source.advance(seq))
    const { pid } = this.#engine
    try {
      await this.#read()
      await life()
    } finally {
      this.#stopped = true
      await this.#engine.kill()
    }
    this.#tell({ e: 'killed' }, `KILLED ${pid}`)
  }

  /** Clients write until so many more orders are acknowledged, and the steps are done. */
  async #work(orders: number, steps: readonly (() => Promise<unknown>)[]): Promise<void> {
    this.#stopped = false
    const enough = this.#acknowledged + orders
    let failure: unknown
    for (const client of [1, 2, 3])
      this.#write(client).catch((error: unknown) => {
        failure ??= error
      })
    for (const step of steps) await step()
    await waitFor('enough orders are acknowledged', () => failure !== undefined || this.#acknowledged >= enough, { deadline: 60_000 })
    if (failure !== undefined) throw failure
  }

  /** Client 3 writes transactions, the others single rows. */
  async #write(client: number): Promise<void> {
    const connection = await this.#connect()
    while (!this.#stopped) {
      const order = this.#nextOrder++
      this.#sent.set(order, client)
      if (client < 3) await connection.run('INSERT INTO singles VALUES ($1, $2)', [order, `order ${order}`], [order])
      else {
        await connection.run('BEGIN')
        for (let leg = 0; leg < legs; leg++)
          await connection.run('INSERT INTO legs VALUES ($1, $2, $3)', [order, leg, leg === 0 ? 1 - legs : 1])
        await connection.run('COMMIT', [], [order])
      }
      this.#acknowledged++
    }
  }

  /** One client, whose orders the journal is given while DuckDB commits them; the last but few is refused: its key is there already. */
  async #alone(): Promise<void> {
    const client = await this.#connect()
    const insert = async () => {
      const order = this.#nextOrder++
      this.#sent.set(order, 1)
      await client.run('INSERT INTO singles VALUES ($1, $2)', [order, `order ${order}`], [order])
    }
    await client.run('INSERT INTO singles VALUES (0, $1) ON CONFLICT DO NOTHING', ['order 0'])
    await waitFor(
      'the engine finds that one client has it to itself',
      async () => {
        await insert()
        return lastIsAhead(path.join(this.#engine.data, 'journal'))
      },
      { deadline: 60_000, every: 1 },
    )
    for (let i = 0; i < 5; i++) await insert()
    const code = await codeOf(client.fail('INSERT INTO singles VALUES ($1, $2)', [0, 'order 0 again']))
    if (code !== '23505') throw new Error(`order 0 was answered ${code} when it came again`)
    for (let i = 0; i < 3; i++) await insert()
  }

  async #bulk(): Promise<void> {
    const order = this.#nextOrder++
    this.#sent.set(order, 4)
    const connection = await this.#connect()
    await connection.run(`INSERT INTO bulk SELECT ${order}, i, repeat('v', 20000) FROM range(${bulkRows}) r(i)`, [], [order])
  }

  /** An order that fails: its second row is there already. */
  async #refuse(): Promise<void> {
    const client = await this.#engine.connect()
    await client.query('INSERT INTO singles VALUES (0, $1) ON CONFLICT DO NOTHING', ['order 0'])
    const order = this.#nextOrder++
    const code = await codeOf(client.query('INSERT INTO singles VALUES ($1, $2), (0, $2)', [order, `order ${order}`]))
    if (code !== '23505') throw new Error(`order ${order} was answered ${code}`)
    this.#refused.push(order)
    await client.end()
  }

  /** Whoever reads an order relies on it. */
  async #read(): Promise<void> {
    const connection = await this.#connect()
    const [table] = await connection.run("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'bulk'")
    if (Number(table?.[0]) === 0) return
    const proved: number[] = []
    const rows = await connection.run('SELECT id FROM singles WHERE id > 0 UNION SELECT id FROM legs UNION SELECT id FROM bulk', [], proved)
    proved.push(...rows.map(([id]) => Number(id)))
  }

  async #consume(): Promise<void> {
    const inData = (name: string) => path.join(this.#engine.data, name)
    this.#consumer ??= follower({ journal: inData('journal'), cursors: inData('cursors') }, this.#source)
    const consumer = this.#consumer
    for (let i = 0; i < 5 && consumer.confirmed < this.#source.durableSeq; i++) {
      const read = await consumer.read({ maxRows: 10, maxDelayMs: 0, signal: AbortSignal.timeout(60_000) })
      const confirmed = read.at(-1)?.seq as number
      await consumer.saveState({ last: confirmed })
      await consumer.confirm(confirmed)
      this.#tell({ e: 'told', what: { confirmed } satisfies Told }, 'TOLD')
      await setImmediate()
    }
  }

  #snapshot(): Promise<unknown> {
    const { control, database, data } = this.#engine
    return takeSnapshot({
      engine: control,
      paths: { database, snapshots: path.join(data, 'snapshots') },
      clock: systemClock,
      reserveBytes: 0,
    })
  }

  async #connect(): Promise<Connection> {
    const client = await this.#engine.connect()
    const proved: number[][] = []
    this.#proved.set(portOf(client), proved)
    return new Connection(client, proved)
  }

  /** What the answers prove stands in place of the answers. */
  #events(): DiskEvent[] {
    const answered = new Map<number, number>()
    return readEvents(this.#log).map((event) => {
      if (event.e === 'killed') return { ...event, pid: Number(event.label.split(' ')[1]) }
      if (event.e !== 'told' || event.label !== 'ANSWER') return event
      const { port, completed } = event.what as Answer
      const from = answered.get(port) ?? 0
      answered.set(port, from + completed)
      return { ...event, what: { orders: (this.#proved.get(port) ?? []).slice(from, from + completed).flat() } satisfies Told }
    })
  }
}

/** A client whose answers are counted. */
class Connection {
  #client: pg.Client
  #proved: number[][]

  constructor(client: pg.Client, proved: number[][]) {
    this.#client = client
    this.#proved = proved
  }

  /** One statement; `proved`: orders that are durable when it is answered. */
  async run(text: string, values: unknown[] = [], proved: number[] = []): Promise<unknown[][]> {
    this.#proved.push(proved)
    const { rows } = await this.#client.query({ text, values, rowMode: 'array' })
    return rows
  }

  /** One that is to fail: its answer proves nothing, and is not counted. */
  async fail(text: string, values: unknown[]): Promise<unknown> {
    return await this.#client.query({ text, values })
  }
}

function portOf(client: pg.Client): number {
  const { stream } = (client as unknown as { connection: { stream: { localPort: number } } }).connection
  return stream.localPort
}
