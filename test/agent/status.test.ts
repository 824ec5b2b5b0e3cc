import http from 'node:http'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { describe } from '../../agent/commands/status.ts'
import type { DaemonGuardError } from '../../agent/errors.ts'
import { silentLog } from '../../agent/log.ts'
import { metricsOf } from '../../agent/metrics.ts'
import { type StatusServer, serveStatus } from '../../agent/status.ts'
import { bytes, duration, type StatusReport } from '../../agent/status-report.ts'

const test = suite('status')
let server: StatusServer
let report: StatusReport

test.before.each(async () => {
  report = {
    healthy: true,
    problems: [],
    time: 1_800_000_000_000,
    agent: {
      name: 'host-1',
      pid: 1,
      version: '1.2.3',
      startedAt: 1_799_999_000_000,
      uptimeMs: 1_000_000,
      dataDir: '/data',
      statusPage: null,
    },
    engine: {
      state: 'up',
      supervision: 'adopted',
      status: {
        pid: 7,
        startedAt: 1_799_999_000_000,
        databaseId: 'id',
        databasePath: '/data/x.duckdb',
        durableSeq: 42,
        watermark: 40,
        epoch: 1,
        sessions: 3,
        sinceCheckpoint: 2,
        lastCheckpointAt: null,
        checkpointEvery: null,
        readOnlyReason: null,
        memoryBytes: 1024,
        allocator: 'jemalloc 5.3.0',
        blockersEnded: 2,
        lastBlockerEnded: { at: 1_800_000_000_000, user: 'ada', application: 'psql', pid: 4711, code: '25P03', why: 'memory is short' },
        isolation: { cpu: 'pinned to cores 2, 3', memory: "DuckDB's own limit (no cgroup v2 was delegated)" },
      },
      uptimeMs: 1_000_000,
      listen: { host: '127.0.0.1', port: 5433 },
      socket: null,
      recovery: null,
    },
    plugins: [
      {
        name: 'redis-mirror',
        state: 'running',
        healthy: true,
        summary: 'caught up',
        facts: { lastBatchRows: 12, connected: true, server: 'redis "7"' },
      },
    ],
    lag: [{ consumer: 'redis-mirror', confirmed: 40, durable: 42, lag: 2 }],
    lastScan: null,
    lastSnapshot: null,
    incidents: [],
    jobs: [],
    alerts: { raised: 0, delivered: 0, failed: 0, dropped: 0 },
  }
  server = await serveStatus({ listen: { host: '127.0.0.1', port: 0 }, report: async () => report, log: silentLog })
})
test.after.each(() => server.stop())

const get = (path: string, init?: RequestInit) => fetch(new URL(path, server.url), init)

test('/healthz says that the agent lives, whatever the rest is like', async () => {
  report.healthy = false
  assert.is((await get('/healthz')).status, 200)
})

test('/readyz is 200 when all is well, else 503 with what is not', async () => {
  assert.is((await get('/readyz')).status, 200)
  report.healthy = false
  report.problems = ['engine: down']
  const response = await get('/readyz')
  assert.is(response.status, 503)
  assert.match(await response.text(), 'engine: down')
})

test('/api/status is the report as JSON', async () => {
  const response = await get('/api/status')
  assert.match(response.headers.get('content-type') ?? '', 'application/json')
  assert.equal(await response.json(), JSON.parse(JSON.stringify(report)))
})

test('/metrics is well-formed Prometheus text', async () => {
  report.agent.name = 'quote " backslash \\ line\n'
  const response = await get('/metrics')
  assert.match(response.headers.get('content-type') ?? '', 'version=0.0.4')
  const text = await response.text()
  const families = new Set<string>()
  for (const line of text.trimEnd().split('\n')) {
    const type = /^# TYPE ([a-z_]+) (gauge|counter)$/.exec(line)
    if (type !== null) {
      assert.not(families.has(type[1] as string), `family twice: ${type[1]}`)
      families.add(type[1] as string)
    } else if (!line.startsWith('# HELP ')) {
      assert.match(line, /^[a-z_]+(\{[a-z_]+="(?:[^"\\]|\\["\\n])*"(,[a-z_]+="(?:[^"\\]|\\["\\n])*")*\})? -?\d+(\.\d+)?$/)
    }
  }
  assert.match(text, 'daemonguard_journal_durable_seq 42\n')
  assert.match(text, 'daemonguard_consumer_lag_transactions{consumer="redis-mirror"} 2\n')
  assert.match(text, 'daemonguard_redis_mirror_last_batch_rows 12\n')
  assert.match(text, 'daemonguard_redis_mirror_connected 1\n')
  assert.match(text, 'daemonguard_engine_blockers_ended_total 2\n')
  assert.match(text, 'daemonguard_incidents_open{severity="critical"} 0\n')
})

