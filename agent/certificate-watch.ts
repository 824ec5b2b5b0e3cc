/** Tells in time that the certificate of `engine.tls` ends, or that a renewal went wrong: nobody runs `check` every day. */

import { type CertificateFiles, type Flaw, readIdentity } from './certificate.ts'
import type { Clock } from './clock.ts'
import type { Scheduler } from './scheduler.ts'

/** A flaw that stays is told again after so long. */
const repeatMs = 7 * 86_400_000

export interface CertificateWatchOptions {
  readonly files: CertificateFiles
  readonly clock: Clock
  readonly scheduler: Scheduler
  alert(message: string, details: Record<string, unknown>): void
}

export class CertificateWatch {
  #options: CertificateWatchOptions
  /** When each flaw was told last. */
  #told = new Map<string, number>()

  constructor(options: CertificateWatchOptions) {
    this.#options = options
  }

  /** Looks now, and every hour. */
  start(): void {
    const tick = async () => this.look()
    void this.#options.scheduler.schedule({ name: 'certificate', cron: '23 * * * *', deadlineMs: 10_000, tick }).runNow()
  }

  look(): void {
    const { files, clock, alert } = this.#options
    const now = clock.now()
    const flaws = this.#flaws()
    // What is well again is told at once when it comes back.
    for (const key of this.#told.keys()) if (!flaws.some((flaw) => keyOf(flaw) === key)) this.#told.delete(key)
    for (const flaw of flaws) {
      if (now - (this.#told.get(keyOf(flaw)) ?? Number.NEGATIVE_INFINITY) < repeatMs) continue
      this.#told.set(keyOf(flaw), now)
      alert(`engine.tls: ${flaw.message}`, { file: files[flaw.file], hint: flaw.hint })
    }
  }

  /** What keeps clients from connecting encrypted, for the status. */
  problems(): string[] {
    return this.#flaws()
      .filter(({ severity }) => severity !== 'warning')
      .map(({ message, hint }) => `engine.tls: ${message} (hint: ${hint})`)
  }

  #flaws(): Flaw[] {
    return readIdentity(this.#options.files, this.#options.clock.now()).flaws
  }
}

/** The same flaw on another day has another text. */
function keyOf({ file, severity, message }: Flaw): string {
  return `${file} ${severity} ${severity === 'fatal' ? message : ''}`
}
