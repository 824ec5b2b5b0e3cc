/** Certificates for tests, made by openssl when they are wanted: an authority of their own, and servers' certificates signed by it. */

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import type { CertificateFiles } from '../../agent/certificate.ts'
import { temporaryDirectory } from './temp.ts'

export class Authority {
  readonly directory = temporaryDirectory('ca')
  readonly file = this.#in('ca.pem')
  #count = 0

  constructor() {
    const subject = ['-subj', '/CN=An authority for tests', '-days', '100']
    this.#openssl('req', '-x509', ...ecKey, '-nodes', '-keyout', this.#in('ca.key'), '-out', this.file, ...subject)
  }

  /** A certificate for `name` and 127.0.0.1. `key`: how openssl is to make its key; `sign`: more of how it is signed. */
  issue(options: { days?: number; name?: string; key?: readonly string[]; sign?: readonly string[] } = {}): CertificateFiles {
    const { days = 90, name = 'localhost', key: keyOptions = ecKey, sign = [] } = options
    const [cert, key, request, extensions] = ['pem', 'key', 'csr', 'ext'].map((end) => this.#in(`${this.#count}.${end}`)) as [
      string,
      string,
      string,
      string,
    ]
    this.#count += 1
    fs.writeFileSync(extensions, `subjectAltName=DNS:${name},IP:127.0.0.1\n`)
    this.#openssl('req', ...keyOptions, '-nodes', '-keyout', key, '-out', request, '-subj', `/CN=${name}`)
    const signer = ['-CA', this.file, '-CAkey', this.#in('ca.key'), '-CAcreateserial', '-days', String(days), ...sign]
    this.#openssl('x509', '-req', '-in', request, '-out', cert, '-extfile', extensions, ...signer)
    return { cert, key }
  }

  #in(name: string): string {
    return path.join(this.directory, name)
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  }
}

const ecKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
