// deadline: 120s
// needs: openssl
// A certificate that ends, or that a renewal has spoilt, is told by alert and status, before somebody's client does.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CertificateWatch } from '../../agent/certificate-watch.ts'
import { silentLog } from '../../agent/log.ts'
import { Scheduler } from '../../agent/scheduler.ts'
import { Guarded } from '../fault/support/guarded.ts'
import { Authority } from '../support/certificates.ts'
import { createTestClock } from '../support/clock.ts'

const test = suite('certificate watch')

const authority = new Authority()
const day = 86_400_000

test('an alert comes 30 days before the end, once a week, and at the end', () => {
  const clock = createTestClock()
  const told: string[] = []
  const scheduler = new Scheduler({ clock, log: silentLog })
  const watch = new CertificateWatch({ files: authority.issue(), clock, scheduler, alert: (message) => told.push(message) })
  for (let hour = 0; hour < 100 * 24; hour += 12) {
    watch.look()
    if (told.length === 0) assert.equal(watch.problems(), [])
    clock.advance(day / 2)
  }
  const left = told.map((message) => Number(/in (\d+) days?$/.exec(message)?.[1] ?? -1))
  assert.equal(left, [29, 22, 15, 8, 1, -1, -1])
  assert.match(told.at(-1)!, /^engine.tls: the certificate expired on /)
  assert.match(watch.problems().join(), /the certificate expired on .*hint: renew it/)
})

test('the engine serves without a certificate, the status says so, and a good one is taken up by itself', async () => {
  const files = { cert: path.join(authority.directory, 'late.pem'), key: path.join(authority.directory, 'late.key') }
  const guarded = await Guarded.prepare({ engine: [`tls: { cert: ${files.cert}, key: ${files.key} }`] })
  try {
    await guarded.start()
    assert.equal(await guarded.sql('SELECT 1'), [['1']])
    const { healthy, problems } = await guarded.status()
    assert.not.ok(healthy)
    assert.match(problems.join('\n'), /engine\.tls: .*late\.pem: there is no such file/)
    assert.match(guarded.agent!.output(), /"alert":true,.*late\.pem: there is no such file/)
    const issued = authority.issue()
    for (const file of ['cert', 'key'] as const) fs.copyFileSync(issued[file], files[file])
    await guarded.until('all is well', ({ healthy }) => healthy)
  } finally {
    await guarded.stop()
  }
})

test.run()
