/** A server certificate and its private key, two PEM files: read, and told what is wrong with them. For `check` and for the engine's listener. */

import { createHash, createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import fs from 'node:fs'
import { codeOf } from './errors.ts'
import { lookAt } from './shell.ts'
import { exposure } from './values.ts'

export interface CertificateFiles {
  readonly cert: string
  readonly key: string
}

/** What is wrong with one of the two files. */
export interface Flaw {
  readonly file: keyof CertificateFiles
  readonly message: string
  readonly hint: string
  /** `fatal`: nobody can connect with it; `expired`: clients that verify it will not; `warning`: soon. */
  readonly severity: 'fatal' | 'expired' | 'warning'
}

export interface Identity {
  /** As read, PEM: the certificate comes first, then those that lead to its authority. */
  readonly chain: string
  readonly key: string
  readonly certificate: X509Certificate
}

const day = 86_400_000
/** Remaining days below which a certificate is told of: authorities that renew by themselves do so before. */
const warningDays = 30

/** Reads both files. Without a fatal flaw there is an identity. Never throws. */
export function readIdentity(files: CertificateFiles, now: number): { identity?: Identity; flaws: Flaw[] } {
  const flaws: Flaw[] = []
  const flaw = (file: Flaw['file'], message: string, hint: string, severity: Flaw['severity'] = 'fatal') =>
    flaws.push({ file, message, hint, severity })
  const read = <T>(file: Flaw['file'], what: string, parse: (pem: string) => T): { pem: string; parsed: T } | undefined => {
    const name = files[file]
    let pem: string
    try {
      pem = fs.readFileSync(name, 'utf8')
    } catch (error) {
      const reason = { ENOENT: 'there is no such file', EACCES: 'permission denied', EISDIR: 'it is a directory' }[codeOf(error) ?? '']
      flaw(file, `${name}: ${reason ?? 'it cannot be read'}`, lookAt(name))
      return undefined
    }
    try {
      return { pem, parsed: parse(pem) }
    } catch {
      // The library's words quote what it read.
      flaw(file, `${name} holds no ${what} in PEM form`, `see what it is: openssl ${file === 'cert' ? 'x509' : 'pkey'} -noout -in ${name}`)
      return undefined
    }
  }
  const cert = read('cert', 'certificate', (pem) => new X509Certificate(pem))
  const key = read('key', 'private key without a passphrase', (pem): KeyObject => createPrivateKey(pem))
  if (key !== undefined) {
    const exposed = exposure(files.key)
    if (exposed !== undefined) flaw('key', exposed.message, exposed.hint)
  }
  if (cert !== undefined) {
    const { validFromDate: from, validToDate: to } = cert.parsed
    const date = (moment: Date) => moment.toISOString().slice(0, 10)
    const days = Math.floor((to.getTime() - now) / day)
    if (now < from.getTime())
      flaw('cert', `the certificate is not valid before ${date(from)}`, 'look at the clock of this machine: date', 'expired')
    if (days < 0) flaw('cert', `the certificate expired on ${date(to)}`, 'renew it', 'expired')
    else if (days < warningDays)
      flaw('cert', `the certificate expires on ${date(to)}, in ${days} day${days === 1 ? '' : 's'}`, 'renew it', 'warning')
  }
  if (cert === undefined || key === undefined) return { flaws }
  if (!cert.parsed.checkPrivateKey(key.parsed))
    flaw(
      'key',
      'the private key does not belong to the certificate',
      'name the pair that was made together; the server’s certificate comes first',
    )
  if (flaws.some(({ severity }) => severity === 'fatal')) return { flaws }
  return { identity: { chain: cert.pem, key: key.pem, certificate: cert.parsed }, flaws }
}

/** The hash that a signature algorithm uses, by its object identifier (RFC 5929, 4.1: MD5 and SHA-1 count as SHA-256). */
const signatureHashes: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.4': 'sha256',
  '1.2.840.113549.1.1.5': 'sha256',
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
  '1.2.840.113549.1.1.14': 'sha224',
  '1.2.840.10045.4.1': 'sha256',
  '1.2.840.10045.4.3.1': 'sha224',
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
}

/** What SCRAM-SHA-256-PLUS binds a login to (tls-server-end-point). Undefined where clients could not tell it: Ed25519, RSA-PSS. */
export function channelBinding({ certificate }: Identity): Buffer | undefined {
  const hash = signatureHashes[certificate.signatureAlgorithmOid ?? '']
  return hash === undefined ? undefined : createHash(hash).update(certificate.raw).digest()
}
