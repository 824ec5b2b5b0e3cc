/** Where clients connect: a TCP port and, on Unix, a socket file named as Postgres clients expect. Keeps the open connections. */

import { randomInt } from 'node:crypto'
import { connect, createServer, type Server, type Socket } from 'node:net'
import path from 'node:path'
import type { CertificateFiles } from '../../certificate.ts'
import { type Clock, systemClock } from '../../clock.ts'
import { agentUser } from '../../control-protocol.ts'
import * as disk from '../../disk.ts'
import { codeOf, DaemonGuardError } from '../../errors.ts'
import type { Log } from '../../log.ts'
import { SqlError } from '../sql-error.ts'
import type { Backend } from './backend.ts'
import { BatchSender } from './batch-sender.ts'
import { Connection } from './connection.ts'
import type { Gatekeeper } from './login.ts'
import { Encryption } from './tls.ts'

/** sun_path holds 108 bytes on Linux, 104 on macOS, with a zero at its end. */
const maxSocketPath = process.platform === 'darwin' ? 103 : 107
/** Sockets that have not started a session yet; when there are more, the one that has been at it longest is cut off. */
const strangersAtMost = 100

export interface ListenerOptions {
  readonly backend: Backend
  readonly gatekeeper: Gatekeeper
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Directory of the Unix socket `.s.PGSQL.<port>`; null: none. */
  readonly socketDir: string | null
  /** Encrypts TCP connections of clients that ask for it; null: none. */
  readonly tls: CertificateFiles | null
  readonly version: string
  readonly log: Log
  /** Sessions at a time; more are refused with 53300. Default 200. */
  readonly maxConnections?: number
  /** How long a client may take to log in, ms. Default 30,000. */
  readonly startupTimeout?: number
  readonly clock?: Clock
}

export class Listener {
  private readonly options: ListenerOptions
  private readonly clock: Clock
  private readonly encryption: Encryption | undefined
  private readonly connections = new Map<number, { readonly connection: Connection; readonly secret: number }>()
  private readonly admitted = new Set<number>()
  /** Those that are not in yet, in the order of their coming. */
  private readonly strangers = new Set<Connection>()
  private readonly sender: BatchSender
  private servers: Server[] = []
  private whenEmpty: (() => void) | undefined
  private closing: Promise<void> | undefined
  /** What clients can connect to, once `start` has resolved. */
  address: { readonly host: string; readonly port: number; readonly socket: string | null } | undefined

  constructor(options: ListenerOptions) {
    this.options = options
    this.clock = options.clock ?? systemClock
    this.sender = new BatchSender(options.log)
    this.encryption = options.tls === null ? undefined : new Encryption(options.tls, { log: options.log, clock: this.clock })
  }

  /** Open sessions. */
  get sessionCount(): number {
    return this.admitted.size
  }

  /** Throws DaemonGuardError when an address is in use or can't be had; nothing is left listening then. */
  async start(): Promise<void> {
    const { host, port, socketDir } = this.options
    try {
      const tcp = await this.listen({ host, port }, `${host}:${port}`)
      const bound = (tcp.address() as { port: number }).port
      const socket = socketDir === null || process.platform === 'win32' ? null : path.join(socketDir, `.s.PGSQL.${bound}`)
      if (socket !== null) await this.listenOnSocketFile(socket)
      this.address = { host, port: bound, socket }
    } catch (error) {
      for (const server of this.servers) server.close()
      this.servers = []
      throw error
    }
  }

  /**
   * Accepts no more; idle clients are told 57P01 at once, busy ones when their statement has ended, at the latest after `grace` ms,
   * when it is cancelled; who is still there `grace` ms later is cut off. Resolves when all sessions have ended. Safe twice, and without start.
   */
  close(options: { grace?: number } = {}): Promise<void> {
    this.closing ??= this.closeOnce(options.grace ?? 2_000)
    return this.closing
  }

