/** Which file is read, its defaults, and what relative paths refer to. */

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { defaultFiles, readConfigFile } from '../../agent/config/file.ts'
import { ConfigError, loadConfig } from '../../agent/config.ts'
import { temporaryDirectory } from '../support/temp.ts'
import { parse, problemsOf, registry } from './support.ts'

const test = suite('config file')

/** The one problem of a file that cannot be read. */
function refusal(read: () => unknown): string {
  try {
    read()
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    assert.is(error.exitCode, 78)
    assert.is(error.problems.length, 1)
    return error.describe()
  }
  throw new Error('it was read')
}

test('an empty file, an empty section and plugins: {} run with the defaults of the contract', () => {
  const config = parse('plugins: {}')
  assert.equal(config.agent, {
    name: os.hostname(),
    data_dir: '/var/lib/daemonguard',
    listen: { host: '127.0.0.1', port: 7788 },
    log: { level: 'info' },
    alerts: [],
    quiet_hours: [],
  })
  assert.equal(config.engine, {
    database: '/var/lib/daemonguard/trade_data.duckdb',
    listen: { host: '127.0.0.1', port: 5433 },
    socket_dir: '/var/lib/daemonguard',
    journal_dir: '/var/lib/daemonguard/journal',
    auth: { method: 'trust', socket: 'trust', users: [] },
    tls: null,
    schema: null,
    cpu_cores: 2,
    memory: 4_000_000_000,
    write_buffer: { rows: 100, max_delay: 2 },
    max_connections: 100,
    idle_in_transaction_timeout: 60_000,
    blocked_checkpoint_timeout: 300_000,
    external_access: false,
  })
  for (const text of ['', '# nothing\n', 'agent:\nengine:\nplugins:\n', 'engine: { write_buffer: , auth: }', '---\n']) {
    assert.equal({ ...parse(text) }, { ...config })
  }
})

test('relative paths: data_dir and schema from the config, database and journal from data_dir', () => {
  const { agent, engine } = parse(
    'agent: { data_dir: data }\nengine: { database: db/x.duckdb, journal_dir: ../j, schema: s.sql, socket_dir: run }',
    {
      file: '/srv/dg/config.yaml',
    },
  )
  assert.equal(
    [agent.data_dir, engine.database, engine.journal_dir, engine.schema, engine.socket_dir],
    ['/srv/dg/data', '/srv/dg/data/db/x.duckdb', '/srv/dg/j', '/srv/dg/s.sql', '/srv/dg/run'],
  )
})

test('a database is not called as what stands beside it', () => {
  for (const name of ['memory', 'Temp', 'system', 'main', 'daemonguard', 'pg_catalog', 'information_schema']) {
    const [problem, ...others] = problemsOf(`engine: { database: db/${name}.duckdb }`)
    assert.is(problem?.message, `the name ${name} has a meaning of its own beside the database`)
    assert.equal([problem?.line, problem?.key, others], [1, 'engine.database', []])
  }
  for (const name of ['postgres', 'information', 'trades.main']) assert.ok(parse(`engine: { database: ${name}.duckdb }`))
})

test('the socket lies in the runtime directory of a service, else in data_dir; null and Windows have none', () => {
  const socketDirectory = (text: string, env = {}, platform: NodeJS.Platform = 'linux') => parse(text, { env, platform }).engine.socket_dir
  const service = { INVOCATION_ID: 'x', RUNTIME_DIRECTORY: '/run/daemonguard' }
  assert.is(socketDirectory('', service), '/run/daemonguard')
  assert.is(socketDirectory('', { RUNTIME_DIRECTORY: '/run/other' }), '/var/lib/daemonguard')
  assert.is(socketDirectory('engine: { socket_dir: /run/mine }', service), '/run/mine')
  assert.is(socketDirectory('engine: { socket_dir: null }', service), null)
  assert.is(socketDirectory('', service, 'win32'), null)
})

test('an alert is a webhook or a command', () => {
  const { alerts } = parse('agent: { alerts: [{ webhook: "https://x/${T}" }, { exec: [page, --now] }] }', { env: { T: 't' } }).agent
  assert.equal(alerts, [{ webhook: 'https://x/t' }, { exec: ['page', '--now'] }])
})

test('the default places are the working directory, then the machine', () => {
  assert.equal(defaultFiles({}, 'linux', '/w'), ['/w/config.yaml', '/etc/daemonguard/config.yaml'])
  assert.is(defaultFiles({ ProgramData: 'D:\\PD' }, 'win32', '/w')[1], 'D:\\PD\\DaemonGuard\\config.yaml')
  const directory = temporaryDirectory('config')
  const [first, second] = [path.join(directory, 'a.yaml'), path.join(directory, 'b.yaml')]
  fs.writeFileSync(second, 'agent: { name: second }')
  assert.is(readConfigFile(undefined, [first, second]).file, second)
  fs.writeFileSync(first, 'agent: { name: first }')
  assert.is(readConfigFile(undefined, [first, second]).file, first)
})

test('no config anywhere is told with the places and the command that makes one', () => {
  const told = refusal(() => readConfigFile(undefined, ['/nowhere/config.yaml', '/nowhere/else.yaml']))
  assert.match(told, /no config found; looked for \/nowhere\/config\.yaml and \/nowhere\/else\.yaml/)
  assert.match(told, /cp config\.example\.yaml config\.yaml/)
})

test('a named file that is missing, a directory or no text is told as such, and no other is tried', () => {
  const directory = temporaryDirectory('config')
  const file = path.join(directory, 'config.yaml')
  assert.match(
    refusal(() => loadConfig({ file, registry })),
    /there is no such file/,
  )
  assert.match(
    refusal(() => loadConfig({ file: path.join(directory, 'config.yaml/x'), registry })),
    /there is no such file/,
  )
  assert.match(
    refusal(() => loadConfig({ file: directory, registry })),
    /it is a directory[\s\S]*-c .*config\.yaml/,
  )
  fs.writeFileSync(file, Buffer.from([0x61, 0x3a, 0x20, 0xff, 0xfe]))
  assert.match(
    refusal(() => loadConfig({ file, registry })),
    /it is not UTF-8 text/,
  )
})

test('a relative file is made absolute', () => {
  const directory = temporaryDirectory('config')
  fs.writeFileSync(path.join(directory, 'x.yaml'), 'agent: { data_dir: d }')
  const config = loadConfig({ file: path.relative(process.cwd(), path.join(directory, 'x.yaml')), registry })
  assert.is(config.file, path.join(directory, 'x.yaml'))
  assert.is(config.agent.data_dir, path.join(directory, 'd'))
})

test.run()
