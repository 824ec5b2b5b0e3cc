/**
 * What systemd is told (sd_notify(3)): that the agent is still starting, serves, makes progress, stops. Datagrams to the socket in
 * NOTIFY_SOCKET, through koffi: Node has no datagram sockets of that family.
 *
 * The watchdog is fed by progress alone, not by a timer: each time, the agent must have answered `status` over its own control socket,
 * the way it answers an operator, and the run of its watchdog plugin that is under way must not be past its deadline. An agent whose
 * event loop turns but which does neither is killed by systemd and replaced; the engine goes on.
 */

import koffi from 'koffi'
import type { Agent } from './agent.ts'
import { askAgent } from './agent-control.ts'
import { messageOf } from './errors.ts'
import type { ServiceManager } from './service-manager.ts'
import type { StatusReport } from './status-report.ts'

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_NOSIGNAL = 0x4000

/** A replay may take its time: as long as the agent is at work, its start is not given up. */
const startStepMs = 10_000
const startGraceMs = 60_000

export class Systemd implements ServiceManager {
  #agent: Agent
  #watchdogMs: number | null
  #address: string
  #send: ((text: string) => void) | undefined
  #over = new AbortController()
  #told: Promise<void> = Promise.resolve()

  private constructor(agent: Agent, address: string, watchdogMs: number | null) {
    this.#agent = agent
    this.#watchdogMs = watchdogMs
    this.#address = address
  }

  /** The systemd that started this process, or null. Its variables are removed: no child is to speak for the agent. */
  static of(agent: Agent, env: NodeJS.ProcessEnv): Systemd | null {
    const { NOTIFY_SOCKET: address, WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = env
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name]
    if (process.platform !== 'linux' || address === undefined || !/^[/@]./.test(address)) return null
    const watched = Number(usec) > 0 && (pid === undefined || pid === String(process.pid))
    return new Systemd(agent, address, watched ? Number(usec) / 1000 : null)
  }

  accompany(started: Promise<void>): void {
    this.#told = this.#accompany(started)
  }

  async stopping(): Promise<void> {
    this.#tell('STOPPING=1', 'STATUS=stopping; the engine goes on')
    this.#over.abort()
    await this.#told
  }

  async #accompany(started: Promise<void>): Promise<void> {
    const { clock, supervisor } = this.#agent
    const { signal } = this.#over
    const settled = new AbortController()
    void started.catch(() => {}).then(() => settled.abort())
    this.#tell('STATUS=starting the engine, or adopting the one that runs')
    while (!settled.signal.aborted && !signal.aborted) {
      this.#tell(`EXTEND_TIMEOUT_USEC=${startGraceMs * 1000}`)
      await clock.sleep(startStepMs, AbortSignal.any([signal, settled.signal]))
    }
    if (signal.aborted) return
    const pid = supervisor.current?.hello.pid
    this.#tell('READY=1', `STATUS=${pid === undefined ? 'no engine serves: daemonguard status' : `guarding the engine, pid ${pid}`}`)
    if (this.#watchdogMs === null) return
    const pause = this.#watchdogMs / 4
    while (!signal.aborted) {
      if (await this.#progresses(pause)) this.#tell('WATCHDOG=1')
      await clock.sleep(pause, signal)
    }
  }

  async #progresses(timeoutMs: number): Promise<boolean> {
    const { paths, log } = this.#agent
    try {
      const { jobs } = await askAgent<StatusReport>(paths.agentSocket, 'status', {}, { timeoutMs: Math.max(timeoutMs, 1000) })
      const stuck = jobs.find(({ name, overdue }) => name === 'watchdog' && overdue)
      if (stuck !== undefined) log.warn('the run of the watchdog has not ended in time: systemd is not told of progress')
      return stuck === undefined
    } catch (error) {
      log.warn(`the agent does not answer itself, so systemd is not told of progress: ${messageOf(error)}`)
      return false
    }
  }

  #tell(...lines: string[]): void {
    try {
      this.#send ??= datagrams(this.#address)
      this.#send(lines.join('\n'))
    } catch (error) {
      this.#agent.log.warn(`systemd cannot be told ${lines[0]}: ${messageOf(error)}`)
    }
  }
}

/** Sends texts to a Unix datagram socket; `@name` is one of the abstract namespace. */
function datagrams(address: string): (text: string) => void {
  const libc = koffi.load('libc.so.6')
  const socket = libc.func('int socket(int domain, int type, int protocol)')
  const sendto = libc.func('intptr_t sendto(int fd, const void *data, size_t size, int flags, const void *address, unsigned int length)')
  const close = libc.func('int close(int fd)')
  // struct sockaddr_un: the family as 16 bits, then the path.
  const target = Buffer.concat([Buffer.from(new Uint16Array([AF_UNIX]).buffer), Buffer.from(address)])
  if (address.startsWith('@')) target[2] = 0
  return (text) => {
    const data = Buffer.from(text)
    const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try {
      if (fd < 0 || sendto(fd, data, data.length, MSG_NOSIGNAL, target, target.length) < 0)
        throw new Error(`sendto ${address}: error ${koffi.errno()}`)
    } finally {
      if (fd >= 0) close(fd)
    }
  }
}
