/** `run`: the agent in the foreground, until a signal or `daemonguard stop`. */

import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { Agent } from '../agent.ts'
import type { Config } from '../config.ts'
import { DaemonGuardError, ExitCode, messageOf } from '../errors.ts'
import { resolvePlugins } from '../local-plugins.ts'
import { createLog } from '../log.ts'
import { isPacked, version } from '../runtime.ts'
import type { Surroundings } from '../service-manager.ts'
import { Systemd } from '../systemd.ts'
import type { Call, Command } from './command.ts'
import { loadConfiguration } from './configuration.ts'

const command: Command = {
  usage: 'run [-c FILE]',
  help: [
    'The agent: starts the engine or adopts the one that runs, keeps it alive, runs the plugins, serves the status page.',
    'Ctrl-C or SIGTERM ends the agent; the engine goes on serving until `daemonguard stop --engine`.',
    'SIGHUP checks the configuration again, takes up the users of engine.auth, and says what else a restart would change.',
    'Exit code 75: another agent runs on this data directory.',
  ],
  options: {},
  run: (call) => runAgent(call, inForeground),
}
export default command

/** In a terminal, or under systemd, which keeps what is printed. */
const inForeground: Surroundings = {
  log: ({ agent: { log } }) => createLog({ name: 'agent', ...log }),
  manager: (agent) => Systemd.of(agent, process.env),
}

/** The agent, from its configuration to its end; resolves with the exit code. */
export async function runAgent(call: Pick<Call, 'configFile'>, surroundings: Surroundings): Promise<number> {
  const config = await loadConfiguration(call)
  const { registry } = await import('../../plugins/index.ts')
  const log = surroundings.log(config)
  const agent = new Agent({ config, plugins: resolvePlugins(config, registry), log })
  onSignals(agent, call.configFile)
  containFaults(agent)
  const manager = surroundings.manager(agent)
  const started = agent.start()
  manager?.accompany(started)
  const how = await Promise.race([agent.stopRequested, started.then(() => announce(agent)).then(() => agent.stopRequested)])
  log.info(how.engine ? 'stopping the agent and the engine' : 'stopping the agent')
  await manager?.stopping()
  await agent.stop(how)
  await started.catch(() => {})
  log.info('the agent has stopped')
  if (!how.engine && process.stdout.isTTY)
    process.stdout.write(`\nThe engine goes on serving. To stop it: ${commandFor(config, 'stop --engine')}\n`)
  return ExitCode.ok
}

function onSignals(agent: Agent, configFile: string | undefined): void {
  let asked = false
  const stop = (signal: NodeJS.Signals) => {
    // The second one is impatience: the engine is a process of its own, so nothing can be harmed.
    if (asked) process.exit(ExitCode.failed)
    asked = true
    agent.log.info(`${signal} received`)
    agent.requestStop({ engine: false })
  }
  process.on('SIGTERM', stop).on('SIGINT', stop)
  // On Windows it says that the console is being closed: the system ends this process in a moment.
  if (process.platform === 'win32') process.on('SIGHUP', stop).on('SIGBREAK', stop)
  else process.on('SIGHUP', () => void reload(agent, configFile))
}

/**
 * What no part has caught must not end the agent (R7): nobody would look after the engine. It is reported, and if it goes on, a
 * process that faults without end is replaced by its service manager.
 */
function containFaults(agent: Agent): void {
  const recent: number[] = []
  const contain = (error: unknown) => {
    const now = agent.clock.monotonic()
    recent.push(now)
    while (recent.length > 0 && now - (recent[0] as number) > 60_000) recent.shift()
    agent.log.error({ err: error }, `a fault that no part of the agent has caught: ${messageOf(error)}`)
    if (recent.length >= 20) process.exit(ExitCode.failed)
    if (recent.length > 1) return
    const message = `the agent met a fault: ${messageOf(error)}`
    agent.incidents.close(
      agent.incidents.open({
        severity: 'warning',
        cause: 'agent-fault',
        message,
        evidence: { stack: error instanceof Error ? error.stack : undefined },
      }),
    )
    agent.alerts.raise('agent', message)
  }
  process.on('uncaughtException', contain).on('unhandledRejection', contain)
}

