/** Mistakes of operators: each is told with line, column, key, message and hint, all of them at once. */

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { z } from 'zod'
import { nearest } from '../../agent/config/suggest.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { errorOf, lines, problemsOf } from './support.ts'

const test = suite('config mistakes')

/** The one problem of a config, as a line and a hint. */
function only(text: string, env: Record<string, string> = {}): [string, string] {
  const problems = problemsOf(text, { env })
  assert.is(problems.length, 1, lines(problems).join('\n'))
  return [lines(problems)[0]!, problems[0]!.hint]
}

test('an unknown key is told with the key that was meant', () => {
  assert.equal(only('agent:\n  lisen: 127.0.0.1:1\n'), ['2:3 agent.lisen: unknown key', 'did you mean listen?'])
  assert.equal(only('engine: { writeBuffer: {} }\n'), ['1:11 engine.writeBuffer: unknown key', 'did you mean write_buffer?'])
  assert.equal(only('engin: {}\n'), ['1:1 engin: unknown key', 'did you mean engine?'])
  assert.equal(only('engine:\n  write_buffer: { row: 5 }\n'), ['2:19 engine.write_buffer.row: unknown key', 'did you mean rows?'])
})

test('a key in the wrong section is told where it belongs', () => {
  assert.equal(only('engine:\n  data_dir: /x\n')[1], 'it belongs under agent: check the indentation')
  assert.equal(only('listen: 127.0.0.1:1\n')[1], 'it belongs under agent or engine: check the indentation')
  assert.equal(only('watchdog: {}\n')[1], 'it belongs under plugins: check the indentation')
  assert.equal(only('agent:\n  plugins: {}\n')[1], 'it belongs under no other key: check the indentation')
})

test('of several keys that resemble it, the nearest is meant', () => {
  assert.is(nearest('tables', ['table', 'cables', 'tables_', 'tablets']), 'tables_')
  assert.is(nearest('hsot', ['port', 'host']), 'host')
  assert.is(nearest('DataDir', ['data_dir']), 'data_dir')
  assert.is(nearest('x', ['rows', 'max_delay']), undefined)
})

test('a key that resembles none is told the keys there are', () => {
  assert.equal(only('engine:\n  auth: { roles: [] }\n')[1], 'remove it; the keys here are method, socket, users')
})

test('a key named __proto__ is unknown like any other', () => {
  assert.equal(only('__proto__: { agent: {} }\n')[0], '1:1 __proto__: unknown key')
})

test('a wrong type is told with what was expected and what stands there', () => {
  assert.equal(only('engine:\n  cpu_cores: two\n')[0], '2:14 engine.cpu_cores: expected a number, got a text')
  assert.equal(only('engine:\n  cpu_cores: 1.5\n')[0], '2:14 engine.cpu_cores: expected a whole number, got a number with a fraction')
  assert.equal(only('engine:\n  external_access: yes\n'), [
    '2:20 engine.external_access: expected true or false, got a text',
    'write true or false, without quotes',
  ])
  assert.equal(only('agent:\n  name: 17\n'), ['2:9 agent.name: expected a text, got a number', 'put it in quotes'])
  assert.equal(only('agent: 5\n')[0], '1:8 agent: expected a map (key: value), got a number')
  assert.equal(only('- agent\n')[0], '1:1 : expected a map (key: value), got a list')
  assert.equal(only('agent:\n  alerts: none\n')[0], '2:11 agent.alerts: expected a list, got a text')
})

test('a value outside of its bounds or choices is told the bounds and the choices', () => {
  assert.equal(only('engine: { cpu_cores: 0 }\n')[0], '1:22 engine.cpu_cores: expected at least 1')
  assert.equal(only('agent: { log: { level: infos } }\n')[1], 'did you mean info?')
  assert.equal(only('engine: { auth: { method: md5 } }\n')[0], '1:27 engine.auth.method: expected one of trust, scram-sha-256')
  assert.equal(only('engine: { memory: 10B }\n')[0], '1:19 engine.memory: too small: the least is 1MB')
})

