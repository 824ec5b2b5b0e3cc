import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { isAlive } from '../support/process.ts'
import { waitFor } from '../support/wait.ts'
import { Stage } from './stage.ts'

const test = suite('agent')
let stage: Stage

test.before(async () => {
  stage = await Stage.prepare()
})
test.after.each(() => stage.killAgents())
test.after(() => stage.killEngine())

test('run starts an engine that clients can use, and says where', async () => {
  const agent = await stage.run()
  assert.match(agent.stdout(), `port=${stage.port}`)
  assert.match(agent.stdout(), `http://127.0.0.1:${stage.statusPort}/`)
  const result = await stage.sql(
    'CREATE TABLE t (i INTEGER PRIMARY KEY)',
    'INSERT INTO t VALUES (1), (2)',
    'SELECT count(*)::INTEGER AS n FROM t',
  )
  assert.is(result.rows[0].n, 2)
  const file = JSON.parse(fs.readFileSync(path.join(stage.data, 'agent.json'), 'utf8'))
  assert.is(isAlive(file.pid), true)
  await agent.kill('SIGTERM')
})

test('SIGTERM ends the agent with exit code 0 and leaves engine and clients alone; the next agent adopts the engine', async () => {
  const first = await stage.run()
  const engine = stage.enginePid() as number
  assert.equal(await first.kill('SIGTERM'), { code: 0, signal: null })
  assert.equal([fs.existsSync(path.join(stage.data, 'agent.json')), fs.existsSync(path.join(stage.data, 'agent.sock'))], [false, false])
  assert.ok(isAlive(engine))
  await stage.sql('INSERT INTO t VALUES (3)')
  const without = await stage.facts('status')
  assert.equal([without.code, without.facts.healthy, without.facts.engine.pid], [3, null, engine])
  const second = await stage.run()
  assert.is(stage.enginePid(), engine)
  const { facts } = await stage.facts('status')
  assert.equal([facts.engine.supervision, facts.engine.status.pid], ['adopted', engine])
  await second.kill('SIGTERM')
})

test('a second agent on the same data directory refuses with the pid of the first', async () => {
  const first = await stage.run()
  const { pid } = JSON.parse(fs.readFileSync(path.join(stage.data, 'agent.json'), 'utf8'))
  const second = stage.start()
  const { code } = await second.exited
  assert.is(code, 75)
  assert.match(second.stderr(), `pid ${pid}`)
  assert.is((await stage.facts('status')).facts.agent.pid, pid)
  await first.kill('SIGTERM')
})

test('status, the pages and the metrics agree that all is well', async () => {
  const agent = await stage.run()
  await waitFor('all is well', async () => (await stage.facts('status')).code === 0, { deadline: 30_000, every: 200 })
  const { facts } = await stage.facts('status')
  assert.equal([facts.healthy, facts.problems, facts.agent.name], [true, [], 'host-1'])
  assert.is((await stage.get('/readyz')).status, 200)
  assert.is((await stage.get('/healthz')).status, 200)
  assert.match(await (await stage.get('/metrics')).text(), 'daemonguard_engine_up 1\n')
  assert.match(await (await stage.get('/')).text(), 'Everything is well')
  assert.is(((await (await stage.get('/api/status')).json()) as { engine: { state: string } }).engine.state, 'up')
  assert.match((await stage.daemonguard('status')).out, 'all is well')
  await agent.kill('SIGTERM')
})

test('a killed engine serves again at once, is an incident that is closed, and nothing is lost', async () => {
  const agent = await stage.run()
  const engine = stage.enginePid() as number
  await stage.sql('INSERT INTO t VALUES (10)')
  process.kill(engine, 'SIGKILL')
  await waitFor('another engine serves', async () => (await stage.sql('SELECT 1')).rowCount === 1 && stage.enginePid() !== engine)
  assert.is((await stage.sql('SELECT * FROM t WHERE i = 10')).rowCount, 1)
  await waitFor('the incident is closed', async () => {
    const [incident] = (await stage.facts('status')).facts.incidents
    return incident?.cause === 'engine-died' && incident.closedAt !== null && incident.loss === 0
  })
  await agent.kill('SIGTERM')
})

test('scan, checkpoint, snapshot and journal work beside the agent', async () => {
  const agent = await stage.run()
  await stage.sql('INSERT INTO t VALUES (20)')
  const checkpoint = await stage.facts('checkpoint')
  assert.is(checkpoint.code, 0)
  assert.ok(checkpoint.facts.watermark > 0)
  const scan = await stage.facts('scan')
  assert.equal([scan.code, scan.facts.verdict], [0, 'clean'])
  const snapshot = await stage.facts('snapshot')
  assert.equal([snapshot.code, snapshot.facts.seq], [0, checkpoint.facts.watermark])
  const list = await stage.facts('snapshot', 'list')
  assert.ok(list.facts.snapshots.some((each: { file: string }) => each.file === snapshot.facts.file))
  const verified = await stage.facts('journal', 'verify')
  assert.equal([verified.code, verified.facts.verdict], [0, 'clean'])
  const { out } = await stage.daemonguard('journal', 'cat')
  const changes = out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.ok(changes.some((change) => change.kind === 'insert' && change.table === 'main.t' && change.row.i === 20))
  await agent.kill('SIGTERM')
})

