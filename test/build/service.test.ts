// deadline: 400s
// needs: container, psql
/**
 * The service as an operator has it: install.sh and the packed executable in a booted Debian with systemd. One machine, from nothing to nothing:
 * the tests follow each other.
 */

import fs from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Container } from '../support/container.ts'
import { runChild } from '../support/process.ts'
import { soak } from '../support/soak.ts'
import { waitFor } from '../support/wait.ts'
import { builtExecutable } from './built.ts'

const patience = 60_000
// More deaths in a row, and the supervisor would call the engine flapping: not well.
const rounds = soak ? 2 : 1
const socket = '/run/daemonguard'
let machine: Container
let before: string[]
let distribution: string

test.before(async () => {
  distribution = path.dirname(await builtExecutable())
  machine = await Container.boot()
  before = await files()
  copyDistribution()
})

function copyDistribution(): void {
  for (const name of ['daemonguard', 'daemonguard.service', 'install.sh', 'SHA256SUMS'])
    fs.cpSync(path.join(distribution, name), path.join(machine.root, 'opt/dist', name))
}

test.after(() => machine?.stop())

/** Everything on the machine that an installation could leave: no process' state, no log of systemd's own. */
async function files(): Promise<string[]> {
  const found = await machine.must(
    ...(['find', '/', '-xdev', '(', '-path', '/proc', '-o', '-path', '/tmp', '-o', '-path', '/var/tmp', ')', '-prune'] as const),
    ...['-o', '-path', '/var/log/journal', '-prune', '-o', '-path', '/var/lib/systemd', '-prune', '-o', '-print'],
  )
  return found.split('\n').sort()
}

/** Of every process on the machine. */
function commandLines(): string[] {
  const proc = machine.path('/proc')
  return fs
    .readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => fs.readFileSync(path.join(proc, pid, 'cmdline'), 'utf8'))
}

async function psql(sql: string): Promise<string> {
  const args = ['-h', machine.path(socket), '-p', '5433', '-U', 'trader', '-d', 'trade_data', '-Atc', sql]
  const { code, stdout, stderr } = await runChild('psql', args)
  if (code !== 0) throw new Error(`psql: ${stderr}`)
  return stdout.trim()
}

interface Status {
  healthy: boolean
  agent: { pid: number; version: string }
  engine: { state: string; status: { pid: number } | null }
}

async function status(): Promise<Status> {
  return JSON.parse((await machine.run('daemonguard', 'status', '--json')).stdout) as Status
}

async function healthy(condition: (status: Status) => boolean = () => true): Promise<Status> {
  let last: Status | undefined
  await waitFor(
    'the service is healthy',
    async () => {
      last = await status()
      return last.healthy && last.engine.state === 'up' && condition(last)
    },
    { deadline: patience, every: 100 },
  ).catch(async (error: Error) => {
    const log = await machine.run('journalctl', '-u', 'daemonguard', '-n', '30', '--no-pager')
    throw new Error(`${error.message}: ${JSON.stringify(last)}\n${log.stdout}`, { cause: error })
  })
  return last as Status
}

test('one command makes a healthy service out of nothing; trades come in', async () => {
  const said = await machine.must('sh', '/opt/dist/install.sh')
  assert.match(said, /all is well/)
  assert.is((await machine.must('systemctl', 'is-active', 'daemonguard')).trim(), 'active')
  assert.match(await machine.must('systemctl', 'show', '-p', 'StatusText', 'daemonguard'), /guarding the engine, pid \d+/)
  await psql('CREATE TABLE trades (trade_id BIGINT PRIMARY KEY, price DECIMAL(18,8), quantity DOUBLE)')
  await psql('INSERT INTO trades SELECT i, 40000 + i, 0.5 FROM range(1000) r(i)')
  assert.is(await psql('SELECT count(*) FROM trades'), '1000')
})

test('the unit gives the service little to break: systemd rates its exposure at 2.5 or less', async () => {
  const rating = (await machine.run('systemd-analyze', 'security', '--no-pager', 'daemonguard')).stdout
  const level = Number(/exposure level for daemonguard.service: ([\d.]+)/.exec(rating)?.[1])
  process.stdout.write(`systemd-analyze security: ${level}\n`)
  assert.ok(level <= 2.5, rating)
})