test('a bad cron expression, duration, size and address are told by their own rules', () => {
  const [cron, cronHint] = only('plugins:\n  watchdog: { schedule: "61 * * * *" }\n')
  assert.is(cron, '2:25 plugins.watchdog.schedule: not a cron expression: the minute field is invalid')
  assert.match(cronHint, /5 fields/)
  assert.match(only('plugins:\n  watchdog: { schedule: "* * * *" }\n')[0], /it has 4 fields, expected 5 or 6/)
  const [duration, durationHint] = only('engine:\n  write_buffer: { max_delay: 2 seconds }\n')
  assert.match(duration, /^2:30 engine.write_buffer.max_delay: not a duration/)
  assert.match(durationHint, /500ms, 5s, 10m, 1h or 7d/)
  assert.match(only('engine:\n  memory: 4\n')[0], /^2:11 engine.memory: expected a size such as 4GB/)
  assert.match(only('engine:\n  listen: "5433"\n')[0], /^2:11 engine.listen: not an address/)
})

test('a missing environment variable is named with its line, and told once', () => {
  const [message, hint] = only('plugins:\n  redis-mirror:\n    url: ${REDIS_URL}\n')
  assert.is(message, '3:10 plugins.redis-mirror.url: the environment variable REDIS_URL is not set')
  assert.match(hint, /\$\{REDIS_URL:-default\}/)
  assert.equal(only('engine: { cpu_cores: "${CORES}" }\n')[0], '1:22 engine.cpu_cores: the environment variable CORES is not set')
  assert.equal(only('plugins:\n  watchdog: ${OPTIONS}\n')[0], '2:13 plugins.watchdog: the environment variable OPTIONS is not set')
  assert.equal(only('agent: ${SECTION}\n')[0], '1:8 agent: the environment variable SECTION is not set')
})

test('all mistakes are told at once, in the order of the file, each with a hint', () => {
  const problems = problemsOf(
    [
      'agent:',
      '  lisen: 127.0.0.1:1',
      '  data_dir: ${NOWHERE}',
      'engine:',
      '  listen: 0.0.0.0:5433',
      '  cpu_cores: two',
      '  cpu_cores: 3',
      'plugins:',
      '  watchdgo: {}',
      '  watchdog: { timeout: 5, schedule: "x" }',
    ].join('\n'),
  )
  assert.equal(
    problems.map(({ line, key }) => `${line} ${key}`),
    [
      '2 agent.lisen',
      '3 agent.data_dir',
      '5 engine.listen',
      '7 engine.cpu_cores',
      '9 plugins.watchdgo',
      '10 plugins.watchdog.timeout',
      '10 plugins.watchdog.schedule',
    ],
  )
  for (const { hint, column } of problems) assert.ok(hint.length > 5 && column !== null && column > 0)
})

test('a section that stands there twice is checked as a whole, and told', () => {
  const problems = problemsOf('engine:\n  cpu_cores: 0\nengine:\n  memory: 1\n')
  assert.equal(
    problems.map(({ line, message }) => `${line} ${message}`),
    ['2 expected at least 1', '3 the key appears twice', '4 expected a size such as 4GB or 512MB'],
  )
  assert.match(problems[1]!.hint, /the first is on line 1/)
})

test('listening where other machines can reach is refused: nothing asks for a password', () => {
  for (const address of ['0.0.0.0:5433', '192.168.1.5:5433', '"[::]:5433"', 'example.com:5433']) {
    const [message, hint] = only(`engine:\n  listen: ${address}\n`)
    assert.match(message, /^2:11 engine.listen: auth method trust asks for no password/)
    assert.match(hint, /127\.0\.0\.1/)
    assert.match(only(`agent:\n  listen: ${address}\n`)[0], /^2:11 agent.listen: the status page has no password/)
  }
})

