/** The environment of a config: directories, ports, files, commands. Nothing is created by looking. */

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { checkEnvironment } from '../../agent/check.ts'
import { type Config, formatProblems, problemsToJson } from '../../agent/config.ts'
import { onExit } from '../support/cleanup.ts'
import { freePort } from '../support/ports.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { parse } from './support.ts'

const test = suite('config check')

/** A config in a directory of its own, on free ports; `more` is added to the sections. */
async function configIn(directory: string, more: { agent?: string; engine?: string } = {}): Promise<Config> {
  const [agentPort, enginePort] = [await freePort(), await freePort()]
  const text = [
    'agent:',
    '  data_dir: data',
    `  listen: 127.0.0.1:${agentPort}`,
    ...(more.agent === undefined ? [] : [`  ${more.agent}`]),
    'engine:',
    `  listen: 127.0.0.1:${enginePort}`,
    ...(more.engine === undefined ? [] : [`  ${more.engine}`]),
  ]
  return parse(`${text.join('\n')}\n`, { file: path.join(directory, 'config.yaml') })
}

/** A server that is closed at the end of `use`. */
async function listening(where: net.ListenOptions, use: () => Promise<void>): Promise<void> {
  const server = net.createServer((socket) => socket.destroy())
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(where, resolve))
  try {
    await use()
  } finally {
    await new Promise((resolve) => server.close(resolve))
  }
}

test('a config that suits the machine has no problem, and nothing is created', async () => {
  const directory = temporaryDirectory('check')
  assert.equal(await checkEnvironment(await configIn(directory)), [])
  assert.equal(fs.readdirSync(directory), [])
})

test('a file where a directory must be is told by line, for data, journal and socket', async () => {
  const directory = temporaryDirectory('check')
  fs.writeFileSync(path.join(directory, 'file'), '')
  const told = async (more: { agent?: string; engine?: string }, from: (config: Config) => Config = (config) => config) =>
    (await checkEnvironment(from(await configIn(directory, more)))).map(({ line, key, message }) => `${line} ${key}: ${message}`)
  assert.equal(await told({ engine: `journal_dir: ${directory}/file/journal` }), [
    `6 engine.journal_dir: ${directory}/file is not a directory, so that ${directory}/file/journal cannot be created`,
  ])
  assert.equal(await told({ engine: `socket_dir: ${directory}/file` }), [`6 engine.socket_dir: ${directory}/file is not a directory`])
  assert.equal(await told({ engine: `database: ${directory}` }), [`6 engine.database: ${directory} is not a file`])
  fs.writeFileSync(path.join(directory, 'data'), '')
  const [data, ...rest] = await told({})
  assert.is(data, `2 agent.data_dir: ${directory}/data is not a directory`)
  assert.equal(rest, [])
})

test('a directory that this user may not write, or not even see, is told with the command that makes it', () => {
  // Not in TMPDIR: the runner's is closed to other users, which would be the first thing found.
  const directory = fs.mkdtempSync('/tmp/check-')
  onExit(() => fs.rmSync(directory, { recursive: true, force: true }))
  fs.mkdirSync(path.join(directory, 'hidden'), { mode: 0o000 })
  fs.mkdirSync(path.join(directory, 'locked'), { mode: 0o555 })
  fs.chmodSync(directory, 0o555)
  try {
    const [locked, hidden] = checkedByAnybody(directory, 'locked/data', 'hidden/below/data')
    assert.match(locked!.message, /locked is not writable for this user, so that .*locked\/data cannot be created/)
    assert.match(locked!.hint, /sudo install -d .*locked\/data/)
    assert.match(hidden!.message, /hidden\/below\/data: permission denied/)
  } finally {
    for (const each of ['hidden', 'locked', '.']) fs.chmodSync(path.join(directory, each), 0o700)
  }
})

/** The first problem with each `data_dir`, as a process finds it that is not root. */
function checkedByAnybody(directory: string, ...dataDirectories: string[]): { message: string; hint: string }[] {
  const root = path.resolve(import.meta.dirname, '../..')
  const script = `
    import { checkEnvironment } from '${root}/agent/check.ts'
    import { parseConfig } from '${root}/agent/config.ts'
    if (process.getuid() === 0) process.setuid(65534)
    const found = []
    for (const data of ${JSON.stringify(dataDirectories)}) {
      const config = parseConfig('agent: { data_dir: ' + data + ', listen: "127.0.0.1:0" }\\nengine: { listen: "127.0.0.1:0" }', { file: '${directory}/config.yaml' })
      found.push((await checkEnvironment(config))[0])
    }
    console.log(JSON.stringify(found))`
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  assert.is(run.status, 0, run.stderr)
  return JSON.parse(run.stdout)
}

