/**
 * One client: its socket, from the first byte to the last. Messages are handled where they lie in the buffer until one needs
 * the engine; then the rest waits, and the socket is no longer read once enough of it has gathered. COPY data is the exception: it
 * is handed to the running statement as it comes.
 */

import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { Log } from '../../log.ts'
import { isLoopback } from '../../values.ts'
import { peerUser } from '../peer.ts'
import { protocolViolation, SqlError } from '../sql-error.ts'
import type { Backend, BackendSession } from './backend.ts'
import type { BatchSender } from './batch-sender.ts'
import { Conversation, type ConversationHost } from './conversation.ts'
import { type Gatekeeper, Login, type Role, type Visitor } from './login.ts'
import { Frontend, MessageReader } from './messages.ts'
import { Outbox } from './outbox.ts'
import * as responses from './responses.ts'
import { initialSettings, readStartup, type StartupPacket } from './startup.ts'
import { applicationProtocol, type Encryption } from './tls.ts'

/** Bytes waiting behind a running statement above which the socket is paused. */
const readAhead = 64 * 1024
/** How long a client may take to hang up after our last word, ms. */
const lingerTime = 5_000
/** ms */
const interruptInterval = 50
/** The first byte of a TLS handshake record; a startup packet begins with a zero. */
const tlsHandshake = 0x16

export interface ConnectionOptions {
  /** Unique among open connections; the client knows it as its backend's pid. */
  readonly id: number
  readonly secret: number
  readonly backend: Backend
  readonly gatekeeper: Gatekeeper
  /** It came over the Unix socket. */
  readonly isLocal: boolean
  /** What SSLRequest is answered with; undefined: with no. */
  readonly encryption: Encryption | undefined
  /** DaemonGuard's version, for `server_version`. */
  readonly version: string
  readonly log: Log
  /** That of all connections. */
  readonly sender: BatchSender
  /** How long a client may take to log in, ms. */
  readonly startupTimeout: number
  /** Whether one more session may be opened for this role; counts this one if so. */
  admit(role: Role): boolean
  /** A CancelRequest for another connection. */
  cancel(id: number, secret: number): void
  /** The socket is closed and the session has ended. Called once. */
  closed(): void
}

type StartupMessage = Extract<StartupPacket, { kind: 'startup' }>

export class Connection implements ConversationHost {
  readonly log: Log
  /** The TCP or Unix socket, then the encryption over it. */
  private socket: Socket
  private readonly options: ConnectionOptions
  private readonly reader = new MessageReader()
  private outbox: Outbox
  /** What a login over this encryption is bound to. */
  private binding: Buffer | undefined
  private readonly startupTimer: NodeJS.Timeout
  /** Under way from the startup packet on. */
  private login: { readonly steps: Login; readonly packet: StartupMessage } | undefined
  private session: BackendSession | undefined
  private conversation: Conversation | undefined
  /** The first bytes have come. */
  private spoken = false
  /** SSLRequest, GSSENCRequest: a client may try both. */
  private encryptionRequests = 0
  /** A call into the engine is under way. */
  private busy = false
  private pumping = false
  private interrupting: NodeJS.Timeout | undefined
  /** Our last word to the client, said when the running call has settled. */
  private goodbye: SqlError | undefined
  /** The last word is said: nothing more is read or answered. */
  private finished = false
  private inputEnded = false
  private socketClosed = false
  private ended: 'open' | 'closing' | 'closed' = 'open'

  constructor(socket: Socket, options: ConnectionOptions) {
    this.socket = socket
    this.options = options
    this.log = options.log
    this.startupTimer = setTimeout(() => this.socket.destroy(), options.startupTimeout).unref()
    this.outbox = this.attach(socket)
  }

