/**
 * Where the demo plays: a temporary directory with a config, an agent (a child process) and the engine that the agent starts.
 * Everything here goes through what any user has: the command line, engine.json, the status page, signals.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { waitUntil } from '../clock.ts'
import { ensureDirectory, openForWriting, removeTree, writeAtomic } from '../disk.ts'
import { DaemonGuardError } from '../errors.ts'
import { selfCommand } from '../runtime.ts'

/** What the demo reads of /api/status. */
export interface StageStatus {
  engine: { state: string; supervision: string; status: { pid: number } | null }
  incidents: { id: string; cause: string; message: string }[]
}

const host = '127.0.0.1'

export class Stage {
  readonly directory: string
  readonly config: string
  readonly database: string
  readonly postgres: { host: string; port: number }
  #statusPort: number
  #engineFile: string
  #agent: ChildProcess | undefined
  /** Every engine that was seen, so that none outlives the demo. */
  #engines = new Set<number>()

  private constructor(directory: string, postgresPort: number, statusPort: number) {
    this.directory = directory
    this.config = path.join(directory, 'config.yaml')
    this.database = path.join(directory, 'data', 'trade_data.duckdb')
    this.postgres = { host, port: postgresPort }
    this.#statusPort = statusPort
    this.#engineFile = path.join(directory, 'data', 'engine.json')
  }

  /** Makes the directory and writes the config; nothing runs yet. */
  static async prepare(): Promise<Stage> {
    const directory = path.join(os.tmpdir(), `daemonguard-demo-${randomBytes(3).toString('hex')}`)
    const [postgresPort, statusPort] = await freePorts()
    const stage = new Stage(directory, postgresPort, statusPort)
    ensureDirectory(directory, 'DEMO:STAGE')
    writeAtomic(stage.config, stage.#configText(), 'DEMO:STAGE')
    return stage
  }

  #configText(): string {
    return `agent:
  name: demo
  data_dir: data
  listen: ${host}:${this.#statusPort}
  log: { format: json }
engine:
  listen: ${host}:${this.postgres.port}
  cpu_cores: 1
  memory: 512MB
plugins:
  watchdog: { schedule: "* * * * * *", max_restarts: 1000 }
  # Often enough that the file on disk, not only the journal, holds trades when its turn to be damaged comes.
  checkpointer: { every_transactions: 500 }
  integrity-scanner: { schedule: "*/2 * * * * *" }
`
  }

  /** Starts an agent and waits until its page answers and its engine serves. */
  async startAgent(signal: AbortSignal): Promise<void> {
    const log = openForWriting(path.join(this.directory, 'agent.log'), 'a', 'DEMO:STAGE')
    const { command, args } = selfCommand()
    const agent = spawn(command, [...args, 'run', '-c', this.config], { stdio: ['ignore', log, log] })
    fs.closeSync(log)
    this.#agent = agent
    let ended: string | undefined
    agent.once('error', (error) => (ended = error.message))
    agent.once('exit', (code, killer) => (ended = `it exited with ${code ?? killer}`))
    const serves = await waitUntil(async () => ended !== undefined || (await this.status())?.engine.state === 'up', {
      deadline: 30_000,
      signal,
    })
    if (ended !== undefined) throw new DaemonGuardError(`the agent does not run: ${ended}`, { where: `${this.directory}/agent.log` })
    if (!serves) throw new DaemonGuardError('the agent did not bring the engine up', { where: `${this.directory}/agent.log` })
    this.enginePid()
  }

  /** SIGKILL to the agent; resolves when it is gone. */
  async killAgent(): Promise<void> {
    const agent = this.#agent
    if (agent === undefined || agent.exitCode !== null || agent.signalCode !== null) return
    const gone = new Promise((resolve) => agent.once('exit', resolve))
    agent.kill('SIGKILL')
    await gone
  }

  /** SIGKILL to the engine; returns the pid that it had. */
  killEngine(): number {
    const pid = this.enginePid()
    if (pid === undefined) throw new DaemonGuardError('no engine runs that could be killed', { where: this.#engineFile })
    process.kill(pid, 'SIGKILL')
    return pid
  }

  /** The engine's pid as engine.json says it. */
  enginePid(): number | undefined {
    try {
      const { pid } = JSON.parse(fs.readFileSync(this.#engineFile, 'utf8')) as { pid: number }
      this.#engines.add(pid)
      return pid
    } catch {
      return undefined // not there, or just being replaced
    }
  }

  /** The agent's status, or undefined when it does not answer. */
  async status(): Promise<StageStatus | undefined> {
    try {
      const response = await fetch(`http://${host}:${this.#statusPort}/api/status`, { signal: AbortSignal.timeout(2000) })
      return (await response.json()) as StageStatus
    } catch {
      return undefined
    }
  }

  /** Runs `daemonguard ARGS -c CONFIG` to its end. */
  command(args: readonly string[], signal: AbortSignal): Promise<{ code: number | null; output: string }> {
    const self = selfCommand()
    return new Promise((resolve, reject) => {
      const child = spawn(self.command, [...self.args, ...args, '-c', this.config], { stdio: ['ignore', 'pipe', 'pipe'], signal })
      let output = ''
      for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text))
      child.once('error', reject)
      child.once('close', (code) => resolve({ code, output }))
    })
  }

  /** The last lines of the agent's and the engine's log, for a demo that failed. */
  lastLines(count: number): string {
    const lines = ['agent.log', 'data/engine.log'].flatMap((name) => {
      const file = path.join(this.directory, name)
      if (!fs.existsSync(file)) return []
      return [`${name}:`, ...fs.readFileSync(file, 'utf8').trimEnd().split('\n').slice(-count)]
    })
    return lines.join('\n')
  }

  /** Stops agent and engine, by force where asking does not help, and removes the directory unless it is to be kept. */
  async end(options: { keep: boolean }): Promise<void> {
    try {
      await this.command(['stop', '--engine'], AbortSignal.timeout(8000))
    } catch {
      // by force, then
    }
    this.killEverything()
    await waitUntil(() => [...this.#engines].every((pid) => !isEngineOf(pid, this.config)), { deadline: 5000 })
    if (!options.keep) removeTree(this.directory, 'DEMO:STAGE')
  }

  /** SIGKILL to all that the demo started; at once, also from a signal handler. */
  killEverything(): void {
    this.#agent?.kill('SIGKILL')
    this.enginePid()
    for (const pid of this.#engines) if (isEngineOf(pid, this.config)) process.kill(pid, 'SIGKILL')
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Pids are used again: only a process that was started with our config is ours. (Nor is a zombie: its command line is empty.) */
function isEngineOf(pid: number, config: string): boolean {
  if (process.platform !== 'linux') return isRunning(pid)
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(config)
  } catch {
    return false
  }
}

/** Two free TCP ports. Both are held while they are looked for, so that they differ. */
async function freePorts(): Promise<[number, number]> {
  const servers = await Promise.all(
    [0, 1].map(
      () =>
        new Promise<net.Server>((resolve, reject) => {
          const server = net.createServer().once('error', reject)
          server.listen(0, host, () => resolve(server))
        }),
    ),
  )
  const ports = servers.map((server) => (server.address() as net.AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return [ports[0] as number, ports[1] as number]
}
