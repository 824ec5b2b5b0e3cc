import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { z } from 'zod'
import { parseConfig } from '../../agent/config.ts'
import { DaemonGuardError } from '../../agent/errors.ts'
import { resolvePlugins } from '../../agent/local-plugins.ts'
import type { Plugin } from '../../agent/plugin.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('local plugins')
const directory = temporaryDirectory('lp')
const zod = path.join(import.meta.dirname, '../../node_modules/zod/index.js')
const builtIn: Plugin = {
  name: 'built-in',
  options: z.strictObject({ size: z.int().default(3) }),
  start: async () => ({ health: () => ({ healthy: true, summary: '', facts: {} }), stop: async () => {} }),
}

function resolve(plugins: string) {
  const config = parseConfig(`agent: { data_dir: data }\nplugins:\n${plugins}`, {
    file: path.join(directory, 'config.yaml'),
    registry: [builtIn],
  })
  return resolvePlugins(config, [builtIn])
}

function refusal(plugins: string): DaemonGuardError {
  try {
    resolve(plugins)
  } catch (error) {
    assert.instance(error, DaemonGuardError)
    return error as DaemonGuardError
  }
  throw new Error('it was accepted')
}

const local = (file: string, text: string) => fs.writeFileSync(path.join(directory, file), text)

test('a built-in plugin comes from the registry, its defaults filled', () => {
  const [found] = resolve('  built-in: {}\n').slice(-1)
  assert.is(found?.plugin, builtIn)
  assert.equal(found?.options, { size: 3 })
})

test('a local plugin is loaded from its path, beside the config, and its own schema parses its options', () => {
  local(
    'mine.mjs',
    `import { z } from ${JSON.stringify(zod)}\nexport default { name: 'mine', options: z.strictObject({ level: z.string().default('high') }), start() {} }\n`,
  )
  const [found] = resolve('  ./mine.mjs: {}\n').slice(-1)
  assert.equal([found?.plugin.name, found?.options], ['mine', { level: 'high' }])
  assert.match(refusal('  ./mine.mjs: { levle: 1 }\n').describe(), 'levle')
})

test('a CommonJS plugin without a schema gets its options as they are written', () => {
  local('old.cjs', `module.exports = { name: 'old', start() {} }\n`)
  const [found] = resolve('  ./old.cjs: { any: thing }\n').slice(-1)
  assert.equal([found?.plugin.name, found?.options], ['old', { any: 'thing' }])
})

test('what is no plugin is refused with exit code 78, and says why', () => {
  local('throws.mjs', `throw new Error('broken module')\n`)
  local('nameless.mjs', `export default { start() {} }\n`)
  local('lazy.mjs', `export default { name: 'lazy' }\n`)
  local('twin.mjs', `export default { name: 'built-in', start() {} }\n`)
  for (const [plugins, why] of [
    ['  ./throws.mjs: {}\n', 'broken module'],
    ['  ./nameless.mjs: {}\n', 'has no name'],
    ['  ./lazy.mjs: {}\n', 'has no start'],
    ['  built-in: {}\n  ./twin.mjs: {}\n', 'is named built-in, as another plugin is'],
  ] as const) {
    const error = refusal(plugins)
    assert.match(error.message, why)
    assert.is(error.exitCode, 78)
  }
})

test.run()
