/**
 * The incident log: one JSON file per incident in data_dir/incidents/, written atomically at each change, so that it survives the
 * agent and can be read by any command. Newest first by name. A full disk must never hold up a recovery: what cannot be
 * written is kept in memory, reported once, and written when another one, or the list of them, finds space again.
 */

import fs from 'node:fs'
import path from 'node:path'
import type { Clock } from './clock.ts'
import { ensureDirectory, writeOnFullDisk } from './disk.ts'
import { codeOf, DaemonGuardError, messageOf } from './errors.ts'
import type { Log } from './log.ts'
import type { Incident, IncidentLog } from './plugin.ts'

const formatVersion = 1

/** What may change after an incident was opened. `actions` are added, `evidence` is merged, the rest is replaced. */
export type IncidentChanges = Partial<
  Pick<Incident, 'actions' | 'loss' | 'downtimeMs' | 'evidence' | 'message' | 'severity' | 'cause' | 'hint'>
>

/** `20261123T084537.123Z`: sorts by time and fits into file names on every system. */
export function timeStamp(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replaceAll(/[-:]/g, '')
}

/** Lower case letters, digits and dashes only. */
export function causeName(cause: string): string {
  return (
    cause
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, '-')
      .replaceAll(/^-|-$/g, '') || 'unknown'
  )
}

export class IncidentStore implements IncidentLog {
  #directory: string
  #clock: Clock
  #log: Log
  /** Incidents whose last change is not on disk. */
  #unwritten = new Map<string, Incident>()
  /** What was opened here and is still open: whoever opened it may change it yet, so it is there once only. */
  #open = new Map<string, Incident>()
  #listeners: ((incident: Incident) => void)[] = []

  constructor(options: { directory: string; clock: Clock; log: Log }) {
    this.#directory = options.directory
    this.#clock = options.clock
    this.#log = options.log
  }

  /** Told of each incident when it is opened and when it is closed. It must not throw. */
  onIncident(listener: (incident: Incident) => void): void {
    this.#listeners.push(listener)
  }

