/** A data directory with a config, real agents on it, and the commands as a user types them. No engine outlives the test process. */

import fs from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import { readEngineFile } from '../../agent/supervisor/adopt.ts'
import { onExit } from '../support/cleanup.ts'
import { freePort } from '../support/ports.ts'
import { type Child, runChild, spawnChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const main = path.join(import.meta.dirname, '../../agent/main.ts')

export class Stage {
  readonly directory = temporaryDirectory('ag')
  readonly data = path.join(this.directory, 'data')
  readonly config = path.join(this.directory, 'config.yaml')
  readonly port: number
  readonly statusPort: number
  #agents: Child[] = []

  private constructor(port: number, statusPort: number) {
    this.port = port
    this.statusPort = statusPort
  }

  /** `plugins`: that section of the config, as YAML flow. */
  static async prepare(plugins = '{}'): Promise<Stage> {
    const stage = new Stage(await freePort(), await freePort())
    stage.configure(plugins)
    onExit(() => stage.killEngine())
    return stage
  }

  configure(plugins: string, agent = ''): void {
    fs.writeFileSync(
      this.config,
      `agent: { name: host-1, data_dir: data, listen: "127.0.0.1:${this.statusPort}"${agent} }\n` +
        `engine: { listen: "127.0.0.1:${this.port}", memory: 256MB }\nplugins: ${plugins}\n`,
    )
  }

  /** Starts an agent and waits until it says that it guards. */
  async run(): Promise<Child> {
    const agent = this.start()
    try {
      await waitFor('the agent announces itself', () => agent.exit !== null || agent.stdout().includes('psql'), { deadline: 30_000 })
    } catch (error) {
      throw new Error(`the agent does not come up: ${agent.output()}`, { cause: error })
    }
    if (agent.exit !== null) throw new Error(`the agent ended: ${agent.output()}`)
    return agent
  }

  /** Starts an agent and does not wait. */
  start(): Child {
    const agent = spawnChild(process.execPath, [main, 'run', '-c', this.config], { cwd: this.directory })
    this.#agents.push(agent)
    return agent
  }

  /** Ends every agent that still runs: after a test that failed, so that the next one does not fail for it. */
  async killAgents(): Promise<void> {
    await Promise.all(this.#agents.splice(0).map((agent) => agent.kill()))
  }

  /** Runs a command to its end. */
  async daemonguard(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
    const { code, stdout, stderr } = await runChild(process.execPath, [main, ...args, '-c', this.config], { cwd: this.directory })
    return { code, out: stdout, err: stderr }
  }

  /** Runs a command with --json; `facts` is what it printed. */
  // biome-ignore lint/suspicious/noExplicitAny: facts of any shape
  async facts(...args: string[]): Promise<{ code: number | null; facts: any }> {
    const { code, out, err } = await this.daemonguard(...args, '--json')
    try {
      return { code, facts: JSON.parse(out) }
    } catch {
      throw new Error(`${args.join(' ')} printed no JSON: ${out}\n${err}`)
    }
  }

  get(page: string): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.statusPort}${page}`)
  }

  /** Runs SQL as a client does. */
  async sql(...statements: string[]): Promise<pg.QueryResult> {
    const client = new pg.Client({ host: '127.0.0.1', port: this.port, user: 'trader', database: 'trades' })
    await client.connect()
    try {
      let result: pg.QueryResult | undefined
      for (const statement of statements) result = await client.query(statement)
      return result as pg.QueryResult
    } finally {
      await client.end()
    }
  }

  enginePid(): number | undefined {
    return readEngineFile(path.join(this.data, 'engine.json'))?.pid
  }

  killEngine(): void {
    const pid = this.enginePid()
    try {
      if (pid !== undefined) process.kill(pid, 'SIGKILL')
    } catch {
      // It has ended already.
    }
  }
}
