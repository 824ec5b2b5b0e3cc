/** Gathers the status report. Nothing here may wait for long or fail: a part that does not answer is reported as just that. */

import type { Agent } from './agent.ts'
import { systemClock } from './clock.ts'
import { scanner } from './integrity.ts'
import type { EngineStatus, Incident } from './plugin.ts'
import { version } from './runtime.ts'
import { listSnapshots } from './snapshots.ts'
import { type EngineReport, moment, type PluginReport, type StatusReport } from './status-report.ts'

const engineAnswerMs = 2000
const shownIncidents = 20

/** `pageProblem`: why the status page is not served, or null. */
export async function collectStatus(agent: Agent, pageProblem: string | null): Promise<StatusReport> {
  const { config, paths, clock, startedAt } = agent
  const engine = await engineReport(agent)
  const plugins = agent.plugins.reports()
  const incidents = openFirst(agent.incidents.list(500)).slice(0, shownIncidents)
  const problems = problemsOf(agent, engine, plugins, incidents)
  problems.push(...(agent.certificate?.problems() ?? []))
  if (pageProblem !== null) problems.push(pageProblem)
  const time = clock.now()
  return {
    healthy: problems.length === 0,
    problems,
    time,
    agent: {
      name: config.agent.name,
      pid: process.pid,
      version,
      startedAt,
      uptimeMs: time - startedAt,
      dataDir: paths.data,
      statusPage: agent.statusPage,
    },
    engine,
    plugins,
    lag: agent.plugins.lags(),
    lastScan: lastScan(plugins),
    lastSnapshot: lastSnapshot(paths.snapshots, engine.status?.databaseId),
    incidents,
    jobs: agent.scheduler.facts(),
    alerts: agent.alerts.facts,
  }
}

async function engineReport({ supervisor, clock }: Agent): Promise<EngineReport> {
  const connection = supervisor.current
  const { state, adopted } = supervisor.status()
  const supervision = state === 'up' ? (adopted ? 'adopted' : 'started') : state
  if (connection === null) return { state: 'down', supervision, status: null, uptimeMs: null, listen: null, socket: null, recovery: null }
  const { hello } = connection
  const status = await answerOf(connection.status(AbortSignal.timeout(engineAnswerMs)))
  const died = supervisor.current !== connection
  return {
    state: died ? 'down' : status === null ? 'silent' : 'up',
    supervision: died ? supervisor.status().state : supervision,
    status,
    uptimeMs: clock.now() - (status?.startedAt ?? hello.startedAt),
    listen: hello.listen,
    socket: hello.socket,
    recovery: hello.recovery,
  }
}

/** Null when it does not come: within the signal's time, or never because of a fault. */
function answerOf(answer: Promise<EngineStatus>): Promise<EngineStatus | null> {
  const late = systemClock.sleep(engineAnswerMs + 500).then(() => null)
  return Promise.race([answer.catch(() => null), late])
}

function problemsOf(
  { supervisor }: Agent,
  engine: EngineReport,
  plugins: readonly PluginReport[],
  incidents: readonly Incident[],
): string[] {
  const problems: string[] = []
  const { state, problem, hint, flapping } = supervisor.status()
  if (engine.state === 'down')
    problems.push(`engine: ${state}${problem === null ? '' : `: ${problem}`}${hint === null ? '' : ` (hint: ${hint})`}`)
  if (engine.state === 'silent') problems.push('engine: it is connected, but does not answer')
  if (flapping) problems.push('engine: it keeps dying and is restarted with growing pauses')
  if (engine.status !== null && engine.status.readOnlyReason !== null) problems.push(`engine: read only: ${engine.status.readOnlyReason}`)
  for (const plugin of plugins) if (!plugin.healthy) problems.push(`${plugin.name}: ${plugin.summary}`)
  for (const incident of incidents) {
    if (incident.closedAt !== null || incident.severity === 'info') continue
    problems.push(
      `incident since ${moment(incident.openedAt)}: ${incident.message}${incident.hint === null ? '' : ` (hint: ${incident.hint})`}`,
    )
  }
  return problems
}

function openFirst(incidents: readonly Incident[]): Incident[] {
  return [...incidents.filter(({ closedAt }) => closedAt === null), ...incidents.filter(({ closedAt }) => closedAt !== null)]
}

/** What the integrity scanner tells about its scans; null when it does not run or has not scanned. */
function lastScan(plugins: readonly PluginReport[]): Record<string, unknown> | null {
  const facts = plugins.find(({ name }) => name === scanner)?.facts
  if (facts === undefined || typeof facts.last_scan_age_seconds !== 'number') return null
  const { last_verdict, last_scan_age_seconds, live_blocks, scan_duration_ms } = facts
  return { verdict: last_verdict, ageSeconds: last_scan_age_seconds, liveBlocks: live_blocks, durationMs: scan_duration_ms }
}

function lastSnapshot(directory: string, databaseId: string | undefined): Record<string, unknown> | null {
  const newest = listSnapshots(directory, databaseId).find(({ usable }) => usable)
  return newest === undefined ? null : { seq: newest.seq, createdAt: moment(newest.createdAt), file: newest.file }
}
