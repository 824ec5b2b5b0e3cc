/**
 * The agent as a native service of Windows: `daemonguard service run`, which the service manager starts. No wrapper program.
 *
 * StartServiceCtrlDispatcherW keeps a thread of its own (koffi's) until the service has stopped; what it calls back runs here, on the main thread, between
 * other things, so a control is answered as soon as the event loop turns.
 *
 * A plain stop ends the agent alone, as on Linux: the engine is a process of its own, and the next agent adopts it. Before a shutdown of Windows
 * (SERVICE_CONTROL_PRESHUTDOWN) the engine is stopped as well, after a checkpoint; what Windows does not wait for, the journal has.
 *
 * An agent that dies, or gives up, leaves without saying SERVICE_STOPPED: that is what makes the service manager start it again. A bad configuration does
 * not get better by itself: then the service stops, with 78 as its service-specific exit code.
 */

import type { Agent } from '../agent.ts'
import type { Config } from '../config.ts'
import { ensureDirectory } from '../disk.ts'
import { DaemonGuardError, ExitCode, messageOf } from '../errors.ts'
import { createLog, type Log } from '../log.ts'
import { openLog, rotateLog } from '../log-file.ts'
import { pathsOf } from '../paths.ts'
import { version } from '../runtime.ts'
import type { ServiceManager, Surroundings } from '../service-manager.ts'
import { prepareDisk } from './disk.ts'
import { EventId, type EventLevel, EventLog } from './event-log.ts'
import { Control, ERROR_CALL_NOT_IMPLEMENTED, ERROR_SERVICE_SPECIFIC_ERROR, State, serviceCalls } from './service-calls.ts'

/** The service's name, and that of its source in the event log. */
export const serviceName = 'DaemonGuard'

const SERVICE_WIN32_OWN_PROCESS = 0x10
const SERVICE_ACCEPT_STOP = 1
const SERVICE_ACCEPT_PRESHUTDOWN = 0x100
const NO_ERROR = 0

/** How often a start or a stop that takes long says that it goes on, and how long the manager is to wait for the next word. */
const progressMs = 2000
const waitHintMs = 30_000
const rotationMs = 60_000

/** What a service asks of the service manager. */
export type ManagerCalls = Pick<
  ReturnType<typeof serviceCalls>,
  'registerMain' | 'registerHandler' | 'registerControlHandler' | 'dispatch' | 'setStatus'
>

export class WindowsService {
  #calls: ManagerCalls
  #status = 0
  #state: number = State.startPending
  #checkPoint = 0
  #ended: Promise<void>
  #agent: Agent | undefined
  #log: Log | undefined
  #events: EventLog | undefined
  /** Asked before there was an agent. */
  #asked: { engine: boolean } | undefined