test('metrics of an engine that is down have no stale numbers', () => {
  report.engine = { state: 'down', supervision: 'gave up', status: null, uptimeMs: null, listen: null, socket: null, recovery: null }
  const text = metricsOf(report)
  assert.match(text, 'daemonguard_engine_up 0\n')
  assert.not.match(text, 'daemonguard_journal_durable_seq')
})

test('the page is self-contained and escapes what it shows', async () => {
  report.healthy = false
  report.problems = ['<script>alert(1)</script>']
  const response = await get('/')
  const html = await response.text()
  assert.match(response.headers.get('content-security-policy') ?? '', "default-src 'none'")
  assert.match(html, '&lt;script&gt;alert(1)&lt;/script&gt;')
  assert.not.match(html, '<script')
  assert.not.match(html, /(src|href)="(https?:)?\/\//)
  assert.match(html, 'redis-mirror')
})

test('who was ended for standing in the way of a checkpoint is told on the page and on the terminal', async () => {
  const line = /2 ended, the last 2027-01-15 08:00:00Z: user ada \(psql, pid 4711\) with 25P03, memory is short/
  assert.match(await (await get('/')).text(), line)
  assert.ok(describe(report).some((text) => text.startsWith('blockers ') && line.test(text)))
  Object.assign(report.engine.status as object, { blockersEnded: 0, lastBlockerEnded: null })
  assert.not(describe(report).some((text) => text.startsWith('blockers ')))
})

test("who hands out the engine's memory is told on the page and on the terminal", async () => {
  assert.match(await (await get('/')).text(), /handed out by jemalloc 5\.3\.0/)
  const lines = () => describe(report).filter((text) => text.startsWith('memory '))
  assert.equal(lines(), ['memory   handed out by jemalloc 5.3.0'])
  // An engine of an older version, adopted, says nothing of it.
  Object.assign(report.engine.status as object, { allocator: undefined })
  assert.match(
    lines()[0] ?? '',
    process.platform === 'linux' ? /handed out by the C library or another; jemalloc is quicker/ : /the system/,
  )
})

test('nothing but reading is possible', async () => {
  for (const method of ['POST', 'PUT', 'DELETE']) assert.is((await get('/api/status', { method })).status, 405)
  assert.is((await get('/nothing')).status, 404)
  const head = await get('/api/status', { method: 'HEAD' })
  assert.equal([head.status, await head.text()], [200, ''])
})

test('a request that names another host is refused: a web page elsewhere cannot read it by DNS rebinding', async () => {
  const statusFor = (host: string) =>
    new Promise<number>((resolve, reject) => {
      http
        .get({ host: server.host, port: server.port, path: '/api/status', headers: { host }, agent: false }, (response) => {
          response.resume()
          resolve(response.statusCode ?? 0)
        })
        .on('error', reject)
    })
  assert.is(await statusFor('evil.example'), 403)
  assert.is(await statusFor('127.0.0.1.evil.example:80'), 403)
  assert.is(await statusFor(`localhost:${server.port}`), 200)
  assert.is(await statusFor(`[::1]:${server.port}`), 200)
})

test('a report that fails is a 500, and the server goes on', async () => {
  await server.stop()
  let fail = true
  server = await serveStatus({
    listen: { host: '127.0.0.1', port: 0 },
    async report() {
      if (fail) throw new Error('secret detail')
      return report
    },
    log: silentLog,
  })
  const response = await get('/api/status')
  assert.is(response.status, 500)
  assert.not.match(await response.text(), 'secret detail')
  fail = false
  assert.is((await get('/api/status')).status, 200)
})

test('it serves loopback only, and says when its port is taken', async () => {
  const refusal = (listen: { host: string; port: number }) =>
    serveStatus({ listen, report: async () => report, log: silentLog }).then(
      () => assert.unreachable(),
      (error: DaemonGuardError) => error,
    )
  assert.is((await refusal({ host: '0.0.0.0', port: 0 }))?.exitCode, 78)
  assert.match((await refusal({ host: '127.0.0.1', port: server.port }))?.message ?? '', 'EADDRINUSE')
})

test('sizes and durations read well', () => {
  assert.equal([0, 999, 61_000, 3_600_000, 90_061_000].map(duration), ['0 ms', '999 ms', '1m 1s', '1h', '1d 1h'])
  assert.equal([0, 1023, 1536, 5 * 1024 ** 3].map(bytes), ['0 B', '1023 B', '1.5 KB', '5.0 GB'])
})

test.run()
