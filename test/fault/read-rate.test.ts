// What an operator asks for beside an engine reads no faster than the scanner may: by the agent, and without one.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { waitFor } from '../support/wait.ts'
import { Guarded, patience } from './support/guarded.ts'

const test = suite('read rate')
/** Bytes a second. */
const rate = 1e6
/** What is read before the first pause. */
const firstRead = 1 << 20

/** Least ms that reading so much takes. */
const leastMs = (bytes: number) => ((bytes - firstRead) / rate) * 1000

test('scan and snapshot by command keep to max_read_rate, with an agent and without', async () => {
  const guarded = await Guarded.prepare({ plugins: [`integrity-scanner: { max_read_rate: ${rate / 1e6}MB }`] })
  try {
    await guarded.start()
    await guarded.sql('CREATE TABLE t AS SELECT i, md5(i::VARCHAR) AS text FROM range(100_000) r (i)')
    // The first snapshot, which the scanner takes by itself, may hold it up.
    await waitFor('a checkpoint', async () => (await guarded.command('checkpoint')).code === 0, { deadline: patience })
    for (const who of ['the agent', 'the command itself']) {
      const scan = JSON.parse((await guarded.command('scan', '--json')).stdout) as {
        verdict: string
        bytesRead: number
        durationMs: number
      }
      assert.is(scan.verdict, 'clean', who)
      assert.ok(scan.bytesRead > 2 * firstRead, `${scan.bytesRead} bytes are too few for this test`)
      assert.ok(scan.durationMs >= leastMs(scan.bytesRead), `${who} scanned ${scan.bytesRead} bytes in ${scan.durationMs} ms`)
      const begun = performance.now()
      const snapshot = JSON.parse((await guarded.command('snapshot', '--json')).stdout) as { manifest: { bytes: number } }
      const took = performance.now() - begun
      assert.ok(took >= leastMs(snapshot.manifest.bytes), `${who} copied ${snapshot.manifest.bytes} bytes in ${took} ms`)
      await guarded.killAgent()
    }
  } finally {
    await guarded.end()
  }
})

test.run()
