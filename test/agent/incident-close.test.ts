// deadline: 120s
// An incident that names a loss stays open, and the agent unwell, until an operator closes it.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { systemClock } from '../../agent/clock.ts'
import { IncidentStore } from '../../agent/incidents.ts'
import { silentLog } from '../../agent/log.ts'
import { Guarded } from '../fault/support/guarded.ts'

const test = suite('closing an incident')

test('status names the command; with a reason it closes the incident, and all is well again, for the next agent too', async () => {
  const guarded = await Guarded.prepare()
  const store = () => new IncidentStore({ directory: `${guarded.data}/incidents`, clock: systemClock, log: silentLog })
  const { id } = store().open({
    severity: 'critical',
    cause: 'journal-gap',
    message: 'redis-mirror cannot have seq 3 to 4 from the journal',
    loss: { firstSeq: 3, lastSeq: 4, tables: [] },
  })
  await guarded.start()
  try {
    const before = await guarded.command('status')
    assert.is(before.code, 1)
    assert.match(before.stdout, `once settled: daemonguard status --close ${id} --reason`)
    for (const wrong of [
      ['--close', id],
      ['--reason', 'x'],
    ])
      assert.is((await guarded.command('status', ...wrong)).code, 2)
    const missing = await guarded.command('status', '--close', 'nowhere', '--reason', 'x')
    assert.equal([missing.code, missing.stderr], [1, 'daemonguard: there is no incident nowhere\n  hint: daemonguard status\n'])
    const closed = await guarded.command('status', '--close', id, '--reason', 'test orders')
    assert.equal([closed.code, closed.stdout], [0, 'closed: redis-mirror cannot have seq 3 to 4 from the journal\n'])
    await guarded.until('all is well', ({ healthy }) => healthy)
    assert.equal(store().get(id)?.actions, ['closed by an operator: test orders'])
  } finally {
    await guarded.stop()
  }
})

test.run()
