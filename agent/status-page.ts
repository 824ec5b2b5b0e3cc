/** The status page for people: one HTML document without script, font or image from elsewhere. Reloads itself. */

import { allocatorLine, blockersLine, bytes, duration, moment, type StatusReport } from './status-report.ts'

const style = `
:root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; } .good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
footer { margin-top: 2rem; opacity: .7; } code { font: 13px ui-monospace, monospace; }`

/** The page. Every value is escaped. */
export function statusPage(report: StatusReport): string {
  const { agent, engine } = report
  const status = engine.status
  const verdict = report.healthy
    ? '<p class="good">Everything is well.</p>'
    : `<p class="bad">Not well:</p><ul>${report.problems.map((problem) => `<li>${text(problem)}</li>`).join('')}</ul>`
  const engineRows: [string, string][] = [
    ['state', `${engine.state} (${engine.supervision})`],
    ['pid', String(status?.pid ?? 'unknown')],
    ['up for', engine.uptimeMs === null ? 'unknown' : duration(engine.uptimeMs)],
    ['database', status?.databasePath ?? 'unknown'],
    [
      'clients connect to',
      [engine.listen && `${engine.listen.host}:${engine.listen.port}`, engine.socket].filter(Boolean).join(' or ') || 'unknown',
    ],
    ['journal seq', String(status?.durableSeq ?? 'unknown')],
    [
      'watermark',
      status === null
        ? 'unknown'
        : `${status.watermark}, ${status.sinceCheckpoint} transactions behind, checkpoint ${moment(status.lastCheckpointAt)}`,
    ],
    ['sessions', String(status?.sessions ?? 'unknown')],
    ['memory', status === null ? 'unknown' : `${bytes(status.memoryBytes)}, handed out by ${allocatorLine(status)}`],
    ['transactions ended for a checkpoint', status === null ? 'unknown' : blockersLine(status)],
    ['limits', status === null ? 'unknown' : `cpu: ${status.isolation.cpu}; memory: ${status.isolation.memory}`],
  ]
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5"><meta name="viewport" content="width=device-width">
<title>${report.healthy ? '' : '! '}DaemonGuard ${text(agent.name)}</title><style>${style}</style></head><body>
<h1>DaemonGuard on ${text(agent.name)}</h1>
${verdict}
<h2>Engine</h2>
${table(
  [],
  engineRows.map(([name, value]) => [`<th>${text(name)}</th>`, cell(value)]),
)}
<h2>Plugins</h2>
${table(
  ['plugin', 'state', 'summary', 'facts'],
  report.plugins.map((plugin) => [
    cell(plugin.name),
    `<td class="${plugin.healthy ? 'good' : 'bad'}">${text(plugin.state)}</td>`,
    cell(plugin.summary),
    cell(factsLine(plugin.facts)),
  ]),
)}
<h2>Delivery</h2>
${table(
  ['consumer', 'confirmed', 'durable', 'behind'],
  report.lag.map((lag) => [lag.consumer, lag.confirmed, lag.durable, lag.lag].map(cell)),
)}
<h2>Integrity</h2>
${table(
  [],
  [
    ['last scan', factsLine(report.lastScan) || 'never'],
    ['last snapshot', factsLine(report.lastSnapshot) || 'never'],
  ].map(([name, value]) => [`<th>${text(name)}</th>`, cell(value)]),
)}
<h2>Incidents</h2>
${table(
  ['opened', 'severity', 'what', 'state'],
  report.incidents.map((incident) => [
    cell(moment(incident.openedAt)),
    `<td class="${incident.severity === 'info' ? '' : 'bad'}">${text(incident.severity)}</td>`,
    `<td>${text(incident.message)}${incident.hint === null ? '' : `<br><code>${text(incident.hint)}</code>`}</td>`,
    cell(incident.closedAt === null ? 'open' : `closed ${moment(incident.closedAt)}`),
  ]),
)}
<footer>agent pid ${agent.pid}, version ${text(agent.version)}, up for ${duration(agent.uptimeMs)}, ${moment(report.time)}.
<a href="/api/status">/api/status</a> <a href="/metrics">/metrics</a></footer>
</body></html>
`
}

function table(head: string[], rows: string[][]): string {
  if (rows.length === 0) return '<p>None.</p>'
  const header = head.length === 0 ? '' : `<tr>${head.map((name) => `<th>${text(name)}</th>`).join('')}</tr>`
  return `<table>${header}${rows.map((row) => `<tr>${row.join('')}</tr>`).join('')}</table>`
}

function cell(value: unknown): string {
  return `<td>${text(value)}</td>`
}

function factsLine(facts: Record<string, unknown> | null): string {
  if (facts === null) return ''
  return Object.entries(facts)
    .map(([name, value]) => `${name} ${typeof value === 'object' && value !== null ? JSON.stringify(value) : value}`)
    .join(', ')
}

function text(value: unknown): string {
  return String(value).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
