/** Durations, sizes, rates, cron expressions, addresses, secrets, URLs, paths. */

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { z } from 'zod'
import { cron, duration, filePath, isLoopback, listenAddress, rate, secret, size, url, withoutCredentials } from '../../agent/values.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('config values')

/** The parsed value, or the message in an array. */
function read<T>(schema: z.ZodType<T>, value: unknown): T | string[] {
  const result = schema.safeParse(value)
  return result.success ? result.data : result.error.issues.map(({ message }) => message)
}
const refused = (schema: z.ZodType, ...values: unknown[]) => {
  for (const value of values) assert.not.ok(schema.safeParse(value).success, `accepted ${JSON.stringify(value)}`)
}

test('a duration is a number with a unit, in milliseconds', () => {
  const known = { '5s': 5000, '2ms': 2, '1h': 3_600_000, '10m': 600_000, '7d': 604_800_000, '1.5s': 1500, ' 5 s ': 5000, '0s': 0 }
  for (const [text, ms] of Object.entries(known)) assert.is(read(duration(), text), ms)
  refused(duration(), '5', 5, '', 's', '-5s', '5 sec', '1h30m', '5S', null, undefined, [], '1e3s', '25d')
  assert.is(read(duration({ max: '60d' }), '30d'), 30 * 86_400_000)
  assert.equal(read(duration({ min: '1s' }), '1ms'), ['too small: the least is 1s'])
})

test('defaults are the parsed value with default, the written one with prefault', () => {
  assert.is(read(duration().default(7), undefined), 7)
  assert.is(read(duration().prefault('5s'), undefined), 5000)
})

test('a size is bytes, decimal and binary units as DuckDB reads them', () => {
  const known = { '4GB': 4e9, '512MiB': 512 * 1024 ** 2, '100KB': 1e5, '1TiB': 1024 ** 4, '12B': 12, '1.5GB': 1.5e9, '4 gb': 4e9 }
  for (const [text, bytes] of Object.entries(known)) assert.is(read(size(), text), bytes)
  refused(size(), '4', 4, 'GB', '-1GB', '4G', '4GBB', null, undefined)
})

test('a rate is a size a second', () => {
  assert.is(read(rate(), '200MB'), 2e8)
  assert.is(read(rate(), '1MiB/s'), 1024 ** 2)
  refused(rate(), '200', 'fast', '0B', '1MB/h')
})

test('a cron expression has 5 or 6 fields within their ranges', () => {
  for (const text of ['*/5 * * * * *', '0 * * * *', '0 9-17 * * Mon-Fri', '*/15 * * * *']) assert.is(read(cron(), text), text)
  refused(cron(), '', '* * * *', '* * * * * * *', '61 * * * *', '* 25 * * *', 'hello', 5, null, '*/0 * * * *', '0 0 31 2 *')
})

test('an address is host and port', () => {
  assert.equal(read(listenAddress(), '127.0.0.1:5433'), { host: '127.0.0.1', port: 5433 })
  assert.equal(read(listenAddress(), '[::1]:0'), { host: '::1', port: 0 })
  assert.equal(read(listenAddress(), 'localhost:1'), { host: 'localhost', port: 1 })
  refused(
    listenAddress(),
    '5433',
    ':5433',
    '127.0.0.1',
    '127.0.0.1:',
    '127.0.0.1:65536',
    '::1:5433',
    '[x]:1',
    '1.2.3:4',
    '300.1.1.1:4',
    'a b:1',
    5433,
  )
})

test('loopback is 127.0.0.0/8, ::1 and localhost', () => {
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1', 'localhost'])
    assert.ok(isLoopback(host), host)
  for (const host of ['0.0.0.0', '::', '128.0.0.1', '10.0.0.1', '::ffff:10.0.0.1', 'example.com', '127.example.com', ''])
    assert.not.ok(isLoopback(host), host)
})

test('a secret is the text itself or the content of a file, without its last newline', () => {
  const file = path.join(temporaryDirectory('secret'), 'password')
  fs.writeFileSync(file, ' pass word \n', { mode: 0o600 })
  assert.is(read(secret(), ' x '), ' x ')
  assert.is(read(secret(), `file:${file}`), ' pass word ')
  assert.is(read(secret(), `file://${file}`), ' pass word ')
  assert.match((read(secret(), 'file:/nowhere/at/all') as string[])[0]!, /the secret file \/nowhere\/at\/all: there is no such file/)
  fs.writeFileSync(file, '\n')
  assert.match((read(secret(), `file:${file}`) as string[])[0]!, /is empty/)
  fs.writeFileSync(file, 'x')
  for (const [mode, isFine] of [
    [0o640, true],
    [0o644, false],
    [0o604, false],
    [0o602, false],
  ] as const) {
    fs.chmodSync(file, mode)
    if (isFine) assert.is(read(secret(), `file:${file}`), 'x')
    else assert.match((read(secret(), `file:${file}`) as string[]).join(' '), /holds a secret, and every user of this machine may use it/)
  }
  fs.chmodSync(file, 0o600)
  refused(secret(), '', 'file:relative', 'file:', `file:${path.dirname(file)}`, 5)
})

test('a URL has one of the schemes and a host; it may lie in a file; its credentials can be left out', () => {
  const file = path.join(temporaryDirectory('secret'), 'url')
  fs.writeFileSync(file, 'rediss://user:pass@host:6380/1\n', { mode: 0o600 })
  assert.is(read(url('redis', 'rediss'), `file:${file}`), 'rediss://user:pass@host:6380/1')
  assert.is(read(url('http'), 'http://127.0.0.1:8123'), 'http://127.0.0.1:8123')
  refused(url('redis'), 'http://x', 'redis:', 'redis://', 'localhost:6379', '', 5, 'redis://x:99999')
  assert.is(withoutCredentials('rediss://user:pass@host:6380/1?secret=x#y'), 'rediss://host:6380/1')
  assert.is(withoutCredentials('https://host/?token=x'), 'https://host')
  assert.is(withoutCredentials('user:pass@host'), '(a URL)')
  assert.is(withoutCredentials('pass word'), '(a URL)')
})

test('a path is not empty and has no ~', () => {
  assert.is(read(filePath(), './a b'), './a b')
  refused(filePath(), '', '~', '~/x', 'a\0b', 5)
  assert.is(read(filePath(), 'a~'), 'a~')
})

test.run()
