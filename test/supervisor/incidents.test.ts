/** The incident log: durable, newest first, and no obstacle to a recovery. */

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { IncidentStore } from '../../agent/incidents.ts'
import { silentLog } from '../../agent/log.ts'
import type { Incident } from '../../agent/plugin.ts'
import { Outage } from '../../agent/supervisor/outage.ts'
import { createTestClock } from '../support/clock.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('incidents')

function setUp(directory = path.join(temporaryDirectory('in'), 'incidents')) {
  const clock = createTestClock()
  return { directory, clock, store: new IncidentStore({ directory, clock, log: silentLog }) }
}

const fault = { severity: 'warning', cause: 'engine-died', message: 'it died' } as const

test('incidents outlive the agent, newest first, with what was done and measured', () => {
  const { directory, store, clock } = setUp()
  const first = store.open(fault)
  clock.advance(1000)
  const second = store.open({
    ...fault,
    cause: 'journal-corrupt',
    severity: 'critical',
    loss: 'unknown',
    evidence: { seq: 12n },
    hint: 'daemonguard status',
  })
  store.change(first, { actions: ['restarted'], evidence: { pid: 7 } })
  store.close(first, { actions: ['serves again'], downtimeMs: 120, loss: { firstSeq: 1, lastSeq: 2, tables: ['main.trades'] } })
  const [newest, oldest, ...rest] = setUp(directory).store.list()
  assert.is(rest.length, 0)
  assert.equal(newest, { ...second, evidence: { seq: '12' } })
  assert.is(newest?.closedAt, null)
  assert.equal(oldest, first)
  assert.equal(oldest?.actions, ['restarted', 'serves again'])
  assert.is(oldest?.downtimeMs, 120)
  assert.ok((oldest?.closedAt ?? 0) >= (oldest?.openedAt ?? Number.POSITIVE_INFINITY))
})

test('an operator closes what names a loss, with a reason, and whoever opened it cannot open it again', () => {
  const { directory, store, clock } = setUp()
  const gap = store.open({ ...fault, cause: 'journal-gap', loss: { firstSeq: 3, lastSeq: 4, tables: [] } })
  const outage = store.open(fault)
  clock.advance(1000)
  const { closedAt } = store.settle(gap.id, 'rows 3 and 4 were test orders')
  assert.type(closedAt, 'number')
  clock.advance(1000)
  // Its owner learns more.
  store.change(gap, { evidence: { more: true } })
  const found = setUp(directory).store.get(gap.id)
  assert.is(found?.closedAt, closedAt)
  assert.equal(found?.actions, ['closed by an operator: rows 3 and 4 were test orders'])
  assert.equal(found?.loss, { firstSeq: 3, lastSeq: 4, tables: [] }, 'what is lost stays said')
  assert.throws(() => store.settle(gap.id, 'again'), /was closed at/)
  assert.throws(() => store.settle(outage.id, 'enough'), /names no loss: it closes by itself/)
  for (const id of ['nowhere', '../identity', '']) assert.throws(() => store.settle(id, 'x'), /there is no incident/)
})

test('what a dead agent left open is closed by the next one, but for a loss and the outage that goes on', () => {
  const { directory, store, clock } = setUp()
  const opened = ['redis-unreachable', 'journal-gap', 'engine-died', 'plugin-failed'].map((cause) =>
    store.open({ ...fault, cause, loss: cause === 'journal-gap' ? { firstSeq: 1, lastSeq: 2, tables: [] } : 0 }),
  )
  store.close(opened[3] as Incident)
  clock.advance(1000)
  const next = setUp(directory).store
  next.closeLeft(opened[2]?.id ?? null)
  const open = setUp(directory)
    .store.list()
    .filter(({ closedAt }) => closedAt === null)
  assert.equal(open.map(({ cause }) => cause).sort(), ['engine-died', 'journal-gap'])
  assert.match(next.get(opened[0]?.id as string)?.actions.join() ?? '', 'reported anew')
  assert.equal(next.get(opened[3]?.id as string)?.actions, [])
})

test('two incidents of one cause in one millisecond are two', () => {
  const { store, clock } = setUp()
  const now = clock.now()
  clock.now = () => now
  const ids = [store.open(fault).id, store.open(fault).id]
  assert.is.not(ids[0], ids[1])
  assert.is(store.list().length, 2)
})

test('an unreadable file hides no other, and a limit takes the newest', () => {
  const { directory, store, clock } = setUp()
  store.open(fault)
  clock.advance(1000)
  const newest = store.open(fault)
  fs.writeFileSync(path.join(directory, '99991231T000000.000Z-torn.json'), '{"version":1,')
  fs.writeFileSync(path.join(directory, '99991231T000001.000Z-future.json'), '{"version":2}')
  assert.is(store.list().length, 2)
  assert.equal(
    store.list(1).map(({ id }) => id),
    [newest.id],
  )
})

test('what cannot be written is kept, shown, and written with the next change', () => {
  const { directory, store } = setUp()
  fs.writeFileSync(directory, 'a file where the directory should be')
  const incident = store.open(fault)
  assert.equal(store.list(), [incident])
  fs.rmSync(directory)
  store.close(incident, { downtimeMs: 5 })
  assert.is(setUp(directory).store.get(incident.id)?.downtimeMs, 5)
})

test('what could not be written goes out with another one, and when incidents are listed', () => {
  const { directory, store, clock } = setUp()
  const written = () => setUp(directory).store.list().length
  fs.writeFileSync(directory, 'a file where the directory should be')
  for (let i = 0; i < 2; i++, clock.advance(1000)) store.open(fault)
  fs.rmSync(directory)
  store.open(fault)
  assert.is(written(), 3)
  fs.renameSync(directory, `${directory}-away`)
  fs.writeFileSync(directory, 'a file where the directory should be')
  clock.advance(1000)
  store.open(fault)
  fs.rmSync(directory)
  fs.renameSync(`${directory}-away`, directory)
  assert.is(store.list().length, 4)
  assert.is(written(), 4)
})

test('an outage is one incident across agents: losses add up, unknown stays unknown', () => {
  const { directory, store, clock } = setUp()
  const outage = new Outage(store, clock, null)
  outage.open(fault)
  outage.open({ ...fault, severity: 'critical', message: 'it died again' })
  outage.note('restored a snapshot', { loss: { firstSeq: 4, lastSeq: 6, tables: ['main.a'] } })
  const later = setUp(directory)
  later.clock.advance(60_000)
  const resumed = new Outage(later.store, later.clock, outage.id)
  const ended = resumed.end('serves again', { loss: { firstSeq: 9, lastSeq: 9, tables: ['main.b'] } })
  assert.is(later.store.list().length, 1)
  assert.is(ended?.severity, 'critical')
  assert.equal(ended?.actions, ['it died again', 'restored a snapshot', 'serves again'])
  assert.equal(ended?.loss, { firstSeq: 4, lastSeq: 9, tables: ['main.a', 'main.b'] })
  assert.ok((ended?.downtimeMs ?? 0) >= 60_000, 'the time without an agent counts')
  assert.is(resumed.end('again'), null)
  const unknown = new Outage(store, clock, null)
  unknown.open({ ...fault })
  unknown.note('nothing is known', { loss: 'unknown' })
  assert.is(unknown.end('serves again', { loss: 0 })?.loss, 'unknown')
})

test.run()
