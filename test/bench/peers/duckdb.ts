/** DuckDB alone in a process of its own (duckdb-process.ts), and the files that other sides start from. */

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { onExit } from '../../support/cleanup.ts'
import type { LoadResult } from '../clients.ts'
import { duckdbSeries, generatedTrades, schema } from '../trades.ts'
import type { DuckDBMethods, LoadParams } from './duckdb-process.ts'

export class DuckDBAlone {
  readonly name = 'DuckDB alone'
  #child: ChildProcess
  #nextId = 1

  private constructor(child: ChildProcess) {
    this.#child = child
    onExit(() => child.kill('SIGKILL'))
  }

  /** Starts the process and opens `file`. */
  static async open(file: string, settings: Record<string, string> = {}): Promise<DuckDBAlone> {
    const duckdb = new DuckDBAlone(
      fork(path.join(import.meta.dirname, 'duckdb-process.ts'), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }),
    )
    await duckdb.#call('open', { file, settings })
    return duckdb
  }

  run(...statements: string[]): Promise<DuckDBMethods['run']['result']> {
    return this.#call('run', { statements })
  }

  append(table: string, count: number): Promise<number> {
    return this.#call('append', { table, count })
  }

  /** Single-row inserts or transactions, from `connections` at once. */
  async load(kind: 'inserts' | 'transactions', params: LoadParams): Promise<LoadResult> {
    const { ms, latencies } = await this.#call(kind, params)
    return { perSecond: (latencies.length / ms) * 1000, count: latencies.length, latencies: Float64Array.from(latencies).sort() }
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exited = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exited
  }

  #call<M extends keyof DuckDBMethods>(method: M, params: DuckDBMethods[M]['params']): Promise<DuckDBMethods[M]['result']> {
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#child.off('message', receive)
        this.#child.off('exit', gone)
      }
      const receive = (message: { id: number; result: DuckDBMethods[M]['result']; error?: string }) => {
        if (message.id !== id) return
        done()
        if (message.error === undefined) resolve(message.result)
        else reject(new Error(`DuckDB alone: ${message.error}`))
      }
      const gone = (code: number | null, signal: string | null) => {
        done()
        reject(new Error(`DuckDB's process ended (${signal ?? code}) before it answered`))
      }
      this.#child.on('message', receive as (message: unknown) => void)
      this.#child.on('exit', gone)
      this.#child.send({ id, method, params })
    })
  }
}

/** Creates `file` with the schema and `rows` generated trades, checkpointed, in the storage format that DaemonGuard uses too. */
export async function createDatabase(file: string, rows: number): Promise<void> {
  const duckdb = await DuckDBAlone.open(file, { storage_compatibility_version: 'v1.5.0' })
  try {
    await duckdb.run(...schema(duckdbSeries))
    if (rows > 0) await duckdb.run(`INSERT INTO trades ${generatedTrades(rows)}`)
    await duckdb.run('CHECKPOINT')
  } finally {
    await duckdb.kill()
  }
}

/** Writes `rows` generated trades, with keys from `first` on, as CSV without a header. */
export async function writeCsv(file: string, rows: number, first = 0): Promise<void> {
  const duckdb = await DuckDBAlone.open(':memory:')
  try {
    await duckdb.run(`COPY (${generatedTrades(rows, first)}) TO '${file}' (FORMAT csv, HEADER false)`)
  } finally {
    await duckdb.kill()
  }
}
