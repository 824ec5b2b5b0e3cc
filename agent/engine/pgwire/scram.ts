/**
 * SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's half: RFC 5802, RFC 7677 and RFC 5929 (tls-server-end-point), with what PostgreSQL
 * changes of them: the user's name is that of the startup message, and a password that SASLprep refuses is taken as it is.
 */

import { randomBytes, timingSafeEqual } from 'node:crypto'
import { hmac, keyLength, sha256, type Verifier } from '../../verifier.ts'
import { protocolViolation, SqlError } from '../sql-error.ts'

const plain = 'SCRAM-SHA-256'
const bound = 'SCRAM-SHA-256-PLUS'
const bindingHeader = 'p=tls-server-end-point'

/** The mechanisms to offer. `binding`: the hash of the server's certificate, when the connection is encrypted and there is one. */
export function mechanisms(binding: Buffer | undefined): readonly string[] {
  return binding === undefined ? [plain] : [bound, plain]
}

/** One login: `first`, then `final`. Both throw FATAL SqlErrors for messages that break the protocol. */
export class ScramExchange {
  private readonly verifier: Verifier
  private readonly binding: Buffer | undefined
  private nonce = ''
  /** What the client must send as `c=`. */
  private expectedBinding = ''
  private clientFirst = ''
  private serverFirst = ''

  constructor(verifier: Verifier, binding: Buffer | undefined) {
    this.verifier = verifier
    this.binding = binding
  }

  /** The client's first message; returns the server's. */
  first(mechanism: string, message: Buffer): Buffer {
    if (!mechanisms(this.binding).includes(mechanism)) throw protocolViolation('client selected an invalid SASL authentication mechanism')
    // Every byte is kept as it came: both sides sign the messages.
    const match = /^([ny]|p=[^,]*),(a=[^,]*)?,(.*)$/s.exec(message.toString('latin1'))
    const [, header, authorization, bare] = match ?? []
    if (header === undefined || bare === undefined) throw malformed()
    if (authorization !== undefined) throw unsupported('an authorization identity')
    if (bare.startsWith('m=')) throw unsupported('a mandatory SCRAM extension')
    const clientNonce = /^n=[^,]*,r=([\x21-\x2b\x2d-\x7e]+)(?:,|$)/.exec(bare)?.[1]
    if (clientNonce === undefined) throw malformed()
    this.checkBinding(mechanism, header)
    this.clientFirst = bare
    this.nonce = clientNonce + randomBytes(18).toString('base64')
    const { salt, iterations } = this.verifier
    this.serverFirst = `r=${this.nonce},s=${salt.toString('base64')},i=${iterations}`
    return Buffer.from(this.serverFirst, 'latin1')
  }

  /** The client's last message; returns the server's, or undefined when the password is wrong. */
  final(message: Buffer): Buffer | undefined {
    const match = /^(c=([A-Za-z0-9+/=]+),r=([^,]*)(?:,.*)?),p=([A-Za-z0-9+/=]+)$/s.exec(message.toString('latin1'))
    const [, withoutProof, binding, nonce, proofText] = match ?? []
    if (withoutProof === undefined || proofText === undefined || nonce !== this.nonce) throw malformed()
    const proof = Buffer.from(proofText, 'base64')
    if (proof.length !== keyLength) throw malformed()
    if (binding !== this.expectedBinding) throw bindingMismatch('SCRAM channel binding check failed')
    const signed = Buffer.from(`${this.clientFirst},${this.serverFirst},${withoutProof}`, 'latin1')
    const signature = hmac(this.verifier.storedKey, signed)
    const clientKey = Buffer.from(proof.map((byte, i) => byte ^ signature[i]!))
    if (!timingSafeEqual(sha256(clientKey), this.verifier.storedKey)) return undefined
    return Buffer.from(`v=${hmac(this.verifier.serverKey, signed).toString('base64')}`, 'latin1')
  }

  /** `n`: the client knows no channel binding; `y`: it does, and believes that we do not; `p`: it uses it. */
  private checkBinding(mechanism: string, header: string): void {
    if ((mechanism === bound) !== header.startsWith('p=')) throw malformed()
    if (header.startsWith('p=') && header !== bindingHeader) throw unsupported('this type of SCRAM channel binding')
    if (header === 'y' && this.binding !== undefined) throw bindingMismatch('SCRAM channel binding negotiation error')
    const bytes = mechanism === bound ? (this.binding as Buffer) : Buffer.alloc(0)
    this.expectedBinding = Buffer.concat([Buffer.from(`${header},,`), bytes]).toString('base64')
  }
}

function malformed(): SqlError {
  return protocolViolation('malformed SCRAM message')
}

function unsupported(what: string): SqlError {
  return new SqlError('0A000', `client requires ${what}, which is not supported`, { severity: 'FATAL' })
}

/** Somebody between client and server may have changed what they say. */
function bindingMismatch(message: string): SqlError {
  return new SqlError('28000', message, {
    severity: 'FATAL',
    hint: 'is this the certificate of engine.tls, or is there a proxy in between?',
  })
}
