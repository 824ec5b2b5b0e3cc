/** What the rows share: the options of this run, a directory on a real disk, and servers that several rows use, each started when first asked for. */

import fs from 'node:fs'
import path from 'node:path'
import { onExit } from '../support/cleanup.ts'
import { copyFrom, type Length, psql, type WirePeer } from './clients.ts'
import { fileSystemOf } from './machine.ts'
import { DaemonGuard, type DaemonGuardOptions, type Program } from './peers/daemonguard.ts'
import { createDatabase, DuckDBAlone, writeCsv } from './peers/duckdb.ts'
import { Postgres, postgresObstacle } from './peers/postgres.ts'

export interface StageOptions {
  readonly rounds: number
  readonly seconds: number
  /** Tiny sizes: shows that every row runs, measures nothing. */
  readonly quick: boolean
  /** Growth up to 50 million rows. */
  readonly large: boolean
  /** Without the agent where a row does not need it. */
  readonly engineOnly: boolean
  readonly keep: boolean
}

/** DaemonGuard and its peers on one schema; PostgreSQL where it can run. */
export interface Contenders {
  readonly daemonguard: DaemonGuard
  readonly duckdb: DuckDBAlone
  readonly postgres: Postgres | undefined
}

/** The three with the same generated trades in them, which nobody changes. */
export interface Loaded {
  readonly rows: number
  readonly daemonguard: DaemonGuard
  readonly duckdb: DuckDBAlone
  readonly postgres: WirePeer | undefined
}

export class Stage {
  readonly options: StageOptions
  readonly directory: string
  /** What is measured: the packed executable, or the sources. */
  readonly program: Program
  #contenders: Promise<Contenders> | undefined
  #loaded: Promise<Loaded> | undefined
  #postgres: Promise<Postgres> | undefined
  #names = 0

  constructor(options: StageOptions, program: Program) {
    this.options = options
    this.program = program
    this.directory = realDirectory()
    if (!options.keep) onExit(() => fs.rmSync(this.directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 }))
    // What the support modules create lies there too.
    process.env.TMPDIR = this.directory
  }

  /** How long a counted load lasts. */
  get length(): Length {
    return this.options.quick ? { transactions: 10 } : { seconds: this.options.seconds }
  }

  /** How long a load runs before it counts. */
  get warmUp(): Length {
    return this.options.quick ? { transactions: 2 } : { seconds: Math.min(this.options.seconds, 2) }
  }

  /** The full size of something, or the one of a quick run. */
  size(full: number, quick: number): number {
    return this.options.quick ? quick : full
  }

  /** A path that nothing has yet. Short: Unix sockets lie below it. */
  path(name: string): string {
    return path.join(this.directory, `${name}-${++this.#names}`)
  }

  /** A DaemonGuard of its own, on a directory of its own; whoever starts it ends it. */
  daemonguard(options: Omit<DaemonGuardOptions, 'data' | 'program'>): Promise<DaemonGuard> {
    return DaemonGuard.start({ ...options, data: this.path('guarded'), program: this.program })
  }

  /** The three with empty tables; they stay, and grow, from row to row. */
  contenders(): Promise<Contenders> {
    this.#contenders ??= this.#start()
    return this.#contenders
  }

  async #start(): Promise<Contenders> {
    const file = this.path('duckdb')
    await createDatabase(file, 0)
    const daemonguard = await this.daemonguard({ agent: !this.options.engineOnly })
    return { daemonguard, duckdb: await DuckDBAlone.open(file), postgres: await this.postgres() }
  }

  /** The three with 10 million trades. */
  loaded(): Promise<Loaded> {
    this.#loaded ??= this.#load(this.size(10_000_000, 2_000))
    return this.#loaded
  }

  async #load(rows: number): Promise<Loaded> {
    const file = this.path('duckdb')
    await createDatabase(file, rows)
    const daemonguard = await this.daemonguard({ agent: !this.options.engineOnly, file })
    const postgres = await (await this.postgres())?.createDatabase('loaded')
    if (postgres !== undefined) {
      const csv = this.path('csv')
      await writeCsv(csv, rows)
      await psql(postgres, [copyFrom(csv, 'trades'), 'VACUUM ANALYZE trades'])
      fs.rmSync(csv)
    }
    return { rows, daemonguard, duckdb: await DuckDBAlone.open(file), postgres }
  }

  /** The one PostgreSQL, with the schema and empty tables; undefined where there can be none. */
  async postgres(): Promise<Postgres | undefined> {
    if (postgresObstacle(this.directory) !== undefined) return undefined
    this.#postgres ??= Postgres.start(this.path('postgres'))
    return await this.#postgres
  }

  /** Runs `measure` `rounds` times. */
  async rounds(measure: (round: number) => Promise<void>): Promise<void> {
    for (let round = 1; round <= this.options.rounds; round++) await measure(round)
  }

  async end(): Promise<void> {
    for (const started of [this.#contenders, this.#loaded]) {
      const sides = await started?.catch(() => undefined)
      await sides?.daemonguard.end()
      await sides?.duckdb.kill()
    }
    await (await this.#postgres?.catch(() => undefined))?.stop()
  }
}

/** A new directory that other users may pass through (PostgreSQL runs as one), not in memory if that can be helped. */
function realDirectory(): string {
  const places = [process.env.TMPDIR ?? '/tmp', '/var/tmp']
  const place = places.find((candidate) => !['tmpfs', 'ramfs'].includes(fileSystemOf(candidate).type)) ?? (places[0] as string)
  const directory = fs.mkdtempSync(path.join(place, 'bench-'))
  fs.chmodSync(directory, 0o711)
  return directory
}
