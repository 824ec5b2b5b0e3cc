/** config.example.yaml: it is valid, and its values are the defaults, as it says. */

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { registry } from '../../plugins/index.ts'
import { parse } from './support.ts'

const test = suite('config example')

const example = fs.readFileSync(path.resolve(import.meta.dirname, '../../config.example.yaml'), 'utf8')

test('every value in the example is the default', () => {
  const names = registry.map(({ name }) => name)
  const written = parse(example, { registry })
  const defaults = parse(`plugins: { ${names.map((name) => `${name}: {}`).join(', ')} }`, { registry })
  assert.equal({ ...written }, { ...defaults })
  assert.equal(
    written.plugins.map(({ name }) => name),
    names,
  )
})

test('what the example has in comments is valid as well', () => {
  const optional = /^( *)# ((?:name|format|socket_dir|schema|alerts|username):.*| {2}- (?:webhook|exec): .*)$/gm
  assert.is(example.match(optional)?.length, 8)
  const uncommented = example.replace(/^ *alerts: \[\]\n/m, '').replace(optional, '$1$2')
  const { agent, engine } = parse(uncommented, { registry, env: { ALERT_TOKEN: 'x' } })
  assert.is(agent.name, 'host-1')
  assert.is(agent.log.format, 'json')
  assert.is(agent.alerts.length, 2)
  assert.is(engine.socket_dir, '/run/daemonguard')
  assert.is(engine.schema, '/etc/daemonguard/schema.sql')
})

test('users and encryption in the example are valid', () => {
  const lines = /^( *)# ((?:socket: peer|users:|tls:).*| {2}- \{ name: .*)$/gm
  assert.is(example.match(lines)?.length, 5)
  const text = example.replace(/^ *(users: \[\]|tls: null)\n/gm, '').replace('method: trust', 'method: scram-sha-256')
  const written = text.replace('file:/etc/daemonguard/trader-password', 'x').replace(lines, '$1$2')
  const { auth, tls } = parse(written, { registry, env: { GRAFANA_PASSWORD: 'y' } }).engine
  assert.is(auth.socket, 'peer')
  assert.equal(
    auth.users.map(({ name, readonly }) => [name, readonly]),
    [
      ['trader', false],
      ['grafana', true],
    ],
  )
  assert.is(tls?.cert, '/etc/daemonguard/tls/cert.pem')
})

test('quiet hours in the example are valid', () => {
  const entry = /For example: (\["Mon.*\])/.exec(example)?.[1]
  assert.ok(entry)
  assert.is(parse(`agent: { quiet_hours: ${entry} }`).agent.quiet_hours.length, 1)
})

test.run()
