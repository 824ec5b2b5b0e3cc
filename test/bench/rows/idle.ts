/** Row 10: what agent, engine and its spare cost while nobody asks for anything. */

import fs from 'node:fs'
import { systemClock } from '../../../agent/clock.ts'
import type { Row } from './index.ts'

/** Linux' USER_HZ, the unit of CPU time in /proc. */
const ticksPerSecond = 100

export const idle: Row = {
  title: 'idle: agent + engine + spare engine',
  async measure(stage) {
    const seconds = stage.options.quick ? 0.5 : Math.max(10, stage.options.seconds)
    const daemonguard = await stage.daemonguard({ agent: true })
    const cpu: number[] = []
    const together: number[] = []
    const summed: number[] = []
    try {
      await daemonguard.spareWaits()
      const { pids } = daemonguard
      // Compilation and the first probes are over by then.
      await systemClock.sleep(seconds * 500)
      await stage.rounds(async () => {
        const before = sum(pids.map(cpuTicks))
        await systemClock.sleep(seconds * 1000)
        cpu.push(((sum(pids.map(cpuTicks)) - before) / ticksPerSecond / seconds) * 100)
        const [[buffers] = []] = await daemonguard.guarded.sql('SELECT sum(memory_usage_bytes) FROM duckdb_memory()')
        together.push(sum(pids.map((pid) => memoryOf(pid, 'Pss'))) - Number(buffers) / 1e6)
        summed.push(sum(pids.map((pid) => memoryOf(pid, 'Rss'))) - Number(buffers) / 1e6)
      })
    } finally {
      await daemonguard.end()
    }
    return {
      settings: `default plugins, ${seconds} s a round`,
      measures: [
        { what: 'CPU', unit: '% of a core', values: cpu, goal: { most: 1 } },
        // Of the machine's memory: the executable's pages are there once, though all three processes have them.
        { what: "resident together, without DuckDB's buffers", unit: 'MB', values: together, goal: { most: 250 } },
        { what: 'the sum of the three, shared pages three times', unit: 'MB', values: summed },
      ],
    }
  },
}

function cpuTicks(pid: number): number {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11]) + Number(fields[12])
}

/** MB. */
function memoryOf(pid: number, what: 'Rss' | 'Pss'): number {
  const kilobytes = new RegExp(`^${what}: +(\\d+) kB`, 'm').exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]
  return (Number(kilobytes) * 1024) / 1e6
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
