// needs: openssl
/** engine.tls: what `check` finds in the two files, each with its line and a hint. */

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readIdentity } from '../../agent/certificate.ts'
import { selfCommand } from '../../agent/runtime.ts'
import { Authority } from '../support/certificates.ts'
import { freePort } from '../support/ports.ts'
import { runChild } from '../support/process.ts'

const test = suite('config certificate')

const authority = new Authority()
const good = authority.issue()
const other = authority.issue()
const day = 86_400_000

const flawsOf = (files: { cert: string; key: string }, now = Date.now()) =>
  readIdentity(files, now).flaws.map(({ file, severity, message }) => `${severity} ${file}: ${message.replaceAll(authority.directory, '')}`)

test('a pair that belongs together has no flaws', () => {
  assert.equal(flawsOf(good), [])
  assert.ok(readIdentity(good, Date.now()).identity)
})

test('a file that is missing, is something else, or belongs elsewhere is named', () => {
  const text = path.join(authority.directory, 'text')
  fs.writeFileSync(text, 'a password that must not be told')
  assert.equal(flawsOf({ ...good, cert: '/nowhere.pem' }), ['fatal cert: /nowhere.pem: there is no such file'])
  assert.equal(flawsOf({ ...good, key: authority.directory }), ['fatal key: : it is a directory'])
  assert.equal(flawsOf({ cert: text, key: text }).sort(), [
    'fatal cert: /text holds no certificate in PEM form',
    'fatal key: /text holds no private key without a passphrase in PEM form',
  ])
  assert.equal(flawsOf({ ...good, key: other.key }), ['fatal key: the private key does not belong to the certificate'])
  assert.is(readIdentity({ ...good, key: other.key }, Date.now()).identity, undefined)
})

test('a key that every user can read is refused', () => {
  fs.chmodSync(other.key, 0o644)
  assert.match(flawsOf(other)[0] ?? '', /^fatal key: .*holds a secret, and every user of this machine may use it/)
  fs.chmodSync(other.key, 0o640)
  assert.equal(flawsOf(other), [])
})

test('a certificate is told of 30 days before its end, after its end and before its beginning', () => {
  const now = Date.now()
  assert.match(flawsOf(good, now + 61 * day)[0] ?? '', /^warning cert: the certificate expires on \d{4}-\d\d-\d\d, in 28 days$/)
  assert.match(flawsOf(good, now + 91 * day)[0] ?? '', /^expired cert: the certificate expired on /)
  assert.match(flawsOf(good, now - 2 * day)[0] ?? '', /^expired cert: the certificate is not valid before /)
  // It still encrypts: who verifies it is told by its own client, everybody else goes on.
  assert.ok(readIdentity(good, now + 91 * day).identity)
})

test('check tells all of it by line, exits with 78, and with 0 where there are only warnings', async () => {
  const config = path.join(authority.directory, 'config.yaml')
  const ports = [await freePort(), await freePort()]
  const check = async ({ cert, key }: { cert: string; key: string }, ...args: string[]) => {
    const lines = [
      `agent: { data_dir: ${authority.directory}/data, listen: "127.0.0.1:${ports[0]}" }`,
      'engine:',
      `  listen: 127.0.0.1:${ports[1]}`,
      '  tls:',
      `    cert: ${path.relative(authority.directory, cert)}`,
      `    key: ${key}`,
    ]
    fs.writeFileSync(config, `${lines.join('\n')}\n`)
    const { command, args: own } = selfCommand()
    return runChild(command, [...own, 'check', '-c', config, ...args])
  }
  const fine = await check(good)
  assert.equal([fine.code, fine.stdout], [0, `${config}: ok\n`])
  const wrong = await check({ ...good, key: '/nowhere' })
  assert.is(wrong.code, 78)
  assert.match(wrong.stdout, /line 6, column 10: engine\.tls\.key: \/nowhere: there is no such file/)
  const soon = await check(authority.issue({ days: 5 }))
  assert.is(soon.code, 0)
  assert.match(soon.stdout, /: ok\n {2}warning: line 5, column 11: engine\.tls\.cert: the certificate expires on .*, in [45] days\n/)
  const { ok, problems } = JSON.parse((await check(authority.issue({ days: 5 }), '--json')).stdout)
  assert.equal([ok, problems.length, problems[0].warning], [true, 1, true])
})

test.run()