/** Takes up changed users and says what a restart would change; a configuration with mistakes changes nothing. */
async function reload(agent: Agent, configFile: string | undefined): Promise<void> {
  const { config: running, log } = agent
  try {
    const config = await loadConfiguration({ configFile: configFile ?? running.file })
    const { auth } = config.engine
    const isTakenUp = !isDeepStrictEqual(auth, running.engine.auth) && sameMethods(auth, running.engine.auth)
    if (isTakenUp) {
      running.engine.auth = auth
      if (await agent.updateUsers()) log.info('the users of engine.auth are those of the configuration now')
    }
    const changed = changedKeys(running, config)
    if (isTakenUp && changed.length === 0) return
    if (changed.length === 0) log.info('the configuration has not changed')
    else
      log.warn(
        { changed },
        `the configuration has changed: ${changed.join(', ')}. It takes effect when the agent starts again${changed.some((key) => key.startsWith('engine')) ? '; for the engine: daemonguard stop --engine first' : ''}`,
      )
  } catch (error) {
    log.error(
      `the configuration is not usable, the running one stays: ${error instanceof DaemonGuardError ? error.describe() : messageOf(error)}`,
    )
  }
}

function sameMethods(one: Config['engine']['auth'], other: Config['engine']['auth']): boolean {
  return one.method === other.method && one.socket === other.socket
}

/** Keys of the second level that differ: `agent.listen`, `plugins.watchdog`. */
export function changedKeys(before: Config, after: Config): string[] {
  const flat = ({ agent, engine, plugins }: Config): Record<string, Record<string, unknown>> => ({
    agent,
    engine,
    plugins: Object.fromEntries(plugins.map(({ name, options }) => [name, options])),
  })
  const [old, now] = [flat(before), flat(after)]
  return Object.keys(old).flatMap((section) => {
    const [a = {}, b = {}] = [old[section], now[section]]
    return [...new Set([...Object.keys(a), ...Object.keys(b)])]
      .filter((key) => !isDeepStrictEqual(a[key], b[key]))
      .map((key) => `${section}.${key}`)
  })
}

/** What an operator wants to know after the start: on a terminal as text, in a log as one line. */
function announce(agent: Agent): void {
  const { config, supervisor, paths, log } = agent
  const connection = supervisor.current
  const { problem, hint, state } = supervisor.status()
  const { host, port } = connection?.hello.listen ?? config.engine.listen
  const psql = `psql "host=${host} port=${port} dbname=${path.basename(paths.database, path.extname(paths.database))}"`
  const plugins = agent.plugins.reports().map(({ name }) => name)
  const facts = {
    psql,
    status: agent.statusPage,
    database: paths.database,
    journal: paths.journal,
    plugins,
    engine: connection?.hello.pid ?? null,
  }
  const level = connection === null ? 'error' : 'info'
  const verdict =
    connection === null
      ? `the engine does not serve: ${problem ?? state}${hint === null ? '' : ` (hint: ${hint})`}`
      : 'every write that is acknowledged now is safe'
  const isPretty = config.agent.log.format === 'pretty' || (config.agent.log.format === undefined && process.stdout.isTTY)
  if (!isPretty) {
    log[level](facts, verdict)
    return
  }
  process.stdout.write(`
  DaemonGuard ${version}: ${verdict}

  connect    ${psql}
  status     ${agent.statusPage ?? 'not served, see above'}
  protects   ${paths.database}
             by the journal in ${paths.journal}
             and ${plugins.join(', ')}
  Ctrl-C     ends this agent; the engine goes on serving
             to stop both: ${commandFor(config, 'stop --engine')}

`)
}

function commandFor(config: Config, command: string): string {
  const relative = path.relative('', config.file)
  return `${isPacked ? 'daemonguard' : 'node_modules/.bin/node agent/main.ts'} ${command} -c ${relative.startsWith('..') ? config.file : relative}`
}
