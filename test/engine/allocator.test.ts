// needs: jemalloc
// An engine takes the host's jemalloc, goes without one that cannot be loaded, and leaves the operator's own choice alone.

import fs from 'node:fs'
import path from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { jemallocEnvironment } from '../../agent/allocator.ts'
import { allocatorLine } from '../../agent/status-report.ts'
import { TestEngine } from '../support/engine.ts'
import { runChild } from '../support/process.ts'
import { temporaryDirectory } from '../support/temp.ts'

const test = suite('allocator')
// What the runner has is not what is tested.
delete process.env.LD_PRELOAD
const host = jemallocEnvironment({}).LD_PRELOAD as string

/** Starts an engine with more in its environment, and asks what hands out its memory. */
async function allocatorWith(env: Record<string, string>): Promise<string | null> {
  const engine = await TestEngine.prepare()
  engine.env = env
  await engine.start()
  try {
    const rows = await engine.sql(
      'CREATE TABLE t (id BIGINT PRIMARY KEY, text VARCHAR)',
      "INSERT INTO t SELECT i, repeat('x', 20) || i FROM range(100000) r(i)",
      'SELECT count(*) FROM t',
    )
    assert.equal(rows, [['100000']])
    const mapped = fs.readFileSync(`/proc/${engine.control.hello.pid}/maps`, 'utf8').includes('libjemalloc.so.2')
    const { allocator } = await engine.control.status()
    assert.is(mapped, allocator !== null)
    return allocator
  } finally {
    await engine.kill()
  }
}

test('an engine runs on the jemalloc of its host, and says so', async () => {
  const allocator = await allocatorWith({})
  assert.match(allocator as string, /^jemalloc \d+\.\d+\.\d+$/)
  assert.is(allocatorLine({ allocator }), allocator as string)
})

test('LD_PRELOAD, even set to nothing, is left as the operator has set it', async () => {
  assert.equal(jemallocEnvironment({ LD_PRELOAD: '' }), {})
  assert.is(await allocatorWith({ LD_PRELOAD: '' }), null)
  assert.match(allocatorLine({ allocator: null }), /^the C library or another; /)
})

test('a file that is no library, and one that ends the program, are passed over', async () => {
  const directory = temporaryDirectory('allocator')
  const [garbage, half, absent] = ['garbage.so', 'half.so', 'absent.so'].map((name) => path.join(directory, name)) as [
    string,
    string,
    string,
  ]
  fs.writeFileSync(garbage, 'no library')
  fs.writeFileSync(half, fs.readFileSync(host).subarray(0, 100_000))
  assert.equal(jemallocEnvironment({}, [absent, garbage, half]), {})
  assert.is(jemallocEnvironment({}, [absent, garbage, half, host]).LD_PRELOAD, host)
})

test("options of the operator's come after ours, so that they count", async () => {
  const { MALLOC_CONF } = jemallocEnvironment({ MALLOC_CONF: 'narenas:3,stats_print:true' })
  const { stderr } = await runChild('/bin/true', [], { env: { LD_PRELOAD: host, MALLOC_CONF: MALLOC_CONF as string } })
  assert.match(stderr, /opt\.narenas: 3\b/)
})

test('pages that were freed go back to the system, and not before they are asked for', async () => {
  // Freed by the thread that asks, not by V8, which frees buffers in a thread of its own, some time after the collection.
  const program = `import koffi from 'koffi'
    import { jemallocOfProcess, returnFreedPages } from '${path.resolve('agent/allocator.ts')}'
    const [malloc, memset, free] = ['void *malloc(size_t)', 'void *memset(void *, int, size_t)', 'void free(void *)'].map(
      (type) => koffi.load(null).func(type))
    const pieces = Array.from({ length: 400 }, () => memset(malloc(200_000), 1, 200_000))
    const filled = process.memoryUsage.rss()
    for (const piece of pieces) free(piece)
    const freed = process.memoryUsage.rss()
    returnFreedPages()
    const returned = process.memoryUsage.rss()
    console.log(JSON.stringify({ jemalloc: jemallocOfProcess() !== null, filled, freed, returned }))`
  const args = ['--input-type=module', '--eval', program]
  // Without its own returning of pages after 10 s, which on a slow machine would do the work of what is tested.
  const env = { ...process.env, ...jemallocEnvironment({ MALLOC_CONF: 'dirty_decay_ms:-1,muzzy_decay_ms:-1' }) }
  const { stdout, stderr } = await runChild(process.execPath, args, { env })
  const { jemalloc, filled, freed, returned } = JSON.parse(stdout || JSON.stringify(stderr))
  assert.ok(jemalloc, stderr)
  assert.ok(freed > filled - 10e6, `${filled - freed} bytes came back by themselves`)
  assert.ok(returned < freed - 60e6, `${freed - returned} bytes came back`)
})

test.run()