  open(incident: Parameters<IncidentLog['open']>[0]): Incident {
    const openedAt = this.#clock.now()
    const opened: Incident = {
      id: this.#freeId(`${timeStamp(openedAt)}-${causeName(incident.cause)}`),
      openedAt,
      closedAt: null,
      severity: incident.severity,
      cause: incident.cause,
      message: incident.message,
      actions: [...(incident.actions ?? [])],
      loss: incident.loss ?? 0,
      downtimeMs: null,
      evidence: { ...incident.evidence },
      hint: incident.hint ?? null,
    }
    this.#open.set(opened.id, opened)
    this.#write(opened)
    const level = opened.severity === 'info' ? 'info' : 'warn'
    this.#log[level]({ incident: opened.id, cause: opened.cause }, `incident: ${opened.message}`)
    for (const listener of this.#listeners) listener(opened)
    return opened
  }

  /** Adds to an incident, open or closed. */
  change(incident: Incident, changes: IncidentChanges): void {
    const { actions = [], evidence = {}, ...replaced } = changes
    Object.assign(incident, replaced)
    incident.actions = [...incident.actions, ...actions]
    incident.evidence = { ...incident.evidence, ...evidence }
    this.#write(incident)
  }

  close(incident: Incident, end: IncidentChanges = {}): void {
    incident.closedAt ??= this.#clock.now()
    this.#open.delete(incident.id)
    this.change(incident, end)
    this.#log.info({ incident: incident.id, loss: incident.loss, downtimeMs: incident.downtimeMs }, `incident closed: ${incident.message}`)
    for (const listener of this.#listeners) listener(incident)
  }

  /**
   * For an agent that starts: closes what an earlier one left open, for nobody would ever close it. What is still wrong is reported anew. One
   * that names a loss stays open, and so does `going`, the outage that this agent goes on with.
   */
  closeLeft(going: string | null): void {
    for (const id of this.#ids()) {
      const incident = this.#read(id)
      if (incident === undefined || incident.closedAt !== null || incident.loss !== 0 || id === going) continue
      this.close(incident, { actions: ['closed at the start of another agent: what is still wrong is reported anew'] })
    }
  }

  /** One incident, or undefined when there is none of this id or its file cannot be read. */
  get(id: string): Incident | undefined {
    return this.#open.get(id) ?? this.#unwritten.get(id) ?? this.#read(id)
  }

  /**
   * An operator has seen to what is lost, or lives with it: closes an incident that names a loss, which nothing else would. Throws for one that is
   * not there, is closed, or lost nothing: that one closes by itself when its cause is gone.
   */
  settle(id: string, reason: string): Incident {
    const incident = /^[\w.-]+$/.test(id) ? this.get(id) : undefined
    const hint = 'daemonguard status'
    if (incident === undefined) throw new DaemonGuardError(`there is no incident ${id}`, { hint })
    if (incident.closedAt !== null)
      throw new DaemonGuardError(`the incident ${id} was closed at ${new Date(incident.closedAt).toISOString()}`, { hint })
    if (incident.loss === 0)
      throw new DaemonGuardError(`the incident ${id} names no loss: it closes by itself when its cause is gone`, {
        hint: incident.hint ?? hint,
      })
    this.close(incident, { actions: [`closed by an operator: ${reason}`] })
    return incident
  }

  /** Newest first, at most `limit`. An unreadable file is skipped and logged: it hides no other. */
  list(limit = 100): Incident[] {
    this.#writeRest()
    const ids = new Set([...this.#ids(), ...this.#unwritten.keys()])
    const incidents: Incident[] = []
    for (const id of [...ids].sort().reverse()) {
      if (incidents.length >= limit) break
      const incident = this.get(id)
      if (incident !== undefined) incidents.push(incident)
    }
    return incidents
  }

  #ids(): string[] {
    try {
      return fs.readdirSync(this.#directory).flatMap((name) => (name.endsWith('.json') ? [name.slice(0, -'.json'.length)] : []))
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') this.#log.warn(`the incidents cannot be listed: ${messageOf(error)}`)
      return []
    }
  }

  #read(id: string): Incident | undefined {
    try {
      const { version, ...incident } = JSON.parse(fs.readFileSync(this.#file(id), 'utf8')) as Incident & { version: number }
      if (version !== formatVersion) throw new Error(`it has format ${version}, this program knows ${formatVersion}`)
      return incident
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') this.#log.warn({ file: this.#file(id) }, `an incident cannot be read: ${messageOf(error)}`)
      return undefined
    }
  }

  #write(incident: Incident): void {
    if (this.#isWritten(incident)) this.#writeRest()
  }

  #writeRest(): void {
    for (const incident of this.#unwritten.values()) if (!this.#isWritten(incident)) return
  }

  #isWritten(incident: Incident): boolean {
    try {
      ensureDirectory(this.#directory, 'INCIDENT:SAVE')
      const text = `${JSON.stringify({ version: formatVersion, ...incident }, plainNumbers, 2)}\n`
      writeOnFullDisk(this.#file(incident.id), text, 'INCIDENT:SAVE')
      this.#unwritten.delete(incident.id)
      return true
    } catch (error) {
      if (!this.#unwritten.has(incident.id))
        this.#log.error({ incident: incident.id }, `an incident is kept in memory only: ${messageOf(error)}`)
      this.#unwritten.set(incident.id, incident)
      return false
    }
  }

  #freeId(wanted: string): string {
    let id = wanted
    for (let n = 2; this.#unwritten.has(id) || fs.existsSync(this.#file(id)); n++) id = `${wanted}-${n}`
    return id
  }

  #file(id: string): string {
    return path.join(this.#directory, `${id}.json`)
  }
}

/** Evidence may hold bigints, which JSON lacks. */
function plainNumbers(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}
