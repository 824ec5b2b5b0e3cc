/**
 * The HTTP server on `agent.listen`: facts only, nothing acts. Loopback only, and only for requests that name a loopback
 * host, so that a web page elsewhere cannot read it through DNS rebinding.
 *   /healthz     200 while the agent runs
 *   /readyz      200 when the engine serves and nothing is unhealthy, else 503 with the problems
 *   /metrics     Prometheus text      /api/status   JSON      /   a page for people
 */

import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { DaemonGuardError, ExitCode, messageOf } from './errors.ts'
import type { Log } from './log.ts'
import { metricsContentType, metricsOf } from './metrics.ts'
import { statusPage } from './status-page.ts'
import { type StatusReport, toJson } from './status-report.ts'

export interface StatusServer {
  readonly host: string
  readonly port: number
  /** `http://host:port/` */
  readonly url: string
  /** Ends every connection. Safe twice. */
  stop(): Promise<void>
}

/** Serves `report` on `listen` (port 0: any free one). Rejects when the host is no loopback address or the port is taken. */
export async function serveStatus(options: {
  listen: { host: string; port: number }
  report(): Promise<StatusReport>
  log: Log
}): Promise<StatusServer> {
  const { listen, report, log } = options
  if (!isLoopback(listen.host)) {
    throw new DaemonGuardError(`the status page is served on loopback only, not on ${listen.host}`, {
      where: 'agent.listen',
      hint: 'agent: { listen: 127.0.0.1:7788 }',
      exitCode: ExitCode.config,
    })
  }
  const server = http.createServer({ requestTimeout: 10_000, headersTimeout: 5000 }, (request, response) => {
    answer(request, report)
      .catch((error) => {
        log.warn(`status request failed: ${messageOf(error)}`)
        return { status: 500, type: plain, body: 'the status could not be collected\n' }
      })
      .then(({ status, type, body }) => {
        response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body), ...headers })
        response.end(request.method === 'HEAD' ? undefined : body)
      })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        new DaemonGuardError(`the status page cannot be served: ${error.message}`, {
          where: `${listen.host}:${listen.port}`,
          hint: 'set agent.listen to a free port',
          cause: error,
        }),
      ),
    )
    server.listen(listen.port, listen.host, resolve)
  })
  server.on('error', (error) => log.warn(`status server: ${error.message}`))
  const { port } = server.address() as AddressInfo
  return {
    host: listen.host,
    port,
    url: `http://${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${port}/`,
    stop() {
      return new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
    },
  }
}

interface Answer {
  status: number
  type: string
  body: string
}

const plain = 'text/plain; charset=utf-8'
const headers = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}

async function answer(request: http.IncomingMessage, report: () => Promise<StatusReport>): Promise<Answer> {
  if (request.method !== 'GET' && request.method !== 'HEAD') return { status: 405, type: plain, body: 'read only: GET\n' }
  if (!isLoopback(hostOf(request.headers.host ?? ''))) return { status: 403, type: plain, body: 'ask for localhost\n' }
  const path = (request.url ?? '/').split('?')[0]
  switch (path) {
    case '/healthz':
      return { status: 200, type: plain, body: 'ok\n' }
    case '/readyz': {
      const { healthy, problems } = await report()
      return { status: healthy ? 200 : 503, type: plain, body: healthy ? 'ready\n' : `not ready\n${problems.join('\n')}\n` }
    }
    case '/metrics':
      return { status: 200, type: metricsContentType, body: metricsOf(await report()) }
    case '/api/status':
      return { status: 200, type: 'application/json; charset=utf-8', body: `${toJson(await report(), 2)}\n` }
    case '/':
      return { status: 200, type: 'text/html; charset=utf-8', body: statusPage(await report()) }
    default:
      return { status: 404, type: plain, body: '/  /healthz  /readyz  /metrics  /api/status\n' }
  }
}

/** The host part of a Host header, brackets of an IPv6 address removed. */
function hostOf(header: string): string {
  return header.startsWith('[') ? header.slice(1, header.indexOf(']')) : header.replace(/:\d+$/, '')
}

function isLoopback(host: string): boolean {
  return host.toLowerCase() === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)
}
