/**
 * A password as PostgreSQL keeps it: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` (RFC 5803 in its own spelling). Such a verifier lets
 * a login be checked without the password, and no login be made with it.
 */

import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto'
import { promisify } from 'node:util'

export interface Verifier {
  readonly iterations: number
  readonly salt: Buffer
  readonly storedKey: Buffer
  readonly serverKey: Buffer
}

/** As PostgreSQL's default, and RFC 7677's minimum. */
export const defaultIterations = 4096
export const saltLength = 16
/** Bytes of every key: SHA-256's. */
export const keyLength = 32

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

export function sha256(data: Buffer): Buffer {
  return createHash('sha256').update(data).digest()
}

export function hmac(key: Buffer, data: Buffer | string): Buffer {
  return createHmac('sha256', key).update(data).digest()
}
