/** DaemonGuard as a user has it: an agent with its default plugins, and the engine that it starts; or the engine alone. */

import fs from 'node:fs'
import path from 'node:path'
import { askAgent } from '../../../agent/agent-control.ts'
import { Guarded } from '../../fault/support/guarded.ts'
import { waitFor } from '../../support/wait.ts'
import { psql, type WirePeer } from '../clients.ts'
import { duckdbSeries, schema } from '../trades.ts'

/** As `selfCommand` has it. */
export interface Program {
  readonly command: string
  readonly args: string[]
}

export interface DaemonGuardOptions {
  /** The packed executable, or the sources. */
  readonly program: Program
  /** `agent.data_dir`. */
  readonly data: string
  /** False: the agent is gone once the engine serves, so nothing checkpoints, probes or scans. */
  readonly agent: boolean
  /** A DuckDB file that is taken over; without it a new database gets the schema. */
  readonly file?: string
  /** Lines of `plugins` other than the defaults. */
  readonly plugins?: readonly string[]
}

export class DaemonGuard implements WirePeer {
  readonly name = 'DaemonGuard'
  readonly user = 'trader'
  readonly database = 'trade_data'
  readonly socketDirectory: string
  readonly port: number
  readonly guarded: Guarded

  private constructor(guarded: Guarded) {
    this.guarded = guarded
    this.socketDirectory = guarded.data
    this.port = guarded.port
  }

  static async start({ program, data, agent, file, plugins = [] }: DaemonGuardOptions): Promise<DaemonGuard> {
    fs.mkdirSync(data, { recursive: true })
    const guarded = await Guarded.prepare({ data })
    guarded.program = program
    // Default settings: not the small ones of the tests.
    const lines = [
      `agent: { name: bench, data_dir: ${data}, listen: "127.0.0.1:${guarded.statusPort}" }`,
      `engine: { listen: "127.0.0.1:${guarded.port}" }`,
      plugins.length === 0 ? 'plugins: {}' : `plugins:\n${plugins.map((line) => `  ${line}`).join('\n')}`,
    ]
    fs.writeFileSync(guarded.config, `${lines.join('\n')}\n`)
    if (file !== undefined) fs.copyFileSync(file, path.join(data, 'trade_data.duckdb'))
    try {
      const started = guarded.startAgent()
      // Taking over a large file takes its time.
      await waitFor('DaemonGuard serves', async () => started.exit !== null || (await guarded.status()).engine.state === 'up', {
        deadline: 1_200_000,
      })
      if (started.exit !== null) throw new Error(`the agent ended:\n${guarded.describe()}`)
      const peer = new DaemonGuard(guarded)
      if (file === undefined) await psql(peer, schema(duckdbSeries))
      if (!agent) await guarded.killAgent()
      return peer
    } catch (error) {
      await guarded.end()
      throw error
    }
  }

  /** Asks the agent for a scan or a snapshot, and waits for it. */
  async ask(method: 'scan' | 'snapshot'): Promise<void> {
    await askAgent(path.join(this.guarded.data, 'agent.sock'), method)
  }

  /** Process ids of the agent, of the engine, and of the spare that waits. */
  get pids(): number[] {
    return [this.guarded.agent?.pid ?? [], this.guarded.enginePid(), this.guarded.spares()].flat()
  }

  /** A moment after each start a spare engine waits; it has rehearsed by then. */
  async spareWaits(): Promise<void> {
    const log = path.join(this.guarded.data, 'engine.log')
    const hasRehearsed = (pid: number) => new RegExp(`"pid":${pid},.*"msg":"rehearsed"`).test(fs.readFileSync(log, 'utf8'))
    await waitFor('a spare engine waits', () => this.guarded.spares().some(hasRehearsed), { deadline: 60_000 })
  }

  /** Ends agent and engine at once. */
  end(): Promise<void> {
    return this.guarded.end()
  }
}