  /** Listens to what comes over a socket, and writes to it from now on. */
  private attach(socket: Socket): Outbox {
    this.socket = socket
    socket.on('data', (data: Buffer) => {
      if (this.finished) return
      if (!this.spoken && data[0] === tlsHandshake && this.options.encryption?.available) {
        this.encryptAtOnce(this.options.encryption, data)
        return
      }
      this.spoken = true
      this.reader.push(data)
      this.pump()
    })
    socket.on('end', () => this.onEnd())
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => this.onClose())
    return new Outbox(socket, this.options.sender, {
      cut: (error) => {
        this.log.error({ err: error, connection: this.options.id }, 'cutting off a client: what it would be told is not durable')
        socket.destroy()
      },
      room: () => this.pump(),
    })
  }

  get ending(): boolean {
    return this.goodbye !== undefined || this.finished || this.socketClosed
  }

  /** CancelRequest: interrupts the running statement, if there is one. */
  cancel(): void {
    if (this.busy) this.interrupt(new SqlError('57014', 'canceling statement due to user request'))
  }

  /** Ends with an error: at once when idle, else when the running call has ended, which `interrupt` hastens; a client that does not read is cut off then. */
  end(error: SqlError, options: { interrupt: boolean }): void {
    if (this.finished || this.socketClosed) return
    this.goodbye ??= error
    if (!this.busy) this.fatal(this.goodbye)
    else if (options.interrupt) {
      this.interrupt(this.goodbye)
      setTimeout(() => !this.finished && this.outbox.full && this.socket.destroy(), lingerTime).unref()
    }
  }

  /** Closes the socket without a word. */
  destroy(): void {
    this.socket.destroy()
  }

  /** Terminate, or a CancelRequest's end: sends what is written and closes. */
  hangUp(): void {
    if (this.finished) return
    this.finished = true
    this.outbox.end()
    this.socket.resume() // so that the client's FIN is seen
    setTimeout(() => this.socket.destroy(), lingerTime).unref()
    if (this.busy) this.interrupt(lost())
    else this.endSession()
  }

  /** Handles what has arrived, in order, until something has to be waited for. */
  pump(): void {
    if (this.pumping || this.finished || this.socketClosed) return
    this.pumping = true
    let drained = false
    try {
      while (!this.finished && !this.stalled()) {
        if (this.login !== undefined && this.conversation === undefined) {
          // Checked as soon as it is there: a stranger's message is not gathered to a length that only statements may have.
          if (![0, Frontend.password].includes(this.reader.following)) throw protocolViolation('expected a SASL response')
          drained = this.reader.next() === 0
          if (drained) break
          this.track(this.login.steps.message(this.reader).then((role) => this.open(role)))
        } else if (this.conversation === undefined) {
          drained = !this.reader.nextStartup()
          if (drained) break
          this.track(this.startup(readStartup(this.reader)))
        } else {
          const type = this.reader.next()
          drained = type === 0
          if (drained) break
          this.track(this.conversation.handle(type, this.reader))
        }
      }
      this.conversation?.copy?.deliver()
    } catch (error) {
      this.fatal(error)
    } finally {
      this.pumping = false
    }
    if (this.inputEnded && drained) {
      if (!this.busy) this.hangUp()
      else if (this.conversation?.copy !== undefined) this.interrupt(lost())
    }
    this.regulate()
  }

  private stalled(): boolean {
    const copy = this.conversation?.copy
    return copy !== undefined ? copy.full : this.busy || this.outbox.full
  }

  /** Reads on behind a running statement, so that a lost client is noticed, but only so far, so that it can't fill the memory. */
  private regulate(): void {
    const pause = !this.finished && this.stalled() && this.reader.buffered > readAhead
    if (pause !== this.socket.isPaused()) pause ? this.socket.pause() : this.socket.resume()
  }

  private track(work: Promise<void> | undefined): void {
    if (work === undefined) return
    this.busy = true
    work.then(
      () => this.settled(),
      (error: unknown) => this.settled(error),
    )
  }

  private settled(error?: unknown): void {
    this.busy = false
    clearInterval(this.interrupting)
    this.interrupting = undefined
    if (this.conversation !== undefined) this.conversation.copy = undefined
    if (this.socketClosed || this.finished) this.endSession()
    else if (this.goodbye !== undefined) this.fatal(this.goodbye)
    else if (error !== undefined) this.fatal(error)
    else this.pump()
  }

  private startup(packet: StartupPacket): Promise<void> | undefined {
    switch (packet.kind) {
      case 'encryption':
        if (++this.encryptionRequests > 2 || this.socket instanceof TLSSocket) throw protocolViolation('too many requests for encryption')
        if (packet.tls && this.options.encryption?.available) this.encrypt(this.options.encryption)
        else this.socket.write('N')
        return undefined
      case 'cancel':
        this.options.cancel(packet.id, packet.secret)
        this.hangUp()
        return undefined
      case 'startup': {
        const steps = new Login(this.outbox, this.binding)
        this.login = { steps, packet }
        if (packet.negotiate) responses.negotiateVersion(this.outbox.writer, packet.unknownOptions)
        return steps.begin(this.options.gatekeeper, this.visitor(packet.user)).then((role) => this.open(role))
      }
    }
  }

  /**
   * The handshake begins. Bytes that came before it are none of the client's, and must not be taken for what it says over the encrypted
   * connection (CVE-2021-23222).
   */
  private encrypt(encryption: Encryption): void {
    if (this.reader.buffered > 0) throw protocolViolation('received unencrypted data after SSL request')
    this.socket.write('S')
    this.handOver(encryption)
  }

  /** The client began with the handshake itself: `bytes` are its first. */
  private encryptAtOnce(encryption: Encryption, bytes: Buffer): void {
    this.spoken = true
    this.socket.pause()
    this.socket.unshift(bytes)
    const secured = this.handOver(encryption)
    // A server of another protocol must not be made to answer in this one (ALPACA): the client has to name it.
    secured.once('secure', () => {
      if (secured.alpnProtocol !== applicationProtocol) secured.destroy()
    })
  }

  private handOver(encryption: Encryption): TLSSocket {
    const plain = this.socket
    for (const event of ['data', 'end', 'error', 'close', 'drain']) plain.removeAllListeners(event)
    plain.on('error', () => {}) // the encrypted socket closes with it
    const { socket, binding } = encryption.wrap(plain)
    this.binding = binding
    this.outbox = this.attach(socket)
    return socket
  }

  private visitor(user: string): Visitor {
    const { socket, options } = this
    const address = options.isLocal ? 'local' : (socket.remoteAddress ?? 'unknown')
    const from = options.isLocal ? 'socket' : isLoopback(address) ? 'loopback' : 'network'
    return { user, from, address, encrypted: socket instanceof TLSSocket, systemUser: () => peerUser(socket) }
  }

  /** Begins the session, once it is known whose. */
  private async open(role: Role | undefined): Promise<void> {
    if (role === undefined || this.login === undefined || this.finished || this.socketClosed) return
    const { options, outbox, socket } = this
    const { packet } = this.login
    const { writer } = outbox
    if (!options.admit(role))
      throw new SqlError('53300', 'too many connections', { severity: 'FATAL', hint: 'Close unused connections, or use a pool.' })
    const applicationName = packet.parameters.get('application_name') ?? ''
    const session = await options.backend.open({
      id: options.id,
      user: role.name,
      readonly: role.readonly,
      database: packet.database,
      applicationName,
      parameters: packet.parameters,
      remote: options.isLocal ? 'local' : `${socket.remoteAddress}:${socket.remotePort}`,
      end: (error) => this.end(error, { interrupt: true }),
      deallocate: (name) => this.conversation?.deallocate(name) ?? false,
      report: (name, value) => responses.parameterStatus(writer, name, value),
    })
    clearTimeout(this.startupTimer)
    this.session = session
    outbox.barrier = (seq) => session.barrier(seq)
    this.conversation = new Conversation(session, outbox, this)
    responses.authenticationOk(writer)
    for (const [name, value] of initialSettings(options.version, role, applicationName)) responses.parameterStatus(writer, name, value)
    responses.backendKeyData(writer, options.id, options.secret)
    this.conversation.ready()
  }

  /** Until the running call has settled: an interrupt that comes just before DuckDB starts a statement is forgotten by it. */
  private interrupt(reason: SqlError): void {
    this.conversation?.copy?.abort(reason)
    this.session?.cancel()
    this.interrupting ??= setInterval(() => this.session?.cancel(), interruptInterval).unref()
  }

  /** Ends the connection with an error. */
  private fatal(error: unknown): void {
    if (this.finished || this.socketClosed) return
    const sqlError = responses.toSqlError(error)
    if (sqlError !== error) this.log.error({ err: error, connection: this.options.id }, 'a connection failed in a way nobody foresaw')
    responses.errorResponse(this.outbox.writer, sqlError, 'FATAL')
    this.hangUp()
  }

  /** The client has closed its side. What it sent before is still done, unless it left a running statement alone. */
  private onEnd(): void {
    this.inputEnded = true
    if (this.busy && this.reader.buffered === 0) this.interrupt(lost())
    this.pump()
  }

  private onClose(): void {
    this.socketClosed = true
    clearTimeout(this.startupTimer)
    this.outbox.close()
    this.login?.steps.abandon()
    if (this.busy) this.interrupt(lost())
    else this.endSession()
  }

  /** Nothing runs in the session any more, and nothing more will: it ends, and with the socket closed too, so does the connection. */
  private endSession(): void {
    if (this.ended === 'closing') return
    if (this.ended === 'closed') {
      if (this.socketClosed) this.options.closed()
      return
    }
    this.ended = 'closing'
    const { session } = this
    const closed = () => {
      this.ended = 'closed'
      if (this.socketClosed) this.options.closed()
    }
    if (session === undefined) {
      closed()
      return
    }
    session.close().then(closed, (error: unknown) => {
      this.log.error({ err: error, connection: this.options.id }, 'a session did not end cleanly')
      closed()
    })
  }
}

function lost(): SqlError {
  return new SqlError('08006', 'connection to client lost')
}
