// deadline: 400s
/** The packed program, not the sources: dist/daemonguard is built when it is older than any of them. */

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import esbuild from 'esbuild'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Ledger } from '../../agent/demo/ledger.ts'
import { ofThisMachine } from '../../build/targets.ts'
import { runChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { build, builtExecutable } from './built.ts'

const platform = ofThisMachine?.name ?? ''
const { version } = JSON.parse(fs.readFileSync('package.json', 'utf8')) as { version: string }
// Away from the sources, with a cache of its own: nothing of this checkout or of an earlier start may help it.
const home = temporaryDirectory('dg')
const env = { HOME: home, XDG_CACHE_HOME: undefined, CACHE_DIRECTORY: undefined, NODE_PATH: undefined, NODE_OPTIONS: undefined }
let executable = ''

test.before(async () => {
  executable = path.join(home, 'daemonguard')
  fs.copyFileSync(await builtExecutable(), executable)
})

test('it tells its version, without unpacking anything', async () => {
  const { code, stdout } = await runChild(executable, ['--version'], { cwd: home, env })
  assert.is(code, 0)
  assert.is(stdout, `${version}\n`)
  assert.not(fs.existsSync(`${home}/.cache`))
})

test('an unknown command ends with 2', async () => {
  assert.is((await runChild(executable, ['no-such-command'], { cwd: home, env })).code, 2)
})

test('SHA256SUMS names the program, its installer, the unit, the example and the licences as they are', () => {
  const lines = fs.readFileSync('dist/SHA256SUMS', 'utf8').trim().split('\n')
  assert.ok(lines.length >= 5)
  for (const line of lines) {
    const [sum, name] = line.split('  ') as [string, string]
    assert.is(
      createHash('sha256')
        .update(fs.readFileSync(path.join('dist', name)))
        .digest('hex'),
      sum,
      name,
    )
  }
})

test('it carries the licences of everything inside: Node, DuckDB and its parts, every bundled package', async () => {
  const { code, stdout } = await runChild(executable, ['licenses'], { cwd: home, env })
  assert.is(code, 0)
  assert.is(stdout, fs.readFileSync('dist/LICENSES', 'utf8'))
  // The bundle has no comments that would name them, so it is bundled once more.
  const { metafile } = await esbuild.build({
    entryPoints: ['agent/main.ts'],
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    target: 'node24',
    external: ['@duckdb/node-bindings', '@koromix/*'],
    logLevel: 'silent',
  })
  const bundled = Object.keys(metafile.inputs).map((input) => /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1])
  const packages = new Set(bundled.filter((name) => name !== undefined))
  assert.ok(packages.size > 20)
  for (const name of [...packages, 'Node.js', 'DaemonGuard', '@duckdb/node-bindings (native)', 'third_party/mbedtls', 'OpenSSL'])
    assert.ok(stdout.includes(name), name)
})

test('the same source gives the same bytes', async () => {
  const again = path.join(home, 'again')
  await build('--platform', platform, '--out', again)
  const here = fs.readFileSync('dist/SHA256SUMS', 'utf8')
  for (const line of fs.readFileSync(path.join(again, 'SHA256SUMS'), 'utf8').trim().split('\n')) assert.match(here, line)
})

test('its demo loses nothing and doubles nothing', async () => {
  const { code, stdout, stderr } = await runChild(executable, ['demo', '--json'], { cwd: home, env, deadline: 170_000 })
  const ledger = JSON.parse(stdout) as Ledger
  assert.equal(ledger.problems, [], stderr)
  assert.is(code, 0)
  assert.is(ledger.lost, 0)
  assert.is(ledger.duplicated, 0)
  assert.is(ledger.faults.length, 4)
  assert.ok(fs.readdirSync(`${home}/.cache/daemonguard`).some((name) => name.startsWith('duckdb-')))
})

test.run()
