/** The engine's side of the control socket (agent/control-protocol.ts). */

import type net from 'node:net'
import { createInterface } from 'node:readline'
import { type ControlMethods, type EngineHello, holdLeaseMs } from '../control-protocol.ts'
import { createEndpoint, listenAt } from '../endpoint.ts'
import { codeOf, DaemonGuardError, messageOf } from '../errors.ts'

/** Between two pushes, ms: thousands of commits a second are no reason to wake the agent as often. */
const pauseMs = 5

function lineOf(seq: number): string {
  return `{"durable":${seq}}\n`
}

type Params = ControlMethods['users']['params'] & Partial<ControlMethods['shutdown']['params']>

/** What the socket asks of the engine. */
export interface ControlTarget {
  hello(): EngineHello
  status(): Promise<ControlMethods['status']['result']>
  checkpoint(): Promise<{ watermark: number }>
  hold(holder: object): Promise<Omit<ControlMethods['hold']['result'], 'leaseMs'>>
  release(holder: object): void
  /** Whether the users were taken up. */
  users(auth: ControlMethods['users']['params']['auth']): Promise<boolean>
  /** Begins to end; the process exits after the answer has gone out. */
  shutdown(params: { checkpoint: boolean }): void
}

export class ControlServer {
  #server: net.Server
  #sockets = new Set<net.Socket>()
  #target: ControlTarget
  #announced = -1
  #told = -1
  #pausing = false

  constructor(target: ControlTarget) {
    this.#target = target
    this.#server = createEndpoint((socket) => this.#serve(socket))
  }

  /** The caller holds the engine's lock. */
  async listen(file: string): Promise<void> {
    await listenAt(this.#server, file, 'CONTROL:SOCKET')
  }

  /** Tells every connection that the journal is durable up to `seq`: at once, and then again after a pause for all that came meanwhile. */
  announce(seq: number): void {
    this.#announced = seq
    if (this.#pausing) return
    this.#pausing = true
    setImmediate(() => this.#push())
  }

  #push(): void {
    const told = this.#announced
    this.#told = told
    const line = lineOf(told)
    // A reader that does not keep up misses nothing: the next push says it all.
    for (const socket of this.#sockets) if (socket.writableLength < 1 << 16) socket.write(line)
    setTimeout(() => {
      if (this.#announced > told) this.#push()
      else this.#pausing = false
    }, pauseMs).unref()
  }

  /** What was not told yet is told first. */
  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) {
      if (this.#announced > this.#told) socket.write(lineOf(this.#announced))
      socket.destroySoon()
    }
  }

  #serve(socket: net.Socket): void {
    this.#sockets.add(socket)
    const holder = {}
    let lease: NodeJS.Timeout | undefined
    const release = () => {
      clearTimeout(lease)
      this.#target.release(holder)
    }
    const send = (message: unknown) => {
      if (!socket.destroyed) socket.write(`${JSON.stringify(message)}\n`)
    }
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#sockets.delete(socket)
      release()
    })
    const answer = async (method: string, params: Params): Promise<unknown> => {
      switch (method) {
        case 'status':
          return this.#target.status()
        case 'checkpoint':
          return this.#target.checkpoint()
        case 'hold': {
          clearTimeout(lease)
          lease = setTimeout(release, holdLeaseMs)
          return { ...(await this.#target.hold(holder)), leaseMs: holdLeaseMs }
        }
        case 'release':
          release()
          return {}
        case 'users':
          return { applied: await this.#target.users(params.auth) }
        case 'shutdown':
          this.#target.shutdown({ checkpoint: params.checkpoint === true })
          return {}
        default:
          throw new Error(`unknown method ${method}`)
      }
    }
    const lines = createInterface({ input: socket })
    // It repeats the socket's errors; the close that follows does what is to do.
    lines.on('error', () => {})
    lines.on('line', async (line) => {
      let id: unknown = null
      try {
        const request = JSON.parse(line)
        id = request.id
        send({ id, result: await answer(request.method, request.params ?? {}) })
      } catch (error) {
        const hint = error instanceof DaemonGuardError ? error.hint : undefined
        send({ id, error: { message: messageOf(error), code: codeOf(error), hint } })
      }
    })
    send({ hello: this.#target.hello() })
  }
}
