/** Who may connect: mistakes in `engine.auth` and `engine.tls`, each with its line and a hint; and the `password` command. */

import { spawnSync } from 'node:child_process'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { selfCommand } from '../../agent/runtime.ts'
import { parseVerifier } from '../../agent/verifier.ts'
import { lines, parse, problemsOf } from './support.ts'

const test = suite('config access')

const verifier =
  'SCRAM-SHA-256$4096:mHFy8s2nEtubZXo1Gm74Pw==$jeScVbEHNhJKlqmtzqBk3cJFoe7OfnhTJ1ZZo9UFsbQ=:Z9Tw27OCSxl9palZvBUdlqBHe+XijOhT3o2uqlkgxYk='

/** The one problem of an `engine` section, each key on a line of its own from line 2 on, as a line and a hint. */
function only(...engine: string[]): [string, string] {
  const problems = problemsOf(`engine:\n${engine.map((line) => `  ${line}\n`).join('')}`)
  assert.is(problems.length, 1, lines(problems).join('\n'))
  return [lines(problems)[0]!, problems[0]!.hint]
}

test('users, their passwords and their rights are read; the Unix socket asks as TCP does unless told otherwise', () => {
  const { auth } = parse(
    `engine: { auth: { method: scram-sha-256, users: [{ name: trader, password: "\${PW}" }, { name: grafana, password: "${verifier}", readonly: true }] } }`,
    { env: { PW: 'from the environment' } },
  ).engine
  assert.equal(auth, {
    method: 'scram-sha-256',
    socket: 'scram-sha-256',
    users: [
      { name: 'trader', password: 'from the environment', readonly: false },
      { name: 'grafana', password: verifier, readonly: true },
    ],
  })
  const byPeer = parse('engine: { auth: { method: scram-sha-256, socket: peer, users: [{ name: trader, peer: [alice, bob] }] } }').engine
    .auth
  assert.equal(byPeer.users, [{ name: 'trader', peer: ['alice', 'bob'], readonly: false }])
  assert.is(byPeer.socket, 'peer')
})

test('listening where other machines can reach needs passwords and encryption', () => {
  const users = 'auth: { method: scram-sha-256, users: [{ name: trader, password: x }] }'
  const [plain, plainHint] = only('listen: 0.0.0.0:5433', users)
  assert.match(plain, /^2:11 engine.listen: other machines can connect here, and nothing would be encrypted/)
  assert.match(plainHint, /engine\.tls/)
  const [trusted, trustedHint] = only('listen: 0.0.0.0:5433', 'tls: { cert: a, key: b }')
  assert.match(trusted, /^2:11 engine.listen: auth method trust asks for no password/)
  assert.match(trustedHint, /scram-sha-256/)
  const { tls } = parse(`engine:\n  listen: 0.0.0.0:5433\n  ${users}\n  tls: { cert: tls/a.pem, key: /b.pem }`).engine
  assert.equal(tls, { cert: '/etc/daemonguard/tls/a.pem', key: '/b.pem' })
})

test('a user that could not log in, or whose password nobody would ask for, is told', () => {
  const problems: [string, RegExp][] = [
    ['auth: { method: scram-sha-256 }', /^2:\d+ engine.auth.method: nobody could log in: there are no users/],
    ['auth: { socket: peer }', /^2:\d+ engine.auth.socket: nobody could log in/],
    ['auth: { method: scram-sha-256, users: [{ name: a }] }', /^2:\d+ engine.auth.users\[0\].name: this user has no password/],
    ['auth: { users: [{ name: a, password: x }] }', /^2:\d+ engine.auth.users\[0\].password: no password is asked for here/],
    ['auth: { users: [{ name: a, peer: [b] }] }', /^2:\d+ engine.auth.users\[0\].peer: system users are not looked at here/],
    ['auth: { users: [{ name: a }, { name: a }] }', /^2:\d+ engine.auth.users\[1\].name: a user of this name is already there/],
    ['auth: { users: [{ name: daemonguard-agent }] }', /^2:\d+ engine.auth.users\[0\].name: this name is the agent’s own/],
    ['auth: { users: [{ name: "" }] }', /^2:\d+ engine.auth.users\[0\].name: not a name for a user/],
    ['auth: { users: [{ readonly: true }] }', /^2:\d+ engine.auth.users\[0\].name: missing: expected a name/],
    ['auth: { method: md5 }', /^2:\d+ engine.auth.method: expected one of trust, scram-sha-256/],
    ['auth: { method: scram-sha-256, users: [{ name: a, pasword: x }] }', /unknown key/],
    [
      'auth: { method: scram-sha-256, users: [{ name: a, password: "SCRAM-SHA-256$4096:x" }] }',
      /^2:\d+ .*not a whole SCRAM-SHA-256 verifier/,
    ],
    ['tls: { cert: a }', /^2:3 engine.tls.key: missing: expected a path/],
  ]
  for (const [text, expected] of problems) assert.match(only(text)[0], expected, text)
  assert.match(only('socket_dir: null', 'auth: { socket: trust }')[0], /^3:\d+ engine.auth.socket: there is no Unix socket/)
})

test('a mistake never shows the secret', () => {
  const secret = 'hunter2hunter2'
  const problems = problemsOf(
    `engine: { auth: { method: scram, users: [{ name: a, password: { "${secret}": 1 } }, { name: b, password: "SCRAM-SHA-256$${secret}" }, { name: c, password: "\${PW}", x: 1 }] } }`,
    { env: { PW: secret } },
  )
  assert.ok(problems.length >= 4)
  assert.not.ok(JSON.stringify(problems).includes(secret))
})

test('the password command reads a line and prints the verifier that takes its place', () => {
  const { command, args } = selfCommand()
  const { stdout, stderr, status } = spawnSync(command, [...args, 'password'], { input: 'pass word\nmore\n', encoding: 'utf8' })
  assert.equal([status, stderr], [0, ''])
  assert.is(parseVerifier(stdout.trim())?.iterations, 4096)
  assert.not.ok(stdout.includes('pass word'))
  assert.is(spawnSync(command, [...args, 'password'], { input: '' }).status, 2)
})

test.run()