  private constructor(calls: ManagerCalls, connected: () => void) {
    this.#calls = calls
    // Both live as long as the process.
    const handler = calls.registerHandler((control) => this.#control(control))
    const main = calls.registerMain(() => {
      this.#status = calls.registerControlHandler(serviceName, handler, null)
      this.#tell(State.startPending)
      connected()
    })
    this.#ended = new Promise((resolve) => {
      const table = [
        { name: serviceName, main },
        { name: null, main: null },
      ]
      calls.dispatch.async(table, () => resolve())
    })
  }

  /** Resolves when the service manager has called us as its service; rejects when nobody did, since something else started this process. */
  static async connect(calls: ManagerCalls = serviceCalls()): Promise<WindowsService> {
    const { promise, resolve } = Promise.withResolvers<'connected'>()
    const service = new WindowsService(calls, () => resolve('connected'))
    if ((await Promise.race([promise, service.#ended])) === 'connected') return service
    throw new DaemonGuardError('Windows’ service manager did not start this process', {
      hint: 'daemonguard service start; in a terminal: daemonguard run',
      exitCode: ExitCode.usage,
    })
  }

  /** Runs the service to its end. Resolves with the exit code of this process. */
  async run(work: (surroundings: Surroundings) => Promise<number>): Promise<number> {
    const progress = setInterval(() => {
      if (this.#state !== State.running) this.#tell(this.#state)
    }, progressMs)
    const rotation = setInterval(() => {
      if (this.#agent !== undefined && this.#log !== undefined) rotateLog(this.#agent.paths.agentLog, this.#log)
    }, rotationMs)
    let code: number
    try {
      code = await work({ log: (config) => this.#openLog(config), manager: (agent) => this.#accompany(agent) })
      this.#report('info', EventId.stopped, 'The agent has stopped.')
    } catch (error) {
      code = error instanceof DaemonGuardError ? error.exitCode : ExitCode.failed
      const text = error instanceof DaemonGuardError ? error.describe() : messageOf(error)
      this.#log?.fatal({ err: error }, text)
      this.#report('error', EventId.failed, `The agent cannot run: ${text}`)
    } finally {
      clearInterval(progress)
      clearInterval(rotation)
    }
    if (code !== ExitCode.ok && code !== ExitCode.config) return code
    this.#tell(State.stopped, code)
    await this.#ended
    return code
  }

  #openLog(config: Config): Log {
    const { data, agentLog } = pathsOf(config)
    let destination: number | undefined
    let problem: unknown
    try {
      prepareDisk()
      ensureDirectory(data, 'AGENT:DIRECTORY')
      destination = openLog(agentLog)
    } catch (error) {
      // It goes where a service's output goes: nowhere. An agent without a log is better than none.
      problem = error
    }
    this.#log = createLog({ name: 'agent', ...config.agent.log, destination })
    if (problem !== undefined) this.#report('error', EventId.failed, `The agent runs without ${agentLog}: ${messageOf(problem)}`)
    return this.#log
  }

  #accompany(agent: Agent): ServiceManager {
    this.#agent = agent
    agent.alerts.onAlert(({ source, message, details }) =>
      this.#report('error', EventId.alert, `${message}\n\n${JSON.stringify({ source, ...details }, plain, 2)}`),
    )
    agent.incidents.onIncident((incident) => {
      const { id, message, cause, actions, loss, downtimeMs, hint, closedAt } = incident
      const level = incident.severity === 'info' ? 'info' : 'warning'
      const text = `${message}\n\n${JSON.stringify({ id, cause, actions, loss, downtimeMs, hint }, plain, 2)}`
      if (closedAt === null) this.#report(level, EventId.incident, text)
      else this.#report('info', EventId.incidentClosed, `Closed: ${text}`)
    })
    if (this.#asked !== undefined) agent.requestStop(this.#asked)
    return {
      // One that fails is told by run().
      accompany: (started) => void started.then(() => this.#serves(agent)).catch(() => {}),
      stopping: async () => this.#tell(State.stopPending),
    }
  }

  #serves({ supervisor, config, paths }: Agent): void {
    if (this.#state !== State.startPending) return
    this.#tell(State.running)
    const pid = supervisor.current?.hello.pid
    const what = pid === undefined ? 'no engine serves: daemonguard status' : `guarding the engine, pid ${pid}`
    this.#report('info', EventId.started, `DaemonGuard ${version}: ${what}. Configuration: ${config.file}. Log: ${paths.agentLog}`)
  }

  /** Called on the main thread, while one of the service manager's waits for the answer. */
  #control(control: number): number {
    switch (control) {
      case Control.stop:
      case Control.preshutdown: {
        this.#tell(State.stopPending)
        const how = { engine: control === Control.preshutdown }
        this.#log?.info(how.engine ? 'Windows shuts down' : 'the service manager stops the service')
        this.#asked ??= how
        this.#agent?.requestStop(how)
        return NO_ERROR
      }
      case Control.interrogate:
        return NO_ERROR
      default:
        return ERROR_CALL_NOT_IMPLEMENTED
    }
  }

  /** SERVICE_STATUS; `code` is that of a service that has stopped. */
  #tell(state: number, code = 0): void {
    const isPending = state === State.startPending || state === State.stopPending
    this.#checkPoint = isPending && state === this.#state ? this.#checkPoint + 1 : isPending ? 1 : 0
    this.#state = state
    const facts = Uint32Array.of(
      SERVICE_WIN32_OWN_PROCESS,
      state,
      state === State.running ? SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_PRESHUTDOWN : 0,
      code === 0 ? NO_ERROR : ERROR_SERVICE_SPECIFIC_ERROR,
      code,
      this.#checkPoint,
      isPending ? waitHintMs : 0,
    )
    if (this.#calls.setStatus(this.#status, Buffer.from(facts.buffer)) === 0)
      this.#log?.warn(`the service manager cannot be told of state ${state}`)
  }

  /** An event log that takes nothing must not disturb the agent. */
  #report(level: EventLevel, id: number, text: string): void {
    try {
      this.#events ??= new EventLog(serviceName)
      this.#events.report(level, id, text)
    } catch (error) {
      this.#log?.warn(`the event log was not told: ${messageOf(error)}`)
    }
  }
}

/** Details may hold bigints, which JSON lacks. */
function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}
