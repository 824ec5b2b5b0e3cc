/** The journal as the agent hands it to consumers: how far it is durable, and what is said when a cursor or a part of the journal is bad. */

import fs from 'node:fs'
import type { Alerts } from './alerts.ts'
import type { Clock } from './clock.ts'
import { DurableSeq } from './durable.ts'
import { codeOf, messageOf } from './errors.ts'
import { openConsumer } from './journal/consumer.ts'
import type { Log } from './log.ts'
import type { Paths } from './paths.ts'
import type { IncidentLog } from './plugin.ts'

interface Services {
  readonly paths: Pick<Paths, 'journal' | 'cursors' | 'identityFile'>
  readonly clock: Clock
  readonly log: Log
  readonly incidents: IncidentLog
  readonly alerts: Alerts
}

export class Consumers {
  readonly durable = new DurableSeq()
  #services: Services

  constructor(services: Services) {
    this.#services = services
  }

  /** So that consumers need not wait for the engine to open their cursors. */
  expectDatabase(): void {
    const { paths, log } = this.#services
    try {
      const { databaseId } = JSON.parse(fs.readFileSync(paths.identityFile, 'utf8')) as { databaseId?: unknown }
      if (typeof databaseId === 'string') this.durable.expect(databaseId)
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') log.warn(`the identity of this data directory cannot be read: ${messageOf(error)}`)
    }
  }

  /** The consumer of that name. Throws while the database is not known. */
  open(name: string, log: Log) {
    const { paths, clock, incidents, alerts } = this.#services
    return openConsumer({
      name,
      journal: paths.journal,
      cursors: paths.cursors,
      source: this.durable,
      clock,
      onGap: ({ firstSeq, lastSeq, reason }) => {
        const message = `${name} cannot have seq ${firstSeq} to ${lastSeq} from the journal: ${reason}`
        log.error({ firstSeq, lastSeq }, message)
        incidents.open({
          severity: 'critical',
          cause: 'journal-gap',
          message,
          loss: { firstSeq, lastSeq, tables: [] },
          hint: 'daemonguard journal verify',
        })
        alerts.raise(name, message)
      },
      onBadCursor: (file, quarantined) => {
        const message = `the cursor of ${name} cannot be read: it begins at the journal's oldest seq`
        incidents.close(incidents.open({ severity: 'warning', cause: 'cursor-corrupt', message, evidence: { file, quarantined } }))
        alerts.raise(name, message, { file, quarantined })
      },
    })
  }
}
