/**
 * A guarded database as a host has it: a temporary data directory, real agents on it, the engine that they start, and the commands
 * that an operator types. Faults come from outside: signals, stopped servers, bytes on the disk. Nothing of it outlives the test.
 */

import fs from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import { EngineClient } from '../../../agent/engine-client.ts'
import type { StatusReport } from '../../../agent/status-report.ts'
import { onExit } from '../../support/cleanup.ts'
import { freePort } from '../../support/ports.ts'
import { type Child, isAlive, runChild, spawnChild } from '../../support/process.ts'
import { programCommand } from '../../support/program.ts'
import { temporaryDirectory } from '../../support/temp.ts'
import { waitFor } from '../../support/wait.ts'

export interface GuardedOptions {
  /** Lines of the config's `plugins`, each `name: { … }`. */
  plugins?: readonly string[]
  /** More keys of `engine`, each `key: value`. */
  engine?: readonly string[]
  /** `agent.data_dir`; default: below the temporary directory. */
  data?: string
}

export const host = 'host-1'
/** For whatever should be quick, on a machine that may be busy. */
export const patience = 60_000

export class Guarded {
  readonly directory: string
  readonly data: string
  readonly config: string
  readonly port: number
  readonly statusPort: number
  readonly database: string
  /** What is started: the sources; a benchmark puts the packed executable here. */
  program = programCommand()
  /** Added to the environment of the agents and commands that are started next, and of what they start. */
  env: Record<string, string> = {}
  agent: Child | undefined
  #agents: Child[] = []

  private constructor(directory: string, data: string, port: number, statusPort: number) {
    this.directory = directory
    this.data = data
    this.config = path.join(directory, 'config.yaml')
    this.port = port
    this.statusPort = statusPort
    this.database = path.join(data, 'trade_data.duckdb')
  }

  /** Writes the config; nothing runs yet. */
  static async prepare(options: GuardedOptions = {}): Promise<Guarded> {
    const directory = temporaryDirectory('f')
    const data = options.data ?? path.join(directory, 'data')
    const guarded = new Guarded(directory, data, await freePort(), await freePort())
    guarded.configure(options)
    onExit(() => guarded.#killAll())
    return guarded
  }

  /** (Re)writes the config; it counts from the next start on. */
  configure({ plugins = [], engine = [] }: GuardedOptions): void {
    const lines = [
      `agent: { name: ${host}, data_dir: ${this.data}, listen: "127.0.0.1:${this.statusPort}", log: { level: debug, format: json } }`,
      'engine:',
      ...[`listen: "127.0.0.1:${this.port}"`, 'cpu_cores: 1', 'memory: 512MB', ...engine].map((line) => `  ${line}`),
      plugins.length === 0 ? 'plugins: {}' : 'plugins:',
      ...plugins.map((line) => `  ${line}`),
    ]
    fs.writeFileSync(this.config, `${lines.join('\n')}\n`)
  }

  /** Starts an agent and waits until its engine serves. */
  async start(): Promise<void> {
    const agent = this.startAgent()
    await waitFor('the agent and its engine serve', async () => agent.exit !== null || (await this.status()).engine.state === 'up', {
      deadline: patience,
    }).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.describe()}`, { cause: error })
    })
    if (agent.exit !== null) throw new Error(`the agent ended (${JSON.stringify(agent.exit)}):\n${this.describe()}`)
  }

  /** Starts an agent and does not wait. */
  startAgent(): Child {
    const { command, args } = this.program
    this.agent = spawnChild(command, [...args, 'run', '-c', this.config], { cwd: this.directory, env: this.env })
    this.#agents.push(this.agent)
    return this.agent
  }

  async status(): Promise<StatusReport> {
    const response = await fetch(`http://127.0.0.1:${this.statusPort}/api/status`, { signal: AbortSignal.timeout(5_000) })
    return (await response.json()) as StatusReport
  }

  /** Waits until the status satisfies `condition`; a status page that does not answer counts as not yet. */
  async until(what: string, condition: (status: StatusReport) => boolean, deadline = patience): Promise<StatusReport> {
    let last: StatusReport | undefined
    try {
      await waitFor(
        what,
        async () => {
          last = await this.status()
          return condition(last)
        },
        { deadline, every: 50 },
      )
    } catch (error) {
      const { engine, lag, incidents, problems } = last ?? {}
      throw new Error(`${String(error)}\n${JSON.stringify({ engine, lag, problems, incidents }, null, 1)}\n${this.describe()}`, {
        cause: error,
      })
    }
    return last as StatusReport
  }

