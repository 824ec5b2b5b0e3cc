/**
 * One outage, one incident: opened when the engine is found dead, added to by every step, closed by the first successful probe with
 * the measured downtime (RTO) and loss (RPO). It survives the agent: the next one goes on with it.
 */

import type { Clock } from '../clock.ts'
import type { IncidentChanges, IncidentStore } from '../incidents.ts'
import type { Incident } from '../plugin.ts'
import { addLoss } from './losses.ts'

export class Outage {
  #incidents: IncidentStore
  #clock: Clock
  #incident: Incident | null
  /** Monotonic; null when the outage began before this agent, or nobody knows when. */
  #since: number | null = null
  /** Whether the beginning is known at all. */
  #measured: boolean

  /** `id`: an outage that an earlier agent left open. */
  constructor(incidents: IncidentStore, clock: Clock, id: string | null) {
    this.#incidents = incidents
    this.#clock = clock
    const left = id === null ? undefined : incidents.get(id)
    this.#incident = left !== undefined && left.closedAt === null ? left : null
    this.#measured = this.#incident?.evidence.foundDead !== true
  }

  get id(): string | null {
    return this.#incident?.id ?? null
  }

  get incident(): Incident | null {
    return this.#incident
  }

  /** Whether the open incident gives this hint. */
  isSaid(hint: string): boolean {
    return this.#incident?.hint === hint
  }

  /** Opens the incident, or adds to the open one. `foundDead`: the engine died while no agent watched. */
  open(fault: Pick<Incident, 'severity' | 'cause' | 'message'> & { evidence?: Record<string, unknown>; foundDead?: boolean }): void {
    const { foundDead = false, evidence = {}, ...rest } = fault
    if (this.#incident !== null) {
      this.#incidents.change(this.#incident, {
        actions: [fault.message],
        evidence,
        ...(fault.severity === 'critical' ? { severity: 'critical' } : {}),
      })
      return
    }
    this.#since = this.#clock.monotonic()
    this.#measured = !foundDead
    this.#incident = this.#incidents.open({ ...rest, evidence: foundDead ? { ...evidence, foundDead } : evidence })
  }

  /** Adds to the incident, if one is open. Losses add up. */
  note(action: string, changes: IncidentChanges = {}): void {
    if (this.#incident === null) return
    const loss = changes.loss === undefined ? {} : { loss: addLoss(this.#incident.loss, changes.loss) }
    this.#incidents.change(this.#incident, { ...changes, ...loss, actions: [action] })
  }

  /** The engine serves again: closes the incident. Returns it, or null when none was open. */
  end(action: string, changes: Pick<IncidentChanges, 'loss' | 'evidence'> = {}): Incident | null {
    const incident = this.#incident
    if (incident === null) return null
    this.#incident = null
    const passed = this.#since === null ? this.#clock.now() - incident.openedAt : this.#clock.monotonic() - this.#since
    this.#since = null
    this.#incidents.close(incident, {
      actions: [action],
      downtimeMs: this.#measured ? Math.max(0, Math.round(passed)) : null,
      loss: addLoss(incident.loss, changes.loss ?? 0),
      evidence: this.#measured ? changes.evidence : { ...changes.evidence, downtimeSinceFoundMs: Math.round(passed) },
    })
    return incident
  }
}
