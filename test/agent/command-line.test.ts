import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import packageJson from '../../package.json' with { type: 'json' }
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('command line')
const main = path.join(import.meta.dirname, '../../agent/main.ts')
const directory = temporaryDirectory()
const config = path.join(directory, 'config.yaml')

test.before(() => fs.writeFileSync(config, 'agent: { data_dir: data, listen: "127.0.0.1:1" }\n'))

function daemonguard(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { cwd: directory, encoding: 'utf8', timeout: 30_000 })
  return { code: status, out: stdout, err: stderr }
}

test('--version prints the version, and loads no library for it', () => {
  assert.equal(daemonguard('--version'), { code: 0, out: `${packageJson.version}\n`, err: '' })
  const hook = `import { registerHooks } from 'node:module'
    registerHooks({ load(url, context, next) { process.stderr.write(url + '\\n'); return next(url, context) } })`
  const { stderr } = spawnSync(process.execPath, ['--import', `data:text/javascript,${encodeURIComponent(hook)}`, main, '--version'], {
    encoding: 'utf8',
  })
  assert.match(stderr, 'agent/main.ts')
  assert.not.match(stderr, 'node_modules')
})

/** Commands that --help shows. */
const listed = ['run', 'check', 'status', 'stop', 'checkpoint', 'scan', 'snapshot', 'restore', 'journal', 'demo', 'service', 'licenses']

test('--help lists every command but the hidden ones', () => {
  const { code, out } = daemonguard('--help')
  assert.is(code, 0)
  for (const name of listed) assert.match(out, new RegExp(`^  ${name} `, 'm'))
  assert.not.match(out, /^ {2}(engine|adopt) /m)
})

test('every command, the hidden ones too, explains itself', () => {
  for (const name of [...listed, 'engine', 'adopt']) {
    const { code, out } = daemonguard(name, '--help')
    assert.equal([name, code], [name, 0])
    assert.match(out, `daemonguard ${name}`)
  }
})

test('what only the executable can do says so when it runs from the sources', () => {
  assert.match(daemonguard('licenses').err, 'hint: each package under node_modules')
  assert.match(daemonguard('service', 'install').err, 'hint: npm run build')
  assert.equal(daemonguard('service', 'instal').code, 2)
})

test('an unknown command is a usage error that names the nearest one', () => {
  const { code, err } = daemonguard('stauts')
  assert.is(code, 2)
  assert.match(err, 'unknown command "stauts"')
  assert.match(err, 'did you mean status?')
  assert.match(daemonguard('snap').err, 'did you mean snapshot?')
})

test('no command, or an option without one, is a usage error', () => {
  assert.is(daemonguard().code, 2)
  assert.is(daemonguard('--jsn').code, 2)
})

test('an unknown option is a usage error that names the nearest one', () => {
  const { code, err } = daemonguard('stop', '--engin')
  assert.is(code, 2)
  assert.match(err, 'did you mean --engine?')
  assert.is(daemonguard('run', '--json').code, 2)
  assert.is(daemonguard('status', '-x').code, 2)
})

test('a missing value, a value too many and an argument too many are usage errors', () => {
  assert.match(daemonguard('restore', '--snapshot').err, '--snapshot needs a value')
  assert.match(daemonguard('stop', '--engine=yes').err, '--engine takes no value')
  assert.match(daemonguard('status', 'now').err, 'does not take "now"')
  assert.match(daemonguard('journal').err, 'needs more')
  assert.match(daemonguard('journal', 'cta').err, 'did you mean cat?')
  for (const args of [['restore', '--snapshot'], ['stop', '--engine=yes'], ['status', 'now'], ['journal'], ['journal', 'cta']])
    assert.is(daemonguard(...args).code, 2)
})

test('-c may stand before or after the command', () => {
  for (const args of [
    ['-c', config, 'status'],
    ['status', '-c', config],
    ['status', `--config=${config}`],
  ])
    assert.is(daemonguard(...args).code, 3)
})

test('a config that is not there or wrong is exit code 78', () => {
  assert.is(daemonguard('status', '-c', '/no/such/file.yaml').code, 78)
  const wrong = path.join(directory, 'wrong.yaml')
  fs.writeFileSync(wrong, 'agnet: {}\nengine: { memory: plenty }\n')
  const { code, err } = daemonguard('run', '-c', wrong)
  assert.is(code, 78)
  assert.match(err, 'line 1')
  assert.match(err, 'line 2')
  assert.not(fs.existsSync(path.join(directory, 'data')))
})

test('without an agent, status is unknown: exit code 3 and the command to type next, as JSON too', () => {
  const { code, out } = daemonguard('status')
  assert.is(code, 3)
  assert.match(out, 'hint     daemonguard run')
  const facts = JSON.parse(daemonguard('status', '--json').out)
  assert.equal([facts.healthy, facts.agent, facts.engine, facts.hint], [null, null, null, 'daemonguard run'])
})

test('what needs an engine says so when there is none, and stopping nothing is no error', () => {
  assert.is(daemonguard('checkpoint').code, 3)
  assert.match(daemonguard('checkpoint').err, 'hint: daemonguard run')
  assert.is(daemonguard('snapshot').code, 3)
  const stopped = daemonguard('stop', '--engine', '--json')
  assert.is(stopped.code, 0)
  assert.equal(JSON.parse(stopped.out), { agent: null, engine: null, engineRuns: false })
})

test('an error is told as JSON where facts were asked for as JSON', () => {
  const { code, out } = daemonguard('checkpoint', '--json')
  assert.is(code, 3)
  assert.is(JSON.parse(out).error.hint, 'daemonguard run')
})

test('lists of nothing are fine: no snapshots, an empty journal', () => {
  assert.equal(JSON.parse(daemonguard('snapshot', 'list', '--json').out).snapshots, [])
  const verified = daemonguard('journal', 'verify', '--json')
  assert.equal([verified.code, JSON.parse(verified.out).verdict], [0, 'clean'])
  assert.is(daemonguard('journal', 'verify', '/no/such/journal').code, 1)
})

test('scan of a file that is none is inconclusive or damaged, never clean, and needs no config', () => {
  const garbage = path.join(directory, 'garbage.duckdb')
  fs.writeFileSync(garbage, 'not a database')
  const scan = (file: string) => spawnSync(process.execPath, [main, 'scan', file, '--json'], { cwd: '/', encoding: 'utf8' })
  assert.is(scan('/no/such/file.duckdb').status, 3)
  assert.ok([1, 3].includes(scan(garbage).status ?? 0))
})

test('output into a pipe that closes early is no fault', () => {
  const { status, stderr } = spawnSync('sh', ['-c', `${process.execPath} ${main} --help | true`], { encoding: 'utf8' })
  assert.equal([status, stderr], [0, ''])
})

test.run()
