/** One engine process by itself, on a data directory of its own: started, killed and started again without an agent. */

import fs from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import { EngineClient } from '../../agent/engine-client.ts'
import { engineEnvironment } from '../../agent/supervisor/spawn.ts'
import { freePort } from './ports.ts'
import { type Child, type Exit, spawnChild } from './process.ts'
import { programCommand } from './program.ts'
import { temporaryDirectory } from './temp.ts'
import { waitFor } from './wait.ts'

export interface EngineOptions {
  /** `agent.data_dir`; default: a temporary directory. */
  data?: string
  /** More keys of `engine`, each `key: value`. */
  engine?: readonly string[]
}

export type Row = (string | null)[]

/** Every value as the wire has it. */
const asText = { getTypeParser: () => (value: unknown) => value }

export class TestEngine {
  readonly data: string
  readonly config: string
  readonly port: number
  readonly database: string
  /** What is started: the sources; a benchmark puts the packed executable here. */
  program = programCommand()
  control!: EngineClient
  /** Added to the environment of what is started next. */
  env: Record<string, string> = {}
  #child: Child | undefined
  #clients: pg.Client[] = []

  private constructor(data: string, port: number) {
    this.data = data
    this.port = port
    this.config = path.join(data, '..', `${path.basename(data)}.yaml`)
    this.database = path.join(data, 'trade_data.duckdb')
  }

  /** Writes the config; nothing runs yet. */
  static async prepare({ data, engine = [] }: EngineOptions = {}): Promise<TestEngine> {
    const directory = data ?? path.join(temporaryDirectory('e'), 'data')
    fs.mkdirSync(directory, { recursive: true })
    const own = new TestEngine(directory, await freePort())
    own.configure(engine)
    return own
  }

  static async start(options: EngineOptions = {}): Promise<TestEngine> {
    const engine = await TestEngine.prepare(options)
    await engine.start()
    return engine
  }

  configure(engine: readonly string[]): void {
    const lines = [
      `agent: { name: host-1, data_dir: ${this.data}, listen: "127.0.0.1:1" }`,
      'engine:',
      ...[
        `listen: "127.0.0.1:${this.port}"`,
        ...['cpu_cores: 2', 'memory: 512MB'].filter((line) => !engine.some((key) => key.startsWith(line.split(' ', 1)[0] as string))),
        ...engine,
      ].map((line) => `  ${line}`),
    ]
    fs.writeFileSync(this.config, `${lines.join('\n')}\n`)
  }

  /** Starts it and waits until it serves. Throws with what it printed when it ends instead. */
  async start(deadline = 60_000): Promise<void> {
    const child = this.spawn()
    await waitFor('the engine serves', async () => child.exit !== null || (await this.connectControl()), { deadline, every: 10 })
    if (child.exit !== null) throw new Error(`the engine ended (${JSON.stringify(child.exit)}):\n${child.output()}`)
  }

  /** Connects to the control socket; true when it is this engine's. Throws while nobody answers there. */
  async connectControl(): Promise<boolean> {
    this.control = await EngineClient.connect(path.join(this.data, 'control.sock'))
    return this.control.hello.pid === this.pid
  }

  /** Starts it and does not wait. */
  spawn(): Child {
    const { command, args } = this.program
    this.#child = spawnChild(command, [...args, 'engine', '-c', this.config], {
      cwd: this.data,
      env: { ...engineEnvironment(), ...this.env },
    })
    return this.#child
  }

  /** Waits for its end. */
  async exit(): Promise<Exit> {
    return (this.#child as Child).exited
  }

  get running(): boolean {
    return this.#child?.exit === null
  }

  get pid(): number {
    return (this.#child as Child).pid
  }

  output(): string {
    return this.#child?.output() ?? ''
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    this.control?.close()
    await this.#child?.kill('SIGKILL')
    this.#clients = []
  }

  /** SIGKILL and a new start. */
  async restart(deadline?: number): Promise<void> {
    await this.kill()
    await this.start(deadline)
  }

  /** `more`: what else the client asks for. */
  async connect(more: pg.ClientConfig = {}): Promise<pg.Client> {
    const client = new pg.Client({ host: '127.0.0.1', port: this.port, user: 'trader', database: 'trade_data', ...more })
    client.on('error', () => {}) // the query under way, or the next one, rejects as well
    await client.connect()
    this.#clients.push(client)
    return client
  }

  /** Runs statements on a connection of their own; resolves with the rows of the last one, as arrays of texts. */
  async sql(...statements: string[]): Promise<Row[]> {
    const client = await this.connect()
    try {
      let rows: Row[] = []
      for (const text of statements) rows = await rowsOf(client, text)
      return rows
    } finally {
      await client.end()
    }
  }
}

/** A statement's rows as texts; of several statements, those of the last. */
export async function rowsOf(client: pg.Client, text: string, values?: unknown[]): Promise<Row[]> {
  const result = await client.query({ text, values, rowMode: 'array', types: asText } as pg.QueryArrayConfig)
  const last = Array.isArray(result) ? result.at(-1) : result
  return last.rows
}

/** The SQLSTATE that a query fails with; undefined when it succeeds. */
export async function codeOf(query: Promise<unknown>): Promise<string | undefined> {
  try {
    await query
    return undefined
  } catch (error) {
    return (error as { code?: string }).code ?? `no code: ${String(error)}`
  }
}
