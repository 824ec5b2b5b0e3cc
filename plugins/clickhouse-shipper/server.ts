/** A ClickHouse server over HTTP: what it is able to do, what its errors mean, and the few requests that the shipper makes. */

import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { type ClickHouseClient, ClickHouseLogLevel, type ClickHouseSettings, createClient } from '@clickhouse/client'
import { messageOf } from '../../agent/errors.ts'
import { identifier, literal } from './types.ts'

export interface ServerOptions {
  readonly url: string
  readonly database: string
  readonly username?: string | undefined
  readonly password?: string | undefined
}

/** What this server knows; servers refuse settings and types that they do not know. */
export interface Features {
  readonly version: string
  readonly types: ReadonlySet<string>
  readonly settings: ReadonlySet<string>
  readonly tableSettings: ReadonlySet<string>
  /** ReplacingMergeTree(version, is_deleted): since 23.2. */
  readonly deletedRows: boolean
}

/** Settings of every INSERT, sent where they are known: answer when the rows are there, and refuse rather than guess. */
const insertSettings: Record<string, string> = {
  async_insert: '0',
  input_format_null_as_default: '0',
  input_format_skip_unknown_fields: '0',
  precise_float_parsing: '1',
  date_time_input_format: 'basic',
  // One INSERT, one block: it is there as a whole or not at all.
  max_insert_block_size: '2000000',
  min_insert_block_size_rows: '2000000',
  min_insert_block_size_bytes: '0',
}

/** Error codes by which a server refuses a value or a row, whatever the time and the load: another attempt would fail the same way. */
const contentCodes = new Set([
  6, 25, 26, 27, 38, 41, 53, 69, 70, 72, 117, 128, 130, 131, 190, 321, 349, 376, 395, 407, 441, 442, 467, 469, 675, 676, 691,
])

/** The code that the server gave, or undefined when it was no answer of a server (a network error, a timeout). */
export function serverCode(error: unknown): number | undefined {
  const own = (error as { code?: unknown } | null)?.code
  if (typeof own === 'string' && /^\d+$/.test(own)) return Number(own)
  const match = /Code: (\d+)[.,]/.exec(messageOf(error)) // servers before 20.x say `Code: 27, e.displayText() = …`
  return match === null ? undefined : Number(match[1])
}

export function refusesContent(error: unknown): boolean {
  const code = serverCode(error)
  // An unknown element of an Enum has a code of its own (691) on new servers only.
  return code !== undefined && (contentCodes.has(code) || /Unknown element '.*' for (type )?[Ee]num/.test(messageOf(error)))
}

export class Server {
  readonly #options: ServerOptions
  readonly #client: ClickHouseClient
  readonly #signal: AbortSignal
  #features: Features | null = null

  /** No I/O. `signal` ends every request. */
  constructor(options: ServerOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
    this.#client = connect(options, options.database)
  }

  async close(): Promise<void> {
    await this.#client.close()
  }

  /** Forgets what it knows of the server: it may be another one after an outage. */
  forget(): void {
    this.#features = null
  }

  async features(): Promise<Features> {
    this.#features ??= await this.#ask()
    return this.#features
  }

  async rows<Row>(query: string): Promise<Row[]> {
    const result = await this.#client.query({ query, format: 'JSONEachRow', abort_signal: this.#signal })
    return (await result.json()) as Row[]
  }

  async command(query: string): Promise<void> {
    await this.#client.command({ query, abort_signal: this.#signal })
  }

  /** Sends rows (JSONEachRow). `owner` begins the query's id, by which `running` finds it. */
  async insert(into: string, body: Buffer, token: string, owner: string): Promise<void> {
    const { settings } = await this.features()
    const wanted = { ...insertSettings, insert_deduplication_token: token }
    const known = Object.entries(wanted).filter(([name]) => settings.has(name))
    const { stream } = await this.#client.exec({
      query: `INSERT INTO ${into} FORMAT JSONEachRow`,
      values: Readable.from([body], { objectMode: false }),
      clickhouse_settings: { ...Object.fromEntries(known), wait_end_of_query: 1 } as ClickHouseSettings,
      query_id: `${owner}${randomUUID()}`,
      abort_signal: this.#signal,
    })
    for await (const _ of stream);
  }

  /** Whether an INSERT of this owner still runs there: its client may be long gone. */
  async running(owner: string): Promise<boolean> {
    const found = await this.rows<{ query_id: string }>(
      `SELECT query_id FROM system.processes WHERE startsWith(query_id, ${literal(owner)})`,
    )
    return found.length > 0
  }

  async #ask(): Promise<Features> {
    await this.#createDatabase()
    const names = async (query: string) => new Set((await this.rows<{ name: string }>(query)).map(({ name }) => name))
    const version = (await this.rows<{ version: string }>('SELECT version() AS version'))[0]?.version ?? '0'
    const [major = 0, minor = 0] = version.split('.').map(Number)
    const wanted = [...Object.keys(insertSettings), 'insert_deduplication_token'].map(literal).join(', ')
    return {
      version,
      types: await names('SELECT name FROM system.data_type_families'),
      settings: await names(`SELECT name FROM system.settings WHERE name IN (${wanted})`),
      tableSettings: await names('SELECT name FROM system.merge_tree_settings'),
      deletedRows: major > 23 || (major === 23 && minor >= 2),
    }
  }

  /** The database may be absent; a user without the right to create it may still use one that is there. */
  async #createDatabase(): Promise<void> {
    const { database } = this.#options
    if (database === 'default') return
    const client = connect(this.#options, 'default')
    try {
      await client.command({ query: `CREATE DATABASE IF NOT EXISTS ${identifier(database)}`, abort_signal: this.#signal })
    } catch (error) {
      if (serverCode(error) === undefined) throw error
    } finally {
      await client.close()
    }
  }
}

function connect({ url, username, password }: ServerOptions, database: string): ClickHouseClient {
  return createClient({
    url,
    database,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    application: 'daemonguard',
    request_timeout: 300_000,
    log: { level: ClickHouseLogLevel.OFF }, // failures are reported by the shipper
  })
}
