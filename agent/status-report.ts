/**
 * What the agent tells about itself and everything it guards: one JSON document, the same for `daemonguard status --json`,
 * /api/status, /metrics and the status page. Nothing secret may enter it. "Unknown" is never "healthy".
 */

import type { AlertFacts } from './alerts.ts'
import type { RecoveryReport } from './control-protocol.ts'
import type { EngineStatus, Incident } from './plugin.ts'
import type { JobFacts } from './scheduler.ts'

export interface EngineReport {
  /** `up`: answers on its control socket; `silent`: connected, but its status did not come in time; `down`: nobody serves. */
  state: 'up' | 'silent' | 'down'
  /** What the supervisor is doing about it (`adopted`, `started`, `restarting`, `gave up`, …). */
  supervision: string
  /** The last known facts; null when there are none. */
  status: EngineStatus | null
  uptimeMs: number | null
  listen: { host: string; port: number } | null
  socket: string | null
  recovery: RecoveryReport | null
}

export interface PluginReport {
  name: string
  /** `failed`: its start failed and is being retried. */
  state: 'starting' | 'running' | 'failed' | 'stopped'
  healthy: boolean
  summary: string
  facts: Record<string, string | number | boolean | null>
}

/** How far a consumer is behind the journal, in transactions. */
export interface LagReport {
  consumer: string
  confirmed: number
  durable: number
  lag: number
}

export interface StatusReport {
  healthy: boolean
  /** One line for each thing that is not well; empty when healthy. */
  problems: string[]
  /** Milliseconds since the Unix epoch. */
  time: number
  agent: { name: string; pid: number; version: string; startedAt: number; uptimeMs: number; dataDir: string; statusPage: string | null }
  engine: EngineReport
  plugins: PluginReport[]
  lag: LagReport[]
  lastScan: Record<string, unknown> | null
  lastSnapshot: Record<string, unknown> | null
  /** Open ones first, then the newest. */
  incidents: Incident[]
  jobs: JobFacts[]
  alerts: AlertFacts
}

/** Transactions that stood in the way of a checkpoint and were ended, in a line. */
export function blockersLine({ blockersEnded, lastBlockerEnded: last }: EngineStatus): string {
  if (last === null) return 'none'
  const application = last.application === '' ? '' : `${last.application}, `
  return `${blockersEnded} ended, the last ${moment(last.at)}: user ${last.user} (${application}pid ${last.pid}) with ${last.code}, ${last.why}`
}

/** Who hands out the engine's memory, and what would be quicker at it; why it is not there the agent cannot know. An adopted engine of an older version does not tell. */
export function allocatorLine({ allocator }: Partial<EngineStatus>): string {
  if (allocator) return allocator
  return process.platform === 'linux' ? 'the C library or another; jemalloc is quicker (README, Quick start on a host)' : 'the system'
}

/** JSON of facts: bigints as strings. */
export function toJson(value: unknown, space?: number): string {
  return JSON.stringify(value, (_key, inner) => (typeof inner === 'bigint' ? inner.toString() : inner), space)
}

/** `1d 2h`, `3m 4s`, `250 ms`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  const parts: string[] = []
  let seconds = Math.floor(ms / 1000)
  for (const [unit, size] of [
    ['d', 86400],
    ['h', 3600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(seconds / size)
    seconds -= count * size
    if (count > 0) parts.push(`${count}${unit}`)
  }
  return parts.slice(0, 2).join(' ')
}

/** `1.5 GB`, in powers of 1024 as DuckDB's own sizes are not, but memory tools' are. */
export function bytes(count: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB']
  let value = count
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

/** `2026-11-23 08:45:10Z`, or `never`. */
export function moment(ms: number | null | undefined): string {
  return ms === null || ms === undefined
    ? 'never'
    : new Date(ms)
        .toISOString()
        .replace('T', ' ')
        .replace(/\.\d+Z$/, 'Z')
}