test('SIGKILL to the agent: systemd starts another, which adopts the engine; SIGKILL to the engine: the agent starts another', async () => {
  for (let round = 0; round < rounds; round++) {
    const was = await healthy()
    await machine.must('systemctl', 'kill', '--kill-whom=main', '-s', 'KILL', 'daemonguard')
    const adopted = await healthy(({ agent }) => agent.pid !== was.agent.pid)
    assert.is(adopted.engine.status?.pid, was.engine.status?.pid)
    await machine.must('sh', '-c', `kill -KILL ${was.engine.status?.pid}`)
    const restarted = await healthy(({ engine }) => engine.status !== null && engine.status.pid !== was.engine.status?.pid)
    assert.is(restarted.agent.pid, adopted.agent.pid)
    assert.is(await psql('SELECT count(*) FROM trades'), '1000')
  }
})

test('an agent that hangs feeds no watchdog: systemd replaces it, the engine goes on', async () => {
  const dropIn = '/etc/systemd/system/daemonguard.service.d'
  fs.mkdirSync(path.join(machine.root, dropIn))
  fs.writeFileSync(path.join(machine.root, dropIn, 'test.conf'), '[Service]\nWatchdogSec=4\n')
  await machine.must('systemctl', 'daemon-reload')
  await machine.must('systemctl', 'restart', 'daemonguard')
  const was = await healthy()
  await machine.must('systemctl', 'kill', '--kill-whom=main', '-s', 'STOP', 'daemonguard')
  await waitFor('systemd replaces the agent', async () => (await mainPid()) !== was.agent.pid, { deadline: patience, every: 200 })
  const now = await healthy(({ agent }) => agent.pid !== was.agent.pid)
  assert.is(now.engine.status?.pid, was.engine.status?.pid)
  assert.match((await machine.run('journalctl', '-u', 'daemonguard', '--no-pager')).stdout, /[Ww]atchdog timeout/)
  fs.rmSync(path.join(machine.root, dropIn), { recursive: true })
  await machine.must('systemctl', 'daemon-reload')
})

async function mainPid(): Promise<number> {
  return Number((await machine.must('systemctl', 'show', '--value', '-p', 'MainPID', 'daemonguard')).trim())
}

test('a reload with a mistake in the configuration fails, an upgrade refuses it, and nothing changes', async () => {
  const config = path.join(machine.root, 'etc/daemonguard/config.yaml')
  const text = fs.readFileSync(config, 'utf8')
  const was = await healthy()
  await machine.must('systemctl', 'reload', 'daemonguard')
  fs.writeFileSync(config, `${text}\nmistake: 1\n`)
  assert.is((await machine.run('systemctl', 'reload', 'daemonguard')).code, 1)
  const { code, stderr } = await machine.run('sh', '/opt/dist/install.sh')
  assert.is(code, 1)
  assert.match(stderr, /refuses .*config.yaml; nothing was replaced/)
  fs.writeFileSync(config, text)
  assert.is((await healthy()).agent.pid, was.agent.pid)
})

/** Writes one row after the other until it is told to stop; counts what was acknowledged and what was refused. */
async function writer(first: number): Promise<{ stop(): Promise<{ acknowledged: number; refused: string[] }> }> {
  const client = new pg.Client({ host: machine.path(socket), port: 5433, user: 'trader', database: 'trade_data' })
  client.on('error', () => {})
  await client.connect()
  let stopped = false
  const tally = { acknowledged: 0, refused: [] as string[] }
  const running = (async () => {
    for (let id = first; !stopped; id++) {
      try {
        await client.query('INSERT INTO trades VALUES ($1, 1, 1)', [id])
        tally.acknowledged++
      } catch (error) {
        tally.refused.push(String(error))
        return
      }
    }
  })()
  return {
    async stop() {
      stopped = true
      await running
      await client.end()
      return tally
    },
  }
}

test('an upgrade under load loses and refuses no write: the engine goes on, the new agent adopts it', async () => {
  const was = await healthy()
  const load = await writer(10_000)
  await machine.must('/opt/dist/daemonguard', 'service', 'install')
  const { acknowledged, refused } = await load.stop()
  const now = await healthy()
  assert.is.not(now.agent.pid, was.agent.pid)
  assert.is(now.engine.status?.pid, was.engine.status?.pid)
  assert.equal(refused, [])
  assert.ok(acknowledged > 0)
  assert.is(await psql('SELECT count(*) FROM trades WHERE trade_id >= 10000'), String(acknowledged))
})

