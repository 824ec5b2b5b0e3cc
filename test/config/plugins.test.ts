/** The plugins section: who runs, local modules, options that are checked later. */

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { z } from 'zod'
import { ConfigError, parsePluginOptions } from '../../agent/config.ts'
import { duration } from '../../agent/values.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { lines, parse, problemsOf, registry } from './support.ts'

const test = suite('config plugins')

const names = (text: string) => parse(text).plugins.map(({ name }) => name)

test('watchdog and integrity-scanner run by default, others when they are named', () => {
  assert.equal(names(''), ['watchdog', 'integrity-scanner'])
  assert.equal(names('plugins: {}'), ['watchdog', 'integrity-scanner'])
  assert.equal(names('plugins:'), ['watchdog', 'integrity-scanner'])
  assert.equal(names('plugins: { redis-mirror: }'), ['watchdog', 'integrity-scanner', 'redis-mirror'])
  assert.equal(names('plugins: { redis-mirror: true }'), ['watchdog', 'integrity-scanner', 'redis-mirror'])
})

test('false turns a plugin off', () => {
  assert.equal(names('plugins: { watchdog: false, redis-mirror: false }'), ['integrity-scanner'])
})

test('options are parsed by the schema of the plugin, and fill its defaults', () => {
  const [watchdog] = parse('plugins: { watchdog: { timeout: 1s } }').plugins
  assert.equal(watchdog, { name: 'watchdog', options: { schedule: '*/5 * * * * *', timeout: 1000, max_restarts: 3 } })
})

test('mistakes in options and names are told by line', () => {
  assert.equal(lines(problemsOf('plugins:\n  watchdog:\n    max_restarts: 0\n    time_out: 1s\n  redis-miror: {}\n  wachdog: false\n')), [
    '3:19 plugins.watchdog.max_restarts: expected more than 0',
    '4:5 plugins.watchdog.time_out: unknown key',
    '5:3 plugins.redis-miror: there is no plugin of this name',
    '6:3 plugins.wachdog: there is no plugin of this name',
  ])
  assert.is(problemsOf('plugins: { redis-miror: {} }')[0]!.hint, 'did you mean redis-mirror?')
  assert.match(problemsOf('plugins: { kafka: {} }')[0]!.hint, /the plugins are watchdog, .*\.\/my-plugin\.mjs/)
  assert.is(problemsOf('plugins: { alerts.mjs: {} }')[0]!.hint, 'a local plugin is named by its path: ./alerts.mjs')
})

test('options that are no map are told, and a list of plugins as well', () => {
  assert.match(
    lines(problemsOf('plugins:\n  watchdog: 5\n'))[0]!,
    /^2:13 plugins.watchdog: expected options \(a map\), true or false, got a number/,
  )
  assert.match(lines(problemsOf('plugins: [watchdog]\n'))[0]!, /^1:1 plugins: expected a map \(name: options\), got a list/)
})

test('without a registry the section is not read: the engine starts whatever the plugins say', () => {
  const config = parse('plugins: { nonsense: { url: "${NOT_SET}" } }', { registry: undefined })
  assert.equal(config.plugins, [])
})

test('a local plugin is found from the directory of the config, and its options are checked later, by line', () => {
  const directory = temporaryDirectory('plugins')
  fs.writeFileSync(path.join(directory, 'alerts.mjs'), '')
  const file = path.join(directory, 'config.yaml')
  const text = 'plugins:\n  ./alerts.mjs:\n    every: 5 seconds\n    count: ${N}\n    wait: 1s\n'
  const config = parse(text, { file, env: { N: '3' } })
  const local = config.plugins.at(-1)!
  assert.equal(local, {
    name: './alerts.mjs',
    options: { every: '5 seconds', count: '3', wait: '1s' },
    module: path.join(directory, 'alerts.mjs'),
  })
  const schema = z.strictObject({ every: duration(), count: z.int(), await: duration().optional() })
  assert.throws(
    () => parsePluginOptions(config, './alerts.mjs', schema),
    (error: unknown) => {
      assert.instance(error, ConfigError)
      assert.is((error as ConfigError).exitCode, 78)
      assert.equal(lines((error as ConfigError).problems), [
        '3:12 plugins["./alerts.mjs"].every: not a duration: expected a number and a unit, such as 5s, 2ms or 1h',
        '5:5 plugins["./alerts.mjs"].wait: unknown key',
      ])
      return true
    },
  )
  const lenient = z.object({ count: z.int(), wait: duration() })
  assert.equal(parsePluginOptions(config, './alerts.mjs', lenient), { count: 3, wait: 1000 })
})

test('a local plugin that is not there is told with the path that was tried', () => {
  const directory = temporaryDirectory('plugins')
  const [problem] = problemsOf('plugins:\n  ./nope.mjs: {}\n', { file: path.join(directory, 'config.yaml') })
  assert.is(lines([problem!])[0], '2:3 plugins["./nope.mjs"]: there is no such module')
  assert.ok(problem!.hint.includes(path.join(directory, 'nope.mjs')))
  assert.not.ok(parse('plugins: { ./nope.mjs: false }').plugins.some(({ module }) => module !== undefined))
})

test('the options of one plugin do not change those of the registry', () => {
  parse('plugins: { redis-mirror: { tables: [a] } }')
  const [mirror] = parse('plugins: { redis-mirror: {} }').plugins.slice(-1)
  assert.equal((mirror!.options as { tables: string[] }).tables, ['*'])
  assert.is(registry.length, 3)
})

test.run()
