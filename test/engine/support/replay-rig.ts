/** A real engine for one workload after another, and copies of its file to replay the journal onto. */

import fs from 'node:fs'
import path from 'node:path'
import type pg from 'pg'
import { rowsOf, TestEngine } from '../../support/engine.ts'
import { temporaryDirectory } from '../../support/temp.ts'
import { rebuiltState } from './rebuilding.ts'
import { difference, type State, stateFrom } from './state.ts'
import { perform, type Step } from './steps.ts'

export class ReplayRig {
  #engine: TestEngine
  readonly #clients: pg.Client[] = []
  #copies = temporaryDirectory('base')
  /** Copies of the file since the workload began; undefined: nothing at all. */
  #bases: (string | undefined)[] = []
  #used = false

  private constructor(engine: TestEngine) {
    this.#engine = engine
  }

  static async start(): Promise<ReplayRig> {
    return new ReplayRig(await TestEngine.start())
  }

  /** Two new clients of an empty database. */
  async begin(): Promise<readonly pg.Client[]> {
    for (const client of this.#clients) await client.end()
    this.#bases = []
    if (!this.#used || !(await isCleared(this.#engine))) {
      if (this.#used) await this.#engine.kill()
      if (this.#used) this.#engine = await TestEngine.start()
      this.#bases.push(undefined)
    } else await this.#checkpoint()
    this.#used = true
    await this.#connect()
    return this.#clients
  }

  async pass(event: 'checkpoint' | 'kill'): Promise<void> {
    if (event === 'checkpoint') return this.#checkpoint()
    await this.#engine.restart()
    await this.#connect()
  }

  /** Brings the file up to the journal, and keeps a copy. No transaction may be open. */
  async #checkpoint(): Promise<void> {
    await this.#engine.control.checkpoint()
    const copy = path.join(this.#copies, `${this.#bases.length}.duckdb`)
    fs.copyFileSync(this.#engine.database, copy)
    this.#bases.push(copy)
  }

  async #connect(): Promise<void> {
    // The array stays the same: who has it goes on with the new ones.
    this.#clients.splice(0, 2, await this.#engine.connect(), await this.#engine.connect())
  }

  /** What differs between the live database and any replay of the journal; '' when nothing does. */
  async compare({ kill, macros = true }: { kill: boolean; macros?: boolean }): Promise<string> {
    const live = await this.#live(macros)
    for (const [i, base] of this.#bases.entries()) {
      const found = difference(live, await rebuiltState(this.#engine.data, base, { macros }))
      if (found !== '') return `replayed onto ${i === 0 ? 'an empty database' : 'a snapshot'}: ${found}`
    }
    if (!kill) return ''
    await this.#engine.restart()
    const { gaps, refused } = this.#engine.control.hello.recovery
    if (gaps.length + refused.length > 0) return `after SIGKILL: ${JSON.stringify({ gaps, refused })}`
    this.#clients.length = 0
    const found = difference(live, await this.#live(macros))
    if (found !== '') return `after SIGKILL: ${found}`
    const all = difference(live, await rebuiltState(this.#engine.data, undefined, { macros }))
    return all === '' ? '' : `the whole journal replayed onto nothing: ${all}`
  }

  /** As a new client sees it. */
  async #live(macros: boolean): Promise<State> {
    const client = await this.#engine.connect()
    try {
      return await stateFrom((sql) => rowsOf(client, sql), { macros })
    } finally {
      await client.end()
    }
  }

  /** Does the steps, on an empty database, and compares. */
  async repeat(steps: readonly Step[]): Promise<string> {
    const clients = await this.begin()
    for (const step of steps) {
      if ('event' in step) {
        for (const client of clients) await client.query('ROLLBACK')
        await this.pass(step.event)
      } else await perform(clients, step)
    }
    for (const client of clients) await client.query('ROLLBACK')
    return this.compare({ kill: false })
  }

  output(): string {
    return this.#engine.output().slice(-1500)
  }

  async end(): Promise<void> {
    await this.#engine.kill()
    fs.rmSync(this.#copies, { recursive: true, force: true })
  }
}

const objects = `
  SELECT 'VIEW', schema_name, view_name FROM duckdb_views() WHERE database_name = current_database() AND NOT internal
  UNION ALL SELECT 'TABLE', schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() AND schema_name <> 'daemonguard'
  UNION ALL SELECT 'SEQUENCE', schema_name, sequence_name FROM duckdb_sequences() WHERE database_name = current_database()
  UNION ALL SELECT 'TYPE', schema_name, type_name FROM duckdb_types() WHERE database_name = current_database() AND NOT internal
  UNION ALL SELECT 'MACRO', schema_name, function_name FROM duckdb_functions() WHERE database_name = current_database() AND NOT internal
  UNION ALL SELECT 'SCHEMA', schema_name, NULL FROM duckdb_schemas() WHERE database_name = current_database() AND NOT internal AND schema_name NOT IN ('main', 'daemonguard')`

/** Drops everything; what depends on something else goes in a later round. False: DuckDB does not let go of something. */
async function isCleared(engine: TestEngine): Promise<boolean> {
  const client = await engine.connect()
  try {
    let before = Number.POSITIVE_INFINITY
    for (;;) {
      const found = await rowsOf(client, objects)
      if (found.length === 0 || found.length >= before) return found.length === 0
      before = found.length
      for (const [kind, ...names] of found) {
        const name = names.flatMap((part) => (part === null ? [] : [`"${part.replaceAll('"', '""')}"`])).join('.')
        await client.query(`DROP ${kind} IF EXISTS ${name}`).catch(() => {})
      }
    }
  } finally {
    await client.end()
  }
}
