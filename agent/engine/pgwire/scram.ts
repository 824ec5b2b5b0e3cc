/**
 * SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's half: RFC 5802, RFC 7677 and RFC 5929 (tls-server-end-point), with what PostgreSQL
 * changes of them: the user's name is that of the startup message, and a password that SASLprep refuses is taken as it is. A password is
 * kept as PostgreSQL keeps it: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`. The verifier lets a login be checked without the
 * password, and no login be made with it.
 */

import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { protocolViolation, SqlError } from '../sql-error.ts'

export interface Verifier {
  readonly iterations: number
  readonly salt: Buffer
  readonly storedKey: Buffer
  readonly serverKey: Buffer
}

/** As PostgreSQL's default, and RFC 7677's minimum. */
export const defaultIterations = 4096
export const saltLength = 16
const keyLength = 32

const plain = 'SCRAM-SHA-256'
const bound = 'SCRAM-SHA-256-PLUS'
const bindingHeader = 'p=tls-server-end-point'

/** What a password is checked by. The salt need not be secret, but different for every user. */
export async function makeVerifier(password: string, options: { salt?: Buffer; iterations?: number } = {}): Promise<Verifier> {
  const { salt = randomBytes(saltLength), iterations = defaultIterations } = options
  const salted = await promisify(pbkdf2)(await normalized(password), salt, iterations, keyLength, 'sha256')
  return { iterations, salt, storedKey: sha256(hmac(salted, 'Client Key')), serverKey: hmac(salted, 'Server Key') }
}

/** A verifier that no password fits: an exchange with it looks like any other, and fails. */
export function impossibleVerifier(salt: Buffer, iterations: number): Verifier {
  return { iterations, salt, storedKey: randomBytes(keyLength), serverKey: randomBytes(keyLength) }
}

export function formatVerifier({ iterations, salt, storedKey, serverKey }: Verifier): string {
  const text = (bytes: Buffer) => bytes.toString('base64')
  return `SCRAM-SHA-256$${iterations}:${text(salt)}$${text(storedKey)}:${text(serverKey)}`
}

/** Whether the text is meant as a verifier, and no password. */
export function looksLikeVerifier(text: string): boolean {
  return text.startsWith('SCRAM-SHA-256$')
}

/** Undefined when the text is no whole verifier. */
export function parseVerifier(text: string): Verifier | undefined {
  const match = /^SCRAM-SHA-256\$(\d{1,9}):([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]{43}=):([A-Za-z0-9+/]{43}=)$/.exec(text)
  if (match === null || Number(match[1]) < 1) return undefined
  const [salt, storedKey, serverKey] = match.slice(2).map((part) => Buffer.from(part, 'base64')) as [Buffer, Buffer, Buffer]
  return { iterations: Number(match[1]), salt, storedKey, serverKey }
}

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

/** SASLprep (RFC 4013); PostgreSQL and its clients take a password as it is where that refuses it or leaves nothing. */
async function normalized(password: string): Promise<string> {
  if (/^[\x20-\x7e]*$/.test(password)) return password
  // Its tables take 100 ms to load.
  const { saslprep } = await import('@mongodb-js/saslprep')
  try {
    return saslprep(password) || password
  } catch {
    return password
  }
}

function sha256(data: Buffer): Buffer {
  return createHash('sha256').update(data).digest()
}

function hmac(key: Buffer, data: Buffer | string): Buffer {
  return createHmac('sha256', key).update(data).digest()
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