test('an upgrade that does not become healthy is taken back by itself, under load', async () => {
  const was = await healthy()
  const load = await writer(1_000_000)
  // It answers as a new version would, until it is to work.
  const broken = path.join(machine.root, 'opt/broken')
  fs.writeFileSync(broken, '#!/bin/sh\n[ "$1" != run ] || exit 1\n[ "$1" != --version ] || echo 9.9.9\nexit 0\n', { mode: 0o755 })
  const { code, stdout, stderr } = await machine.run('sh', '/opt/dist/install.sh', '/opt/broken')
  const { acknowledged, refused } = await load.stop()
  assert.is(code, 1)
  assert.match(stdout, /the old one is put back/)
  assert.match(stderr, /the upgrade to 9\.9\.9 failed/)
  const now = await healthy()
  assert.is(now.agent.version, was.agent.version)
  assert.is(now.engine.status?.pid, was.engine.status?.pid)
  assert.equal(refused, [])
  assert.is(await psql('SELECT count(*) FROM trades WHERE trade_id >= 1000000'), String(acknowledged))
})

test('after a reboot the service is back by itself, with every row', async () => {
  const rows = await psql('SELECT count(*) FROM trades')
  await machine.reboot()
  await healthy()
  assert.is(await psql('SELECT count(*) FROM trades'), rows)
})

test('uninstalling keeps the data, purging leaves nothing: the files are those of before', async () => {
  await machine.must('daemonguard', 'service', 'uninstall')
  assert.ok(fs.existsSync(path.join(machine.root, 'var/lib/daemonguard/trade_data.duckdb')))
  await machine.must('sh', '/opt/dist/install.sh', '--uninstall', '--purge')
  fs.rmSync(path.join(machine.root, 'opt/dist'), { recursive: true })
  fs.rmSync(path.join(machine.root, 'opt/broken'))
  const after = await files()
  assert.equal(
    after.filter((file) => !before.includes(file)),
    [],
  )
  assert.equal(
    before.filter((file) => !after.includes(file)),
    [],
  )
  assert.equal(
    commandLines().filter((line) => line.includes('daemonguard')),
    [],
  )
  for (const file of ['passwd', 'group', 'shadow', 'gshadow'])
    assert.not.match(fs.readFileSync(path.join(machine.root, 'etc', file), 'utf8'), /daemonguard/, file)
})

test('without root it is a service of the user, under their own systemd; uninstalled, it leaves nothing in their home', async () => {
  copyDistribution()
  await machine.must('useradd', '--create-home', 'trader')
  const uid = (await machine.must('id', '-u', 'trader')).trim()
  const home = '/home/trader'
  const asTrader = (...command: [string, ...string[]]) =>
    machine.run(...(['runuser', '-u', 'trader', '--', 'env', `HOME=${home}`, `XDG_RUNTIME_DIR=/run/user/${uid}`] as const), ...command)
  await machine.must('loginctl', 'enable-linger', 'trader')
  await waitFor('the systemd of the user', async () => (await asTrader('systemctl', '--user', 'show-environment')).code === 0, {
    deadline: patience,
  })
  const homeFiles = async () => (await machine.must('find', home, '-not', '-type', 'd')).split('\n').sort()
  const was = await homeFiles()
  const { code, stdout, stderr } = await asTrader('sh', '/opt/dist/install.sh')
  assert.is(code, 0, stdout + stderr)
  assert.match(stdout, /all is well/)
  const daemonguard = [`${home}/.local/bin/daemonguard`, 'status', '--json', '-c', `${home}/.config/daemonguard/config.yaml`] as const
  const facts = async () => JSON.parse((await asTrader(...daemonguard)).stdout) as Status
  const first = await facts()
  assert.ok(commandLines().some((line) => line.includes(`${home}/.local/bin/daemonguard\0engine`)))
  assert.is((await asTrader('systemctl', '--user', 'restart', 'daemonguard')).code, 0)
  await waitFor('the next agent adopts the engine', async () => (await facts()).engine.status?.pid === first.engine.status?.pid, {
    deadline: patience,
  })
  const removed = await asTrader('sh', '/opt/dist/install.sh', '--uninstall', '--purge')
  assert.is(removed.code, 0, removed.stdout + removed.stderr)
  assert.equal(await homeFiles(), was)
  assert.equal(
    commandLines().filter((line) => line.includes('daemonguard')),
    [],
  )
})

test.run()
