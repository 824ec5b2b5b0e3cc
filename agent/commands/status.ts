/** `status`: what the agent tells. Without an agent nothing is known to be well, even if an engine serves: exit code 3. */

import { askAgent, NoAgent } from '../agent-control.ts'
import { EngineClient } from '../engine-client.ts'
import { ExitCode } from '../errors.ts'
import type { Incident } from '../plugin.ts'
import { allocatorLine, blockersLine, bytes, duration, moment, type StatusReport } from '../status-report.ts'
import { type Call, type Command, jsonOption, print, UsageError } from './command.ts'
import { locate } from './configuration.ts'

const command: Command = {
  usage: 'status [--close INCIDENT --reason TEXT] [--json] [-c FILE]',
  help: [
    'Engine, plugins, lag, last scan, last snapshot and incidents, as the running agent sees them.',
    '--close INCIDENT  closes an incident that names a loss and so stays open: by its name, as `status` prints it. The reason is kept with it.',
    'Exit codes: 0 all is well; 1 something is unhealthy; 3 no agent runs, so nobody knows.',
  ],
  options: { ...jsonOption, close: { type: 'string' }, reason: { type: 'string' } },
  async run(call) {
    const { close: id, reason } = call.values
    if ((id === undefined) !== (reason === undefined))
      throw new UsageError('--close and --reason go together', 'daemonguard status --close INCIDENT --reason "reconciled with the broker"')
    const { paths } = await locate(call)
    if (id !== undefined) {
      const incident = await askAgent<Incident>(paths.agentSocket, 'close', { id, reason })
      print(call, incident, [`closed: ${incident.message}`])
      return ExitCode.ok
    }
    try {
      const report = await askAgent<StatusReport>(paths.agentSocket, 'status', {}, { timeoutMs: 10_000 })
      print(call, report, describe(report))
      return report.healthy ? ExitCode.ok : ExitCode.failed
    } catch (error) {
      if (!(error instanceof NoAgent)) throw error
      return await withoutAgent(call, paths.controlSocket, error)
    }
  },
}
export default command

async function withoutAgent(call: Call, controlSocket: string, error: NoAgent): Promise<number> {
  const client = await EngineClient.connect(controlSocket).catch(() => undefined)
  const engine = client?.hello ?? null
  client?.close()
  print(call, { healthy: null, problems: [error.message], agent: null, engine, hint: error.hint }, [
    `agent    none runs on this data directory (${error.where})`,
    `engine   ${engine === null ? 'none answers' : `pid ${engine.pid} serves ${engine.databasePath} on ${engine.listen.host}:${engine.listen.port}, unguarded`}`,
    `hint     ${error.hint}`,
  ])
  return ExitCode.unknown
}

/** Lines for a terminal. */
export function describe(report: StatusReport): string[] {
  const { agent, engine } = report
  const { status } = engine
  const lines = [
    report.healthy ? 'all is well' : 'NOT WELL',
    ...report.problems.map((problem) => `  ${problem}`),
    `agent    ${agent.name}, pid ${agent.pid}, version ${agent.version}, up for ${duration(agent.uptimeMs)}${agent.statusPage === null ? '' : `, ${agent.statusPage}`}`,
    `engine   ${engine.state} (${engine.supervision})${status === null ? '' : `, pid ${status.pid}, up for ${duration(engine.uptimeMs ?? 0)}, ${status.sessions} sessions, ${bytes(status.memoryBytes)}`}`,
  ]
  if (status !== null) {
    lines.push(`         ${status.databasePath}`)
    lines.push(`limits   cpu: ${status.isolation.cpu}; memory: ${status.isolation.memory}`)
    lines.push(`memory   handed out by ${allocatorLine(status)}`)
    if (status.lastBlockerEnded !== null) lines.push(`blockers ${blockersLine(status)}`)
    lines.push(
      `journal  seq ${status.durableSeq}, watermark ${status.watermark}, ${status.sinceCheckpoint} transactions since the last checkpoint (${moment(status.lastCheckpointAt)})`,
    )
  }
  for (const plugin of report.plugins) lines.push(`plugin   ${plugin.healthy ? 'ok ' : 'NOT OK '}${plugin.name}: ${plugin.summary}`)
  for (const lag of report.lag)
    lines.push(`lag      ${lag.consumer}: ${lag.lag} transactions behind (confirmed ${lag.confirmed} of ${lag.durable})`)
  lines.push(`scan     ${facts(report.lastScan)}`, `snapshot ${facts(report.lastSnapshot)}`)
  const open = report.incidents.filter((incident) => incident.closedAt === null)
  const last = report.incidents.find((incident) => incident.closedAt !== null)
  for (const incident of open) {
    lines.push(`incident OPEN since ${moment(incident.openedAt)}: ${incident.message}`)
    if (incident.hint !== null) lines.push(`         hint: ${incident.hint}`)
    // It waits for somebody who knows what the loss means.
    if (incident.loss !== 0) lines.push(`         once settled: daemonguard status --close ${incident.id} --reason …`)
  }
  if (last !== undefined) lines.push(`incident closed ${moment(last.closedAt)}: ${last.message}`)
  if (report.incidents.length === 0) lines.push('incident none')
  return lines
}

function facts(record: Record<string, unknown> | null): string {
  if (record === null) return 'never'
  return Object.entries(record)
    .map(([name, value]) => `${name} ${typeof value === 'object' && value !== null ? JSON.stringify(value) : value}`)
    .join(', ')
}