test('restore puts a snapshot in place and replays the journal: nothing is lost, with an agent and without', async () => {
  const agent = await stage.run()
  await stage.sql('INSERT INTO t VALUES (30)')
  const before = (await stage.sql('SELECT count(*)::INTEGER AS n, sum(i)::INTEGER AS s FROM t')).rows
  const online = await stage.facts('restore')
  assert.equal([online.code, online.facts.serving, online.facts.loss], [0, true, 0])
  assert.equal((await stage.sql('SELECT count(*)::INTEGER AS n, sum(i)::INTEGER AS s FROM t')).rows, before)
  await agent.kill('SIGTERM')
  const offline = await stage.facts('restore', '--snapshot', String(online.facts.snapshot.seq))
  assert.equal([offline.code, offline.facts.serving, offline.facts.loss], [0, false, 0])
  const again = await stage.run()
  assert.equal((await stage.sql('SELECT count(*)::INTEGER AS n, sum(i)::INTEGER AS s FROM t')).rows, before)
  assert.is((await stage.facts('restore', '--snapshot', 'nonsense')).code, 1)
  await again.kill('SIGTERM')
})

test('SIGHUP says what a restart would change, and a broken config changes nothing', async () => {
  const agent = await stage.run()
  stage.configure('{ watchdog: { timeout: 3s } }', ', quiet_hours: ["Mon-Fri 09:30-16:00 America/New_York"]')
  process.kill(JSON.parse(fs.readFileSync(path.join(stage.data, 'agent.json'), 'utf8')).pid, 'SIGHUP')
  await waitFor('the changes are named', () => agent.stdout().includes('agent.quiet_hours') && agent.stdout().includes('plugins.watchdog'))
  fs.writeFileSync(stage.config, 'agent: { nonsense: 1 }\n')
  process.kill(JSON.parse(fs.readFileSync(path.join(stage.data, 'agent.json'), 'utf8')).pid, 'SIGHUP')
  await waitFor('the mistake is named', () => agent.stdout().includes('not usable'))
  assert.is((await stage.get('/healthz')).status, 200)
  stage.configure('{}')
  await agent.kill('SIGTERM')
})

test('a local plugin that fails is unhealthy, one that throws out of the blue is contained, and everything else goes on', async () => {
  fs.writeFileSync(
    path.join(stage.directory, 'failing.mjs'),
    `export default { name: 'failing', start() { throw new Error('no luck today') } }\n`,
  )
  fs.writeFileSync(
    path.join(stage.directory, 'thrower.mjs'),
    `export default { name: 'thrower', async start(context) {
      context.onDurable(() => setTimeout(() => { throw new Error('out of the blue') }))
      return { health: () => ({ healthy: true, summary: 'well', facts: { answer: 42 } }), async stop() {} }
    } }\n`,
  )
  stage.configure('{ ./failing.mjs: {}, ./thrower.mjs: {} }')
  const agent = await stage.run()
  await stage.sql('INSERT INTO t VALUES (50)')
  await waitFor('the fault is an incident', async () => {
    const { facts } = await stage.facts('status')
    return facts.incidents.some(({ cause }: { cause: string }) => cause === 'agent-fault')
  })
  const { code, facts } = await stage.facts('status')
  assert.is(code, 1)
  assert.match(facts.problems.join('\n'), 'failing: does not start: no luck today')
  assert.is(facts.engine.state, 'up')
  assert.match(await (await stage.get('/metrics')).text(), 'daemonguard_thrower_answer 42\n')
  assert.is((await stage.get('/readyz')).status, 503)
  assert.is((await agent.kill('SIGTERM')).code, 0)
  stage.configure('{}')
})

test('an agent whose status port is taken guards all the same, and says so', async () => {
  const server = http.createServer().listen(stage.statusPort, '127.0.0.1')
  const agent = await stage.run()
  const { code, facts } = await stage.facts('status')
  server.closeAllConnections()
  server.close()
  assert.equal([code, facts.engine.state, facts.agent.statusPage], [1, 'up', null])
  assert.match(facts.problems.join('\n'), 'EADDRINUSE')
  await agent.kill('SIGTERM')
})

test('stop --engine ends both, and the next start finds everything', async () => {
  const agent = await stage.run()
  const engine = stage.enginePid() as number
  const stopped = await stage.facts('stop', '--engine')
  assert.equal([stopped.code, stopped.facts.engineRuns], [0, false])
  assert.not(isAlive(engine))
  assert.is((await agent.exited).code, 0)
  const next = await stage.run()
  assert.ok(((await stage.sql('SELECT * FROM t')).rowCount as number) >= 5)
  assert.is((await stage.daemonguard('stop')).code, 0)
  assert.is((await next.exited).code, 0)
  assert.is((await stage.daemonguard('stop', '--engine')).code, 0)
  assert.is((await stage.daemonguard('status')).code, 3)
})

test.run()
