/** The watchdog's probe: one write and one read in the engine's own schema, and an fsync of the journal. Takes no seq and is not shipped. */

import { ownSchema } from './catalog.ts'
import type { CommitPipeline } from './commit.ts'
import type { Connection } from './duckdb.ts'

export class Probe {
  #options: { connection: () => Promise<Connection>; pipeline: CommitPipeline }
  #connection: Connection | undefined
  #running: Promise<void> | undefined

  constructor(options: { connection: () => Promise<Connection>; pipeline: CommitPipeline }) {
    this.#options = options
  }

  /** Probes that come together share one run. */
  run(): Promise<void> {
    this.#running ??= this.#once().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async #once(): Promise<void> {
    const { pipeline } = this.#options
    this.#connection ??= await this.#options.connection()
    const connection = this.#connection
    await connection.run('BEGIN TRANSACTION')
    try {
      await connection.run(`DELETE FROM ${ownSchema}.probe`)
      await connection.run(`INSERT INTO ${ownSchema}.probe VALUES (now())`)
      const rows = await connection.all(`SELECT written_at FROM ${ownSchema}.probe`)
      if (rows.length !== 1) throw new Error(`the probe read ${rows.length} rows where it had written one`)
    } catch (error) {
      await connection.run('ROLLBACK').catch(() => {})
      throw error
    }
    await pipeline.commitOwn(connection)
    await pipeline.writer.sync()
  }
}