test('a schema that is missing or a directory is told', async () => {
  const directory = temporaryDirectory('check')
  const [missing] = await checkEnvironment(await configIn(directory, { engine: 'schema: schema.sql' }))
  assert.is(`${missing?.line}:${missing?.column} ${missing?.message}`, `6:11 there is no file ${directory}/schema.sql`)
  fs.mkdirSync(path.join(directory, 'schema.sql'))
  const [wrong] = await checkEnvironment(await configIn(directory, { engine: 'schema: schema.sql' }))
  assert.match(wrong?.message ?? '', /schema\.sql is not a file/)
})

test('a port that another program has is told; one of our own engine is fine', async () => {
  const directory = temporaryDirectory('check')
  const config = await configIn(directory)
  const { data_dir } = config.agent
  await listening(config.engine.listen, async () => {
    const [taken, ...rest] = await checkEnvironment(config)
    assert.is(
      `${taken?.line} ${taken?.key}: ${taken?.message}`,
      `5 engine.listen: port ${config.engine.listen.port} is in use by another program`,
    )
    assert.match(taken!.hint, new RegExp(`ss -ltnp .*:${config.engine.listen.port}`))
    assert.equal(rest, [])

    fs.mkdirSync(data_dir)
    const serving = path.join(data_dir, 'engine.json')
    fs.writeFileSync(serving, JSON.stringify({ pid: process.pid, listen: config.engine.listen }))
    assert.is((await checkEnvironment(config)).length, 1, 'a file that a killed engine left behind proves nothing')
    await listening({ path: path.join(data_dir, 'control.sock') }, async () => {
      assert.equal(await checkEnvironment(config), [])
      fs.writeFileSync(serving, JSON.stringify({ pid: process.pid, listen: { host: '127.0.0.1', port: 1 } }))
      assert.is((await checkEnvironment(config)).length, 1, 'our engine listens elsewhere, so the port is not ours')
    })
  })
})

test('a password that stands in a config which every user can read is told; a verifier or a variable is not', async () => {
  const directory = temporaryDirectory('check')
  fs.writeFileSync(path.join(directory, 'config.yaml'), '', { mode: 0o644 })
  const verifier = `SCRAM-SHA-256$4096:AAAA$${'A'.repeat(43)}=:${'A'.repeat(43)}=`
  const users = `{ name: a, password: x }, { name: b, password: "${verifier}" }, { name: c, password: "\${PW:-x}" }`
  const config = await configIn(directory, { engine: `auth: { method: scram-sha-256, users: [${users}] }` })
  const [problem, ...rest] = await checkEnvironment(config)
  assert.equal([problem?.line, problem?.key, rest], [6, 'engine.auth.users[0].password', []])
  assert.match(`${problem?.message} ${problem?.hint}`, /every user of this machine may use it.* chmod 600 .*daemonguard password/)
  fs.chmodSync(path.join(directory, 'config.yaml'), 0o640)
  assert.equal(await checkEnvironment(config), [])
})

test('an address that this machine does not have is told', async () => {
  const directory = temporaryDirectory('check')
  const config = await configIn(directory)
  // A loopback config cannot name one, so the parsed one is changed.
  const foreign = { ...config, agent: { ...config.agent, listen: { host: '192.0.2.1', port: 7788 } } }
  assert.match((await checkEnvironment(foreign))[0]?.message ?? '', /192\.0\.2\.1 is no address of this machine/)
})

test('the command of an alert must be there', async () => {
  const directory = temporaryDirectory('check')
  const [problem] = await checkEnvironment(
    await configIn(directory, { agent: 'alerts: [{ exec: [no-such-command-here, x] }, { exec: [node] }]' }),
  )
  assert.is(`${problem?.line} ${problem?.key}: ${problem?.message}`, '4 agent.alerts[0].exec: there is no such command for this user')
})

test('problems are told to people as lines with a hint, and to programs as JSON', () => {
  const problems = [
    { line: 3, column: 5, key: 'engine.memory', message: 'wrong', hint: 'write 4GB' },
    { line: null, column: null, key: '', message: 'missing', hint: 'cp a b' },
  ]
  assert.is(
    formatProblems(problems, '/c.yaml'),
    '/c.yaml: 2 problems\n  missing\n    hint: cp a b\n  line 3, column 5: engine.memory: wrong\n    hint: write 4GB',
  )
  assert.is(formatProblems([], '/c.yaml'), '/c.yaml: ok')
  assert.equal(problemsToJson([problems[0]!], '/c.yaml'), { file: '/c.yaml', ok: false, problems: [problems[0]] })
})

test.run()
