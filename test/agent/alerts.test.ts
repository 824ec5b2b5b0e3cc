import fs from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Alerts, type AlertTarget } from '../../agent/alerts.ts'
import { systemClock, waitUntil } from '../../agent/clock.ts'
import { silentLog } from '../../agent/log.ts'

const test = suite('alerts')
let server: http.Server
let url: string
let received: { method: string; type: string; body: string }[]
/** Statuses to answer with, in order; 200 afterwards. 0: never answer. */
let statuses: number[]
let directory: string

test.before.each(async () => {
  received = []
  statuses = []
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'dg-alerts-'))
  server = http.createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    received.push({ method: request.method ?? '', type: request.headers['content-type'] ?? '', body })
    const status = statuses.shift() ?? 200
    if (status !== 0) response.writeHead(status).end('thanks')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?token=s3cret`
})
test.after.each(() => {
  server.closeAllConnections()
  server.close()
  fs.rmSync(directory, { recursive: true, force: true })
})

function alertsTo(targets: AlertTarget[], options: { timeoutMs?: number; pauses?: number[] } = {}): Alerts {
  return new Alerts({ targets, host: 'host-1', log: silentLog, clock: systemClock, pauses: [5, 5], ...options })
}

test('a webhook gets the alert as a JSON POST', async () => {
  const alerts = alertsTo([{ webhook: url }])
  alerts.raise('watchdog', 'engine is flapping', { restarts: 3, seq: 12n })
  await alerts.stop()
  assert.is(received.length, 1)
  assert.is(received[0]?.method, 'POST')
  assert.is(received[0]?.type, 'application/json')
  const body = JSON.parse(received[0]?.body ?? '')
  assert.is(body.host, 'host-1')
  assert.is(body.source, 'watchdog')
  assert.is(body.message, 'engine is flapping')
  assert.equal(body.details, { restarts: 3, seq: '12' })
  assert.ok(Math.abs(Date.parse(body.time) - Date.now()) < 60_000)
})

test('a webhook that fails is tried again', async () => {
  statuses = [500, 429]
  const alerts = alertsTo([{ webhook: url }])
  alerts.raise('agent', 'again')
  await alerts.stop()
  assert.is(received.length, 3)
  assert.equal([alerts.facts.delivered, alerts.facts.failed], [1, 0])
})

test('a webhook that refuses is not asked again, and the next alert goes out all the same', async () => {
  statuses = [403]
  const alerts = alertsTo([{ webhook: url }])
  alerts.raise('agent', 'refused')
  alerts.raise('agent', 'welcome')
  await alerts.stop()
  assert.is(received.length, 2)
  assert.equal([alerts.facts.delivered, alerts.facts.failed], [1, 1])
})

test('a webhook that never answers ends at its timeout', async () => {
  statuses = [0]
  const alerts = alertsTo([{ webhook: url }], { timeoutMs: 50, pauses: [] })
  alerts.raise('agent', 'silence')
  assert.ok(await waitUntil(() => alerts.facts.failed === 1, { deadline: 30_000 }))
  await alerts.stop()
})

test('a command gets the alert on its standard input', async () => {
  const file = path.join(directory, 'alert.json')
  const alerts = alertsTo([{ exec: ['sh', '-c', `cat > ${file}`] }])
  alerts.raise('agent', 'to a command')
  await alerts.stop()
  assert.is(JSON.parse(fs.readFileSync(file, 'utf8')).message, 'to a command')
  assert.is(alerts.facts.delivered, 1)
})

test('a command that is missing, fails, or reads nothing disturbs neither the agent nor the other targets', async () => {
  const alerts = alertsTo([
    { exec: ['/no/such/command'] },
    { exec: ['false'] },
    { exec: ['true'] },
    { webhook: 'not a url' },
    { webhook: url },
  ])
  alerts.raise('agent', 'x'.repeat(500_000))
  await alerts.stop()
  assert.equal([alerts.facts.raised, alerts.facts.delivered, alerts.facts.failed], [1, 2, 3])
})

test('a command that hangs is killed at the timeout', async () => {
  const alerts = alertsTo([{ exec: ['sleep', '60'] }], { timeoutMs: 50, pauses: [] })
  alerts.raise('agent', 'hang')
  assert.ok(await waitUntil(() => alerts.facts.failed === 1, { deadline: 30_000 }))
  await alerts.stop()
})

test('a storm is bounded: what does not fit is dropped and counted', async () => {
  statuses = [0]
  const alerts = alertsTo([{ webhook: url }], { timeoutMs: 20_000 })
  for (let i = 0; i < 200; i++) alerts.raise('agent', `alert ${i}`)
  await alerts.stop(20)
  assert.is(alerts.facts.raised, 200)
  assert.is(alerts.facts.dropped + alerts.facts.failed + alerts.facts.delivered, 200)
  assert.ok(alerts.facts.dropped >= 99)
})

test('the token in a webhook url never reaches the log', async () => {
  const lines: string[] = []
  const log = {
    ...silentLog,
    error: (...parts: unknown[]) => lines.push(JSON.stringify(parts)),
    warn: (...parts: unknown[]) => lines.push(JSON.stringify(parts)),
  }
  statuses = [404]
  const alerts = new Alerts({
    targets: [{ webhook: url }, { webhook: `bad url token=s3cret` }],
    host: 'h',
    log: log as never,
    clock: systemClock,
    pauses: [],
  })
  alerts.raise('agent', 'message')
  await alerts.stop()
  assert.ok(lines.length >= 3)
  assert.not.match(lines.join('\n'), 's3cret')
})

test.run()