  private async closeOnce(grace: number): Promise<void> {
    for (const server of this.servers) server.close()
    if (this.connections.size === 0) return
    const empty = new Promise<void>((resolve) => {
      this.whenEmpty = resolve
    })
    const goodbye = new SqlError('57P01', 'terminating connection due to administrator command', { severity: 'FATAL' })
    const over = new AbortController()
    const each = (visit: (connection: Connection) => void) => {
      for (const { connection } of [...this.connections.values()]) visit(connection)
    }
    void empty.then(() => over.abort())
    each((connection) => connection.end(goodbye, { interrupt: false }))
    await this.clock.sleep(grace, over.signal)
    each((connection) => connection.end(goodbye, { interrupt: true }))
    await this.clock.sleep(grace, over.signal)
    each((connection) => connection.destroy())
    await empty
  }

  private async listenOnSocketFile(file: string): Promise<void> {
    if (Buffer.byteLength(file) > maxSocketPath) {
      throw new DaemonGuardError(`the Unix socket's path is longer than ${maxSocketPath} bytes`, {
        where: file,
        hint: 'Set engine.socket_dir to a shorter directory.',
      })
    }
    if (await answers(file)) {
      throw new DaemonGuardError('another server is listening on the Unix socket', {
        where: file,
        hint: 'Stop it, or set another port in engine.listen.',
      })
    }
    disk.removeDurably(file, 'LISTENER:SOCKET') // left by a server that was killed
    await this.listen({ path: file }, file)
    disk.shareSocket(file)
  }

  private listen(at: { host: string; port: number } | { path: string }, where: string): Promise<Server> {
    const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 }, (socket) =>
      this.accept(socket, 'path' in at),
    )
    return new Promise((resolve, reject) => {
      server.once('error', (error) => {
        const hint =
          codeOf(error) === 'EADDRINUSE'
            ? 'Stop the other server, or set another address in engine.listen.'
            : 'Set another address in engine.listen or engine.socket_dir.'
        reject(new DaemonGuardError(`cannot listen: ${error.message}`, { where, hint, cause: error }))
      })
      server.listen(at, () => {
        server.removeAllListeners('error')
        server.on('error', (error) => this.options.log.error({ err: error, where }, 'listening for clients failed'))
        this.servers.push(server)
        resolve(server)
      })
    })
  }

  private get maxConnections(): number {
    return this.options.maxConnections ?? 200
  }

  private accept(socket: Socket, isLocal: boolean): void {
    if (this.closing !== undefined) return void socket.destroy()
    let id: number
    do id = randomInt(1, 2 ** 31)
    while (this.connections.has(id))
    const secret = randomInt(0, 2 ** 32)
    const connection = new Connection(socket, {
      id,
      secret,
      backend: this.options.backend,
      gatekeeper: this.options.gatekeeper,
      isLocal,
      encryption: isLocal ? undefined : this.encryption,
      version: this.options.version,
      log: this.options.log,
      sender: this.sender,
      startupTimeout: this.options.startupTimeout ?? 30_000,
      admit: (role) => {
        // The agent finds a place when there is none: a probe that is refused would be taken for an engine that is ill.
        if (this.admitted.size >= this.maxConnections && role.name !== agentUser) return false
        this.strangers.delete(connection)
        this.admitted.add(id)
        return true
      },
      cancel: (target, key) => {
        const found = this.connections.get(target)
        if (found?.secret === key) found.connection.cancel()
      },
      closed: () => {
        this.connections.delete(id)
        this.strangers.delete(connection)
        this.admitted.delete(id)
        if (this.connections.size === 0) this.whenEmpty?.()
      },
    })
    this.connections.set(id, { connection, secret })
    this.strangers.add(connection)
    const [oldest] = this.strangers
    if (oldest === undefined || this.strangers.size <= strangersAtMost) return
    this.strangers.delete(oldest)
    oldest.destroy()
  }
}

/** Whether somebody accepts connections on a Unix socket. */
function answers(file: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(file)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', (error) => {
      const code = codeOf(error)
      if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTSOCK') resolve(false)
      else reject(new DaemonGuardError(`cannot tell whether the Unix socket is in use: ${error.message}`, { where: file, cause: error }))
    })
  })
}
