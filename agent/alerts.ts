/**
 * Alerts to the operator: always the log, then every target of `agent.alerts` (a webhook gets a JSON POST, a command gets the
 * JSON on stdin). Delivery is tried a few times in the background; a target that fails is counted and logged, and disturbs nothing.
 * A webhook's URL often holds its token: only its origin ever appears in the log.
 */

import { spawn } from 'node:child_process'
import type { Clock } from './clock.ts'
import { messageOf } from './errors.ts'
import type { Log } from './log.ts'

export type AlertTarget = { webhook: string } | { exec: string[] }

export interface Alert {
  /** agent.name */
  host: string
  /** ISO 8601, UTC. */
  time: string
  /** The plugin that raised it, or `agent`. */
  source: string
  message: string
  details: Record<string, unknown>
}

export interface AlertFacts {
  raised: number
  delivered: number
  failed: number
  /** Not even tried, because too many were waiting. */
  dropped: number
}

/** Alerts that may wait for one target; a storm beyond it is dropped for that target, counted and logged. */
const queueLimit = 100

export class Alerts {
  readonly facts: AlertFacts = { raised: 0, delivered: 0, failed: 0, dropped: 0 }
  #host: string
  #log: Log
  #clock: Clock
  #queues: Queue[]
  #listeners: ((alert: Alert) => void)[] = []

  /** `timeoutMs` bounds one attempt (default 5 s); `pauses` are the waits before each further attempt (default 1 s, 5 s). */
  constructor(options: { targets: readonly AlertTarget[]; host: string; log: Log; clock: Clock; timeoutMs?: number; pauses?: number[] }) {
    this.#host = options.host
    this.#log = options.log
    this.#clock = options.clock
    const delivery = { timeoutMs: options.timeoutMs ?? 5000, pauses: options.pauses ?? [1000, 5000] }
    this.#queues = options.targets.map((target) => new Queue(target, this.facts, options.log, options.clock, delivery))
  }

  /** Told of each alert, at once. It must not throw. */
  onAlert(listener: (alert: Alert) => void): void {
    this.#listeners.push(listener)
  }

  /** Never throws and never waits. */
  raise(source: string, message: string, details: Record<string, unknown> = {}): void {
    this.facts.raised += 1
    this.#log.error({ alert: true, source, details }, message)
    const alert: Alert = { host: this.#host, time: new Date(this.#clock.now()).toISOString(), source, message, details }
    for (const listener of this.#listeners) listener(alert)
    try {
      const body = JSON.stringify(alert, (_key, value) => (typeof value === 'bigint' ? value.toString() : value))
      for (const queue of this.#queues) queue.add(body)
    } catch (error) {
      this.facts.failed += 1
      this.#log.error(`an alert could not be written as JSON: ${messageOf(error)}`)
    }
  }

  /** Gives what is waiting at most `graceMs`, then ends. Safe twice. */
  async stop(graceMs = 2000): Promise<void> {
    await Promise.all(this.#queues.map((queue) => queue.stop(graceMs)))
  }
}

/** One target: deliveries one after the other, in order. */
class Queue {
  #target: AlertTarget
  #facts: AlertFacts
  #log: Log
  #clock: Clock
  #delivery: { timeoutMs: number; pauses: number[] }
  #waiting: string[] = []
  #working: Promise<void> | undefined
  #ended = new AbortController()

  constructor(target: AlertTarget, facts: AlertFacts, log: Log, clock: Clock, delivery: { timeoutMs: number; pauses: number[] }) {
    this.#target = target
    this.#facts = facts
    this.#log = log
    this.#clock = clock
    this.#delivery = delivery
  }

  add(body: string): void {
    if (this.#waiting.length >= queueLimit || this.#ended.signal.aborted) {
      this.#facts.dropped += 1
      this.#log.warn({ target: nameOf(this.#target) }, 'an alert was dropped: too many are waiting for this target')
      return
    }
    this.#waiting.push(body)
    this.#working ??= this.#work().finally(() => {
      this.#working = undefined
    })
  }

  async stop(graceMs: number): Promise<void> {
    const idle = new AbortController()
    const work = (this.#working ?? Promise.resolve()).finally(() => idle.abort())
    await Promise.race([work, this.#clock.sleep(graceMs, idle.signal)])
    idle.abort()
    this.#ended.abort()
    await this.#working
  }

  async #work(): Promise<void> {
    while (this.#waiting.length > 0) {
      const body = this.#waiting.shift() as string
      if (this.#ended.signal.aborted) this.#facts.dropped += 1
      else await this.#deliver(body)
    }
  }

  async #deliver(body: string): Promise<void> {
    const target = nameOf(this.#target)
    for (let attempt = 0; ; attempt++) {
      try {
        const signal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(this.#delivery.timeoutMs)])
        if ('webhook' in this.#target) await post(this.#target.webhook, body, signal)
        else await run(this.#target.exec, body, signal)
        this.#facts.delivered += 1
        return
      } catch (error) {
        const pause = error instanceof Refused ? undefined : this.#delivery.pauses[attempt]
        if (pause === undefined || this.#ended.signal.aborted) {
          this.#facts.failed += 1
          this.#log.warn({ target, attempts: attempt + 1 }, `an alert was not delivered: ${reasonOf(error)}`)
          return
        }
        await this.#clock.sleep(pause, this.#ended.signal)
      }
    }
  }
}

/** The receiver said no in a way that a repetition won't change. */
class Refused extends Error {}

async function post(url: string, body: string, signal: AbortSignal): Promise<void> {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body, signal, redirect: 'manual' })
  await response.body?.cancel()
  if (response.ok) return
  const message = `HTTP status ${response.status}`
  const worthRetrying = response.status >= 500 || response.status === 429 || response.status === 408
  throw worthRetrying ? new Error(message) : new Refused(message)
}

function run(command: string[], body: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const [file = '', ...args] = command
    const child = spawn(file, args, { stdio: ['pipe', 'ignore', 'ignore'], signal, killSignal: 'SIGKILL' })
    child.on('error', (error) => reject(signal.aborted ? signal.reason : error))
    child.on('exit', (code, killed) =>
      code === 0 ? resolve() : reject(new Error(killed === null ? `exit code ${code}` : `ended by ${killed}`)),
    )
    // A command that reads nothing closes the pipe early; that is its right.
    child.stdin.on('error', () => {})
    child.stdin.end(`${body}\n`)
  })
}

function nameOf(target: AlertTarget): string {
  return 'webhook' in target ? (URL.parse(target.webhook)?.origin ?? 'webhook') : (target.exec[0] ?? 'exec')
}

/** fetch says only "fetch failed" and keeps the reason in its cause. */
function reasonOf(error: unknown): string {
  const cause = (error as { cause?: unknown }).cause
  return cause === undefined ? messageOf(error) : messageOf(cause)
}