test('a path that is too long for a Unix socket is told before anything runs', () => {
  const long = `/${'x'.repeat(99)}`
  const [message, hint] = only(`engine:\n  socket_dir: ${long}\n`)
  assert.match(message, /^2:15 engine.socket_dir: the path of the Postgres socket would be longer than the 107 bytes/)
  assert.match(hint, /shorter/)
  assert.match(only(`agent:\n  data_dir: ${long}\n`)[0], /^2:13 agent.data_dir: the path of the control socket/)
  // 107 bytes with the socket's name are still good: 93 + "/.s.PGSQL.5433".
  assert.throws(() => only(`engine:\n  socket_dir: /${'x'.repeat(92)}\n`), /the config passed/)
  assert.match(only(`engine:\n  socket_dir: /${'x'.repeat(93)}\n`)[0], /Postgres socket/)
})

test('two servers on one address and a journal among other files are told', () => {
  assert.match(only('agent: { listen: 127.0.0.1:5433 }\n')[0], /^1:18 agent.listen: agent.listen and engine.listen are the same address/)
  for (const place of ['.', '..', 'snapshots', 'quarantine/journal', '/var/lib', '/']) {
    assert.match(only(`engine: { journal_dir: ${place} }\n`)[0], /the journal needs a directory of its own/)
  }
})

test('an alert is a webhook or a command, not both and not neither', () => {
  assert.match(only('agent:\n  alerts:\n    - {}\n')[0], /^3:7 agent.alerts\[0\]: expected webhook or exec/)
  assert.match(only('agent:\n  alerts:\n    - webhook: https://x\n      exec: [y]\n')[0], /both webhook and exec/)
  assert.match(only('agent:\n  alerts:\n    - webhook: ftp://x\n')[0], /^3:16 agent.alerts\[0\].webhook: not a URL of this kind/)
})

test('no value of the environment or of a secret is ever in an error', () => {
  const secret = 'hunter2-hunter2'
  const texts = [
    'engine: { memory: "${S}", listen: "${S}", cpu_cores: "${S}", auth: { method: "${S}" } }',
    'agent: { quiet_hours: ["${S}"], log: { level: "${S}" }, alerts: [{ webhook: "${S}" }] }',
    'plugins: { redis-mirror: { url: "http://:${S}@x" }, watchdog: { schedule: "${S}", timeout: "${S}" } }',
    `plugins: { redis-mirror: { url: "http://:${secret}@x" } }`,
    `a: "${secret}\n`,
    `a: @${secret}\n`,
    `a: |${secret}\n  x\n`,
    `a: !${secret} x\n`,
    `a: *${secret}\n`,
    `a: \`${secret}\n`,
    `a: "${'\\'}q${secret}"\n`,
    `a: b: ${secret}\n`,
  ]
  for (const text of texts) {
    const error = errorOf(text, { env: { S: secret } })
    for (const told of [error.describe(), error.message, String(error.stack), JSON.stringify(error)]) assert.not.match(told, /hunter2/)
  }
})

test('a schema that repeats the value in its message does not give it away', () => {
  const careless = z.strictObject({ url: z.string().refine(() => false, { error: (issue) => `cannot use ${issue.input}` }) })
  const registry = [{ name: 'careless', options: careless }]
  const [problem] = problemsOf('plugins: { careless: { url: "x-${S}" } }', { registry, env: { S: 'hunter2' } })
  assert.is(problem!.message, 'cannot use x-${S}')
})

test('the program ends with 78, prints every mistake, and touches nothing', () => {
  const directory = temporaryDirectory('config')
  const config = path.join(directory, 'config.yaml')
  fs.writeFileSync(config, `agent:\n  data_dir: ${directory}/data\n  lisen: x\nengine:\n  memory: 4\n`)
  const root = path.resolve(import.meta.dirname, '../..')
  const script = `
    import { loadConfig } from '${root}/agent/config.ts'
    try { loadConfig({ file: ${JSON.stringify(config)}, registry: [] }) } catch (error) { console.error(error.describe()); process.exit(error.exitCode) }`
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', cwd: directory })
  assert.is(run.status, 78, run.stderr)
  assert.match(run.stderr, /line 3, column 3: agent\.lisen: unknown key\n {4}hint: did you mean listen\?/)
  assert.match(run.stderr, /line 5, column 11: engine\.memory: expected a size/)
  assert.equal(fs.readdirSync(directory), ['config.yaml'])
})

test.run()
