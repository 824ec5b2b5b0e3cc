/** The agent's side of the control socket (agent/control-protocol.ts), and the probe, which goes the way a client goes. */

import type net from 'node:net'
import { createInterface } from 'node:readline'
import pg from 'pg'
import type { Config } from './config.ts'
import { agentUser, type ControlMethods, type EngineHello, holdLeaseMs } from './control-protocol.ts'
import { connectTo } from './endpoint.ts'
import { DaemonGuardError } from './errors.ts'
import type { EngineControl, EngineStatus, Hold } from './plugin.ts'

interface Pending {
  resolve(result: unknown): void
  reject(error: Error): void
}

export class EngineClient implements EngineControl {
  readonly hello: EngineHello
  #socket: net.Socket
  #nextId = 1
  #pending = new Map<number, Pending>()
  #durable: number
  #durableListeners: ((seq: number) => void)[] = []
  #closeListeners: (() => void)[] = []
  #closed = false
  #controlSocket: string

  private constructor(controlSocket: string, socket: net.Socket, hello: EngineHello) {
    this.#controlSocket = controlSocket
    this.#socket = socket
    this.hello = hello
    this.#durable = hello.durableSeq
  }

  /** Connects and waits for the hello. Rejects when nobody serves there within `timeoutMs` (default 2000). */
  static connect(controlSocket: string, options: { timeoutMs?: number } = {}): Promise<EngineClient> {
    return new Promise((resolve, reject) => {
      const socket = connectTo(controlSocket)
      let client: EngineClient | undefined
      const fail = (why: string) => {
        socket.destroy()
        reject(
          new DaemonGuardError(`the engine does not answer on its control socket: ${why}`, {
            where: controlSocket,
            hint: 'daemonguard status',
          }),
        )
      }
      const timer = setTimeout(() => fail('timeout'), options.timeoutMs ?? 2000)
      socket.on('error', (error) => {
        clearTimeout(timer)
        if (client === undefined) fail(error.message)
      })
      socket.on('close', () => {
        clearTimeout(timer)
        if (client === undefined) fail('it closed the connection')
        else client.#end()
      })
      const lines = createInterface({ input: socket })
      // It repeats the socket's errors, which are answered above.
      lines.on('error', () => {})
      lines.on('line', (line) => {
        const message = parsed(line)
        if (message === undefined) return fail('what answers there is no engine')
        if (message.hello !== undefined) {
          clearTimeout(timer)
          client = new EngineClient(controlSocket, socket, message.hello)
          resolve(client)
        } else if (client !== undefined) client.#receive(message)
      })
    })
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Last durable seq the engine has told. */
  get durableSeq(): number {
    return this.#durable
  }

  /** Called after each journal fsync with the last durable seq (coalesced). */
  onDurable(listener: (seq: number) => void): void {
    this.#durableListeners.push(listener)
  }

  /** Called once when the connection ends: the engine died, or closed it. */
  onClose(listener: () => void): void {
    if (this.#closed) listener()
    else this.#closeListeners.push(listener)
  }

  status(signal?: AbortSignal): Promise<EngineStatus> {
    return this.#call('status', {}, signal)
  }

  checkpoint(signal?: AbortSignal): Promise<{ watermark: number }> {
    return this.#call('checkpoint', {}, signal)
  }

  /** Gives the engine the users of `engine.auth`; false when it takes them up only at its next start. */
  async users(auth: Config['engine']['auth']): Promise<boolean> {
    const { applied } = await this.#call('users', { auth })
    return applied
  }

  /** A hold has a connection of its own, so that it ends with its holder. */
  async hold(signal?: AbortSignal): Promise<Hold> {
    const holder = await EngineClient.connect(this.#controlSocket)
    try {
      const lease = await holder.#call('hold', {}, signal)
      // A renewal that fails means that the connection has ended; the holder notices by onClose or at its next call.
      const renewal = setInterval(() => holder.#call('hold', {}).catch(() => {}), holdLeaseMs / 3)
      let released = false
      let lost = false
      holder.onClose(() => {
        clearInterval(renewal)
        lost = !released
      })
      return {
        watermark: lease.watermark,
        iteration: lease.iteration,
        openFile: lease.openFile,
        get lost() {
          return lost
        },
        async release() {
          released = true
          clearInterval(renewal)
          if (!holder.closed) await holder.#call('release', {}).catch(() => {})
          holder.close()
        },
      }
    } catch (error) {
      holder.close()
      throw error
    }
  }

  /** Reads and writes through the Postgres wire, down to an fsync of the journal. Milliseconds. */
  async probe(signal?: AbortSignal): Promise<number> {
    const started = performance.now()
    const { listen, socket, tls, agentPassword } = this.hello
    // Beyond loopback the engine demands encryption. Its certificate need not name this address: channel binding says whose it is.
    const at =
      socket === null
        ? { host: listen.host, port: listen.port, ssl: tls && { rejectUnauthorized: false }, enableChannelBinding: true }
        : { host: socket.slice(0, socket.lastIndexOf('/')), port: listen.port }
    const about = { user: agentUser, password: agentPassword, database: 'daemonguard', application_name: 'daemonguard watchdog' }
    const client = new pg.Client({ ...at, ...about })
    client.on('error', () => {})
    const abort = () => (client as unknown as { connection: { stream: net.Socket } }).connection.stream.destroy()
    signal?.addEventListener('abort', abort, { once: true })
    try {
      signal?.throwIfAborted()
      await client.connect()
      await client.query('DAEMONGUARD PROBE')
      return performance.now() - started
    } finally {
      signal?.removeEventListener('abort', abort)
      await Promise.race([client.end().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 200).unref())])
    }
  }

  /** Ends the engine in order. Resolves when it has begun to end; wait for onClose. */
  async shutdown(options: { checkpoint: boolean }): Promise<void> {
    await this.#call('shutdown', options)
  }

  close(): void {
    this.#socket.destroy()
    this.#end()
  }

  #call<M extends keyof ControlMethods>(
    method: M,
    params: ControlMethods[M]['params'],
    signal?: AbortSignal,
  ): Promise<ControlMethods[M]['result']> {
    return new Promise((resolve, reject) => {
      if (this.#closed)
        return reject(new DaemonGuardError('the engine is gone', { where: this.#controlSocket, hint: 'daemonguard status' }))
      if (signal?.aborted) return reject(signal.reason)
      const id = this.#nextId++
      const abort = () => {
        this.#pending.delete(id)
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', abort, { once: true })
      const done = () => signal?.removeEventListener('abort', abort)
      this.#pending.set(id, {
        resolve(result) {
          done()
          resolve(result as ControlMethods[M]['result'])
        },
        reject(error) {
          done()
          reject(error)
        },
      })
      this.#socket.write(`${JSON.stringify({ id, method, params })}\n`)
    })
  }

  #receive(message: { id?: number; result?: unknown; error?: { message: string; code?: string; hint?: string }; durable?: number }): void {
    if (message.durable !== undefined) {
      this.#durable = message.durable
      for (const listener of this.#durableListeners) listener(message.durable)
      return
    }
    const pending = this.#pending.get(message.id ?? 0)
    if (pending === undefined) return
    this.#pending.delete(message.id ?? 0)
    if (message.error !== undefined) {
      const { message: what, code, hint } = message.error
      pending.reject(Object.assign(new DaemonGuardError(what, { hint }), { code }))
    } else pending.resolve(message.result)
  }

  #end(): void {
    if (this.#closed) return
    this.#closed = true
    for (const pending of this.#pending.values())
      pending.reject(new DaemonGuardError('the engine ended before it answered', { hint: 'daemonguard status' }))
    this.#pending.clear()
    for (const listener of this.#closeListeners) listener()
  }
}

/** One line of the protocol, or undefined for anything else. */
// biome-ignore lint/suspicious/noExplicitAny: its fields are told apart by the callers
function parsed(line: string): any {
  try {
    const message = JSON.parse(line)
    return typeof message === 'object' && message !== null ? message : undefined
  } catch {
    return undefined
  }
}
