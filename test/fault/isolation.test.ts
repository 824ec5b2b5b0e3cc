// deadline: 240s
// Clients that want all of the machine get what `cpu_cores` and `memory` say, and a busy program beside the engine keeps its core.

import fs from 'node:fs'
import os from 'node:os'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { chooseCores } from '../../agent/engine/isolation.ts'
import { codeOf, TestEngine } from '../support/engine.ts'
import { spawnChild } from '../support/process.ts'
import { waitUntil } from '../support/wait.ts'

const test = suite('isolation')
const name = 'with one core and 1 GB, eight clients that compute take no more, and a busy program keeps its core'
const endless = 'SELECT count(*) FROM range(10000000000) a, range(10000000000) b WHERE a.range + b.range < 0'
/** Of /proc, in a second: 100 on every Linux that Node runs on. */
const ticks = 100

/** CPU time of a process and all its threads, seconds (proc(5): utime and stime). */
function cpuSeconds(pid: number): number {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') as string[]
  return (Number(fields[11]) + Number(fields[12])) / ticks
}

/** Seconds: the clock, each process, and all that the cores did or were not given (proc(5): user, nice, system, irq, softirq, steal). */
function times({ engine, busy }: { engine: number; busy: number }) {
  const cores = fs.readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]?.split(/\s+/).slice(1).map(Number) as number[]
  const all = [0, 1, 2, 5, 6, 7].reduce((sum, field) => sum + (cores[field] as number), 0) / ticks
  return { at: performance.now() / 1000, engine: cpuSeconds(engine), busy: cpuSeconds(busy), all }
}

const statusOf = (file: string, key: string) => new RegExp(`^${key}:\\s*(.*)$`, 'm').exec(fs.readFileSync(file, 'utf8'))?.[1] ?? ''

if (process.platform !== 'linux' || os.availableParallelism() < 2) test.skip(name)
else
  test(name, async () => {
    const engine = await TestEngine.prepare()
    engine.configure(['cpu_cores: 1', 'memory: 1GB'])
    await engine.start()
    const pid = engine.control.hello.pid
    const busy = spawnChild(process.execPath, ['-e', 'for (;;);'])
    try {
      const { isolation } = await engine.control.status()
      assert.match(isolation.cpu, /^(pinned to core \d+$|cgroup v2)/)
      const greedy =
        'SELECT count(*) FROM (SELECT repeat(md5(i::VARCHAR), 40) AS text FROM range(1000000) r(i) ORDER BY text) WHERE text > chr(48)'
      assert.match((await codeOf((await engine.connect()).query(greedy))) ?? 'done', /^(done|53200)$/)
      const peak = Number.parseInt(statusOf(`/proc/${pid}/status`, 'VmHWM'), 10) * 1024
      process.stdout.write(`[${Math.round(peak / 1e6)} MB at most] `)
      assert.ok(peak < 1e9, `${peak} bytes`)
      const clients = await Promise.all(Array.from({ length: 8 }, () => engine.connect()))
      for (const client of clients) void codeOf(client.query(endless)).catch(() => {})
      const pids = { engine: pid, busy: busy.pid }
      let before = times(pids)
      const windows: Record<'engine' | 'busy' | 'others', number>[] = []
      await waitUntil(
        () => {
          const now = times(pids)
          const seconds = now.at - before.at
          if (seconds < 1) return false
          const [engine, busy] = [(now.engine - before.engine) / seconds, (now.busy - before.busy) / seconds]
          windows.push({ engine, busy, others: (now.all - before.all) / seconds - engine - busy })
          before = now
          return windows.filter(({ others }) => others < 0.3).length === 3
        },
        { deadline: 15_000, every: 50 },
      )
      const told = windows.map(({ engine, busy, others }) => [engine, busy, others].map((cores) => cores.toFixed(2)).join(' + ')).join(', ')
      process.stdout.write(`[cores of the engine, the program, and others: ${told}] `)
      for (const { engine, busy, others } of windows) {
        assert.ok(engine < 1.1, 'the engine took more than its core')
        // What others do on this machine may be at its expense.
        assert.ok(busy > 0.85 - others, 'the program did not keep its core')
      }
      if (isolation.cpu.startsWith('pinned')) {
        const threads = fs.readdirSync(`/proc/${pid}/task`)
        const allowed = new Set(threads.map((thread) => statusOf(`/proc/${pid}/task/${thread}/status`, 'Cpus_allowed_list')))
        assert.equal([...allowed], [isolation.cpu.slice('pinned to core '.length)], `of ${threads.length} threads`)
      }
    } finally {
      await busy.kill()
      await engine.kill()
    }
  })

test('each database has its own cores where there are enough, from the end', () => {
  const cores = [0, 1, 2, 3, 6, 7]
  const places = new Set(Array.from({ length: 50 }, (_, i) => chooseCores(cores, 2, `/data/${i}.duckdb`).join()))
  assert.equal([...places].sort(), ['0,1', '2,3', '6,7'])
  assert.equal(chooseCores(cores, 4, 'x'), [2, 3, 6, 7])
  assert.equal(chooseCores(cores, 6, 'x'), cores)
})

test.run()
