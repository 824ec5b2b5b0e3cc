/** Row 10: what agent, engine and its spare cost while nobody asks for anything. */

import fs from 'node:fs'
import { systemClock } from '../../../agent/clock.ts'
import type { DaemonGuard } from '../peers/daemonguard.ts'
import type { Row } from './index.ts'

/** How long V8 goes on compiling and collecting what the start has left, s: it works the less the longer nothing happens. */
const settling = 30

export const idle: Row = {
  title: 'idle: agent + engine + spare engine',
  async measure(stage) {
    const seconds = stage.options.quick ? 0.5 : Math.max(10, stage.options.seconds)
    const settled = stage.options.quick ? 0.5 : settling
    const daemonguard = await stage.daemonguard({ agent: true })
    const cpu: number[] = []
    const together: number[] = []
    const summed: number[] = []
    let buffers = 0
    try {
      await daemonguard.spareWaits()
      const { pids } = daemonguard
      // Not between the rounds: the first statement keeps V8 busy for seconds afterwards.
      const before = await buffersOf(daemonguard)
      await systemClock.sleep(settled * 1000)
      await stage.rounds(async () => {
        const used = sum(pids.map(cpuSeconds))
        await systemClock.sleep(seconds * 1000)
        cpu.push(((sum(pids.map(cpuSeconds)) - used) / seconds) * 100)
        together.push(sum(pids.map((pid) => memoryOf(pid, 'Pss'))))
        summed.push(sum(pids.map((pid) => memoryOf(pid, 'Rss'))))
      })
      buffers = Math.min(before, await buffersOf(daemonguard))
    } finally {
      await daemonguard.end()
    }
    return {
      settings: `default plugins, ${seconds} s a round, from ${settled} s after the start on`,
      measures: [
        { what: 'CPU', unit: '% of a core', values: cpu, goal: { most: 1 } },
        // Of the machine's memory: the executable's pages are there once, though all three processes have them.
        {
          what: "resident together, without DuckDB's buffers",
          unit: 'MB',
          values: together.map((value) => value - buffers),
          goal: { most: 250 },
        },
        { what: 'the sum of the three, shared pages three times', unit: 'MB', values: summed.map((value) => value - buffers) },
      ],
    }
  },
}

/** MB that DuckDB counts as its own. */
async function buffersOf(daemonguard: DaemonGuard): Promise<number> {
  const [[bytes] = []] = await daemonguard.guarded.sql('SELECT sum(memory_usage_bytes) FROM duckdb_memory()')
  return Number(bytes) / 1e6
}

/** Of its threads, to the nanosecond: the ticks of /proc/PID/stat are of 10 ms, the 1 % of a core that is wanted is ten of them. */
function cpuSeconds(pid: number): number {
  const nanoseconds = (thread: string) => {
    try {
      return Number(fs.readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0])
    } catch {
      return 0 // It has ended meanwhile.
    }
  }
  return sum(fs.readdirSync(`/proc/${pid}/task`).map(nanoseconds)) / 1e9
}

/** MB. */
function memoryOf(pid: number, what: 'Rss' | 'Pss'): number {
  const kilobytes = new RegExp(`^${what}: +(\\d+) kB`, 'm').exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]
  return (Number(kilobytes) * 1024) / 1e6
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