  /** SIGKILL to the agent; resolves when it is gone. */
  async killAgent(): Promise<void> {
    await this.agent?.kill('SIGKILL')
  }

  /** Every process of this data directory's engine, also one that does not serve yet; a spare is none before it begins. */
  engines(): number[] {
    return processesWith(this.config, 'engine').filter((pid) => !this.spares().includes(pid))
  }

  /** Every spare engine that waits for its turn. */
  spares(): number[] {
    return processesWith(this.config, '--spare')
  }

  /** The one engine. Throws when there is none, or more than one. */
  enginePid(): number {
    const pids = this.engines()
    if (pids.length !== 1) throw new Error(`${pids.length} engines run: ${pids.join(', ')}`)
    return pids[0] as number
  }

  /** SIGKILL to every engine process; resolves with their ids when they are gone. */
  async killEngine(): Promise<number[]> {
    const pids = this.engines()
    for (const pid of pids) kill(pid)
    await waitFor('the killed engine is gone', () => !pids.some(isAlive), { every: 1 })
    return pids
  }

  /** Runs `daemonguard ARGS -c CONFIG` to its end. */
  async command(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    return await runChild(this.program.command, [...this.program.args, ...args, '-c', this.config], {
      cwd: this.directory,
      env: this.env,
      deadline: patience,
    })
  }

  /** Stops agent and engine in order. Safe when neither runs. */
  async stop(): Promise<void> {
    if (this.agent?.exit === null || this.engines().length > 0) await this.command('stop', '--engine')
    await this.end()
  }

  /** Ends whatever still runs, and waits. */
  async end(): Promise<void> {
    this.#killAll()
    await Promise.all(this.#agents.map((agent) => agent.kill('SIGKILL')))
    await this.killEngine()
  }

  #killAll(): void {
    for (const agent of this.#agents) if (agent.exit === null) kill(agent.pid)
    for (const pid of this.engines()) kill(pid)
  }

  /** A connected client that never throws out of an event. */
  async connect(): Promise<pg.Client> {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: this.port,
      user: 'trader',
      database: 'trade_data',
      connectionTimeoutMillis: 10_000,
    })
    client.on('error', () => {}) // the query under way, or the next one, rejects as well
    await client.connect()
    return client
  }

  /** One call over the engine's control socket. */
  async control<T>(call: (engine: EngineClient) => Promise<T>): Promise<T> {
    const engine = await EngineClient.connect(path.join(this.data, 'control.sock'))
    try {
      return await call(engine)
    } finally {
      engine.close()
    }
  }

  /** Runs statements on a connection of their own; resolves with the rows of the last one, as arrays of texts. */
  async sql(...statements: string[]): Promise<string[][]> {
    const client = await this.connect()
    try {
      let rows: string[][] = []
      for (const text of statements) rows = (await client.query({ text, rowMode: 'array', types: asText })).rows as string[][]
      return rows
    } finally {
      await client.end()
    }
  }

  /** The last lines of the agents' and the engine's logs, for a test that fails. */
  describe(lines = 12): string {
    const engineLog = path.join(this.data, 'engine.log')
    const tail = (text: string) =>
      text
        .trimEnd()
        .split('\n')
        .slice(-lines)
        .map((line) => line.slice(0, 500))
        .join('\n')
    const engine = fs.existsSync(engineLog) ? tail(fs.readFileSync(engineLog, 'utf8')) : '(none)'
    return `agent:\n${tail(this.agent?.output() ?? '(none)')}\nengine.log:\n${engine}`
  }
}

/** Every value as the wire has it. */
export const asText = { getTypeParser: () => (value: unknown) => value }

export function kill(pid: number, signal: NodeJS.Signals = 'SIGKILL'): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** Ids of live processes that run a subcommand of this program with this config. */
function processesWith(config: string, subcommand: string): number[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        // A spare that has begun has written its own, with spaces.
        const words = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split(/[\0 ]/)
        return words.includes(config) && words.includes(subcommand) && isAlive(pid)
      } catch {
        return false // it has ended
      }
    })
}
