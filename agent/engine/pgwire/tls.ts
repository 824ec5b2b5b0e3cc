/**
 * Encryption of a client's connection. The certificate's files are looked at whenever a client asks for encryption: a renewed pair serves the
 * next one, without a restart. A pair that is not whole yet (its key is still to come) leaves the one before in use; without any, clients
 * are told that there is no encryption.
 */

import { constants } from 'node:crypto'
import fs from 'node:fs'
import type { Socket } from 'node:net'
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import { type CertificateFiles, channelBinding, type Identity, readIdentity } from '../../certificate.ts'
import type { Clock } from '../../clock.ts'
import { messageOf } from '../../errors.ts'
import type { Log } from '../../log.ts'

/** What a client that begins with TLS at once must ask for (RFC 7301), as from PostgreSQL 17 on. */
export const applicationProtocol = 'postgresql'

export interface Secured {
  readonly socket: TLSSocket
  readonly binding: Buffer | undefined
}

export class Encryption {
  private readonly files: CertificateFiles
  private readonly log: Log
  private readonly clock: Clock
  private current: { readonly context: SecureContext; readonly binding: Buffer | undefined } | undefined
  /** Of the files as they were last tried. */
  private state = ''

  constructor(files: CertificateFiles, options: { log: Log; clock: Clock }) {
    this.files = files
    this.log = options.log
    this.clock = options.clock
    this.refresh()
  }

  /** Whether there is a certificate to encrypt with. */
  get available(): boolean {
    this.refresh()
    return this.current !== undefined
  }

  /** The server's side of the handshake goes on over `socket`, which is read by nobody else any more. Only when `available`. */
  wrap(socket: Socket): Secured {
    const { context, binding } = this.current as NonNullable<typeof this.current>
    const secured = new TLSSocket(socket, { isServer: true, secureContext: context, ALPNProtocols: [applicationProtocol] })
    return { socket: secured, binding }
  }

  private refresh(): void {
    const state = JSON.stringify([stateOf(this.files.cert), stateOf(this.files.key)])
    if (state === this.state) return
    this.state = state
    const { identity, flaws } = readIdentity(this.files, this.clock.now())
    for (const { file, message, hint, severity } of flaws) {
      const level = severity === 'warning' ? 'warn' : 'error'
      this.log[level]({ file: this.files[file], hint }, `engine.tls: ${message}${severity === 'fatal' ? this.consequence() : ''}`)
    }
    if (identity !== undefined) this.use(identity)
  }

  private use(identity: Identity): void {
    try {
      const context = createSecureContext({
        cert: identity.chain,
        key: identity.key,
        minVersion: 'TLSv1.2',
        secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
      })
      this.current = { context, binding: channelBinding(identity) }
      this.log.info({ file: this.files.cert, validTo: identity.certificate.validTo }, 'clients are encrypted with this certificate')
    } catch (error) {
      this.log.error({ file: this.files.cert }, `engine.tls: ${messageOf(error)}${this.consequence()}`)
    }
  }

  private consequence(): string {
    return this.current === undefined ? ': there is no encryption' : ': the certificate before stays in use'
  }
}

/** Changes whenever the file is written or replaced. */
function stateOf(file: string): unknown {
  try {
    const { mtimeMs, size, ino } = fs.statSync(file)
    return [mtimeMs, size, ino]
  } catch {
    return null
  }
}
