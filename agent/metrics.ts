/**
 * /metrics: the status report in Prometheus' text format, version 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/).
 */

import type { StatusReport } from './status-report.ts'

export const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8'

type Labels = Record<string, string>

/** Collects samples by family, since the format wants a family's samples together. */
class Exposition {
  #families = new Map<string, { type: 'gauge' | 'counter'; help: string; samples: string[] }>()

  add(type: 'gauge' | 'counter', name: string, help: string, value: number | boolean | null | undefined, labels: Labels = {}): void {
    if (value === null || value === undefined) return
    let family = this.#families.get(name)
    if (family === undefined) {
      family = { type, help, samples: [] }
      this.#families.set(name, family)
    }
    const pairs = Object.entries(labels).map(([key, label]) => `${key}="${escapeLabel(label)}"`)
    family.samples.push(`${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${Number(value)}`)
  }

  text(): string {
    let text = ''
    for (const [name, { type, help, samples }] of this.#families)
      text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${samples.join('\n')}\n`
    return text
  }
}

/** The report as Prometheus text. A fact of a plugin that is a number or a boolean becomes `daemonguard_<plugin>_<fact>`. */
export function metricsOf(report: StatusReport): string {
  const out = new Exposition()
  const { agent, engine } = report
  out.add('gauge', 'daemonguard_info', 'Constant 1, labelled with what runs.', 1, { name: agent.name, version: agent.version })
  out.add('gauge', 'daemonguard_healthy', '1 when nothing is unhealthy.', report.healthy)
  out.add('gauge', 'daemonguard_agent_start_time_seconds', 'Start of the agent, Unix time.', agent.startedAt / 1000)
  out.add('gauge', 'daemonguard_engine_up', '1 when the engine answers.', engine.state === 'up')
  if (engine.status !== null) {
    const status = engine.status
    out.add('gauge', 'daemonguard_engine_start_time_seconds', 'Start of the engine, Unix time.', status.startedAt / 1000)
    out.add('gauge', 'daemonguard_engine_memory_bytes', 'Resident memory of the engine.', status.memoryBytes)
    out.add('gauge', 'daemonguard_engine_sessions', 'Client sessions.', status.sessions)
    out.add(
      'counter',
      'daemonguard_engine_blockers_ended_total',
      'Transactions ended because they stood in the way of a checkpoint, since the engine started.',
      status.blockersEnded,
    )
    out.add('gauge', 'daemonguard_engine_read_only', '1 while commits are refused.', status.readOnlyReason !== null)
    out.add('gauge', 'daemonguard_journal_durable_seq', 'Last seq that is durable in the journal.', status.durableSeq)
    out.add('gauge', 'daemonguard_journal_epoch', 'Journal epoch: rises when recovery had to cut or skip.', status.epoch)
    out.add('gauge', 'daemonguard_database_watermark_seq', 'Seq that the DuckDB file holds.', status.watermark)
    out.add('gauge', 'daemonguard_transactions_since_checkpoint', 'Transactions since the last checkpoint.', status.sinceCheckpoint)
  }
  for (const { consumer, confirmed, lag } of report.lag) {
    out.add('gauge', 'daemonguard_consumer_confirmed_seq', 'Last seq that the destination has confirmed.', confirmed, { consumer })
    out.add('gauge', 'daemonguard_consumer_lag_transactions', 'Transactions not confirmed yet.', lag, { consumer })
  }
  for (const plugin of report.plugins) {
    out.add('gauge', 'daemonguard_plugin_healthy', '1 when the plugin is healthy.', plugin.healthy, { plugin: plugin.name })
  }
  for (const plugin of report.plugins) {
    for (const [fact, value] of Object.entries(plugin.facts)) {
      if (typeof value === 'string') continue
      out.add('gauge', `daemonguard_${metricName(plugin.name)}_${metricName(fact)}`, `${fact} of ${plugin.name}.`, value)
    }
  }
  for (const job of report.jobs) {
    const labels = { job: job.name }
    out.add('counter', 'daemonguard_job_runs_total', 'Runs started.', job.runs, labels)
    out.add('counter', 'daemonguard_job_failures_total', 'Runs that failed or passed their deadline.', job.failures, labels)
    out.add('counter', 'daemonguard_job_overlaps_total', 'Ticks that found the run before still under way.', job.overlaps, labels)
    out.add('gauge', 'daemonguard_job_overdue', '1 while a run is past its deadline.', job.overdue, labels)
    if (job.lastDurationMs !== null)
      out.add('gauge', 'daemonguard_job_last_duration_seconds', 'Duration of the last run.', job.lastDurationMs / 1000, labels)
  }
  const open = report.incidents.filter((incident) => incident.closedAt === null)
  for (const severity of ['info', 'warning', 'critical']) {
    const count = open.filter((incident) => incident.severity === severity).length
    out.add('gauge', 'daemonguard_incidents_open', 'Incidents that are not closed.', count, { severity })
  }
  out.add('counter', 'daemonguard_alerts_raised_total', 'Alerts raised.', report.alerts.raised)
  out.add(
    'counter',
    'daemonguard_alerts_failed_total',
    'Alert deliveries that failed or were dropped.',
    report.alerts.failed + report.alerts.dropped,
  )
  return out.text()
}

function metricName(name: string): string {
  return name
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '_')
    .replace(/^_+|_+$/g, '')
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')
}
