/** A guarded database on a Windows host, with the commands that an operator types there, and a platform that writes trades from this machine. */

import fs from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import type { StatusReport } from '../../agent/status-report.ts'
import { freePort } from '../support/ports.ts'
import type { Exit } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'
import { ending, type WindowsProgram, Wine, windowsPath } from '../support/wine.ts'
import { bundleForWindows } from './bundle.ts'

export const patience = 60_000

interface Programs {
  program: string
  jobbed: string
}

export class WindowsHost {
  readonly wine: Wine
  readonly directory: string
  readonly data: string
  readonly config: string
  readonly port: number
  readonly statusPort: number
  #programs: Programs
  agent: WindowsProgram | undefined
  #launcher = 0

  private constructor(wine: Wine, programs: Programs, directory: string, port: number, statusPort: number) {
    this.wine = wine
    this.#programs = programs
    this.directory = directory
    this.data = path.join(directory, 'data')
    this.config = path.join(directory, 'config.yaml')
    this.port = port
    this.statusPort = statusPort
  }

  /** Makes a Windows and the program; nothing runs yet. `plugins`: lines of the config's `plugins`. */
  static async prepare(plugins: readonly string[]): Promise<WindowsHost> {
    // As in "Program Files".
    const directory = path.join(temporaryDirectory('h'), 'trading host')
    fs.mkdirSync(directory)
    const bundles = ['agent/main.ts', 'test/windows/jobbed.ts'].map((entry) => bundleForWindows(entry, directory))
    bundles.push(bundleForWindows('agent/engine/duckdb-thread.ts', path.join(directory, 'engine')))
    const [wine, port, statusPort, program, jobbed] = await Promise.all([Wine.boot(), freePort(), freePort(), ...bundles])
    const host = new WindowsHost(wine, { program, jobbed } as Programs, directory, port, statusPort)
    const lines = [
      `agent: { name: windows, data_dir: data, listen: "127.0.0.1:${statusPort}", log: { level: debug, format: json } }`,
      `engine: { listen: "127.0.0.1:${port}", cpu_cores: 1, memory: 1GB }`,
      'plugins:',
      ...plugins.map((line) => `  ${line}`),
    ]
    fs.writeFileSync(host.config, `${lines.join('\n')}\n`)
    return host
  }

  /** Starts an agent and waits until an engine serves. `inJob`: in a job object that ends with the process that has made it, which `agent` is then. */
  async start({ inJob = false } = {}): Promise<void> {
    const { program, jobbed } = this.#programs
    this.agent = this.wine.node(...(inJob ? [jobbed] : []), program, 'run', '-c', this.config)
    this.#launcher = inJob ? this.agent.pid : 0
    await this.until('an engine serves', ({ engine }) => engine.state === 'up')
  }

  async command(...args: string[]): Promise<Exit & { stdout: string; stderr: string }> {
    return await ending(this.wine.node(this.#programs.program, ...args, '-c', this.config))
  }

  /** Runs a command that prints facts and must end with `code`; resolves with them. */
  async facts<Facts>(code: number, ...args: string[]): Promise<Facts> {
    const ran = await this.command(...args, '--json')
    if (ran.code !== code) throw new Error(`${args.join(' ')} ended with ${ran.code}: ${ran.stdout}${ran.stderr}\n${this.describe()}`)
    return JSON.parse(ran.stdout) as Facts
  }

  async status(): Promise<StatusReport> {
    const response = await fetch(`http://127.0.0.1:${this.statusPort}/api/status`, { signal: AbortSignal.timeout(5_000) })
    return (await response.json()) as StatusReport
  }

  async until(what: string, condition: (status: StatusReport) => boolean): Promise<StatusReport> {
    let last: StatusReport | undefined
    await waitFor(
      what,
      async () => {
        if (this.agent?.exit) throw new Error(`the agent has ended: ${JSON.stringify(this.agent.exit)}`)
        last = await this.status()
        return condition(last)
      },
      { deadline: patience, every: 50 },
    ).catch((error: Error) => {
      throw new Error(`${error.message}: ${String(error.cause)}\n${JSON.stringify(last, null, 1)}\n${this.describe()}`)
    })
    return last as StatusReport
  }

  /** This machine's pids of the agents that run. */
  agents(): number[] {
    return this.wine.processes(windowsPath(this.#programs.program), 'run', windowsPath(this.config)).filter((pid) => pid !== this.#launcher)
  }

  /** This machine's pids of the engines that run. */
  engines(): number[] {
    return this.wine.processes('engine', windowsPath(this.config))
  }

  /** The one engine. Throws when there is none, or more than one. */
  engine(): number {
    const [pid, ...more] = this.engines()
    if (pid === undefined || more.length > 0) throw new Error(`not one engine runs, but ${pid === undefined ? 'none' : more.length + 1}`)
    return pid
  }

  async connect(): Promise<pg.Client> {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: this.port,
      user: 'trader',
      database: 'trade_data',
      connectionTimeoutMillis: 5_000,
      // Wine's server sometimes keeps the connection of a killed process open, and nobody answers on it.
      query_timeout: 15_000,
    })
    client.on('error', () => {}) // the query under way, or the next one, rejects as well
    await client.connect()
    return client
  }

  /** The last lines of the logs, for a test that fails. */
  describe(): string {
    const log = path.join(this.data, 'engine.log')
    const tail = (text: string) =>
      text
        .trimEnd()
        .split('\n')
        .slice(-12)
        .map((line) => line.slice(0, 400))
        .join('\n')
    const engine = fs.existsSync(log) ? tail(fs.readFileSync(log, 'utf8')) : '(none)'
    return `agent:\n${tail(`${this.agent?.stdout()}${this.agent?.stderr()}`)}\nengine.log:\n${engine}`
  }
}

/** Writes trades one after the other without pause; after a lost connection it connects again, looks whether the trade is there, and goes on. */
export class Platform {
  /** Ids of the trades that were acknowledged, or found to be there. */
  readonly acknowledged: number[] = []
  #host: WindowsHost
  #stopped = false
  #running: Promise<void>

  constructor(host: WindowsHost) {
    this.#host = host
    this.#running = this.#trade()
    this.#running.catch(() => {})
  }

  /** Resolves when `count` more have been acknowledged. */
  async acknowledges(count: number): Promise<void> {
    const goal = this.acknowledged.length + count
    await waitFor(`${count} more trades are acknowledged`, () => this.acknowledged.length >= goal, { deadline: patience, every: 5 }).catch(
      (error: Error) => {
        throw new Error(`${error.message}; after trade ${this.acknowledged.at(-1)}\n${this.#host.describe()}`)
      },
    )
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  async #trade(): Promise<void> {
    for (let id = 1; !this.#stopped; id++) {
      await waitFor(`trade ${id} is acknowledged`, () => this.#order(id), { deadline: patience, every: 20 })
      this.acknowledged.push(id)
    }
    await this.#client?.end()
  }

  #client: pg.Client | undefined

  /** True once the trade is there; throws when nobody says so. */
  async #order(id: number): Promise<boolean> {
    if (this.#client === undefined) {
      const client = await this.#host.connect()
      this.#client = client
      const { rows } = await client.query('SELECT 1 FROM trades WHERE trade_id = $1', [id])
      if (rows.length > 0) return true
    }
    try {
      await this.#client.query('INSERT INTO trades VALUES ($1, $2, $3)', [id, id % 977, id / 8])
      return true
    } catch (error) {
      await this.#client.end().catch(() => {})
      this.#client = undefined
      throw error
    }
  }
}
