/** What a result depends on and does not say by itself: the machine, the disk, the versions, and who else was busy. */

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import { version as duckdbVersion } from '@duckdb/node-api'
import { version } from '../../agent/runtime.ts'

export interface FileSystem {
  readonly type: string
  readonly device: string
  readonly mountPoint: string
}

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly kernel: string
  readonly directory: string
  readonly fileSystem: FileSystem
  readonly versions: Readonly<Record<string, string>>
}

export function describeMachine(directory: string, postgres: string | undefined): Machine {
  const [cpu] = os.cpus()
  return {
    cpu: cpu?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    memoryGiB: Math.round((os.totalmem() / 2 ** 30) * 10) / 10,
    kernel: `${os.type()} ${os.release()} ${os.arch()}`,
    directory,
    fileSystem: fileSystemOf(directory),
    versions: {
      DaemonGuard: version,
      node: process.version,
      DuckDB: duckdbVersion(),
      PostgreSQL: postgres ?? 'absent',
      pgbench: firstLine('pgbench', ['--version']) ?? 'absent',
    },
  }
}

/** The file system that holds `directory`: the mount point that is the longest prefix of its path. */
export function fileSystemOf(directory: string): FileSystem {
  const real = fs.realpathSync(directory)
  let best: FileSystem = { type: 'unknown', device: 'unknown', mountPoint: '' }
  for (const line of fs.readFileSync('/proc/mounts', 'utf8').split('\n')) {
    const [device, escaped, type] = line.split(' ')
    if (device === undefined || escaped === undefined || type === undefined) continue
    const mountPoint = escaped.replaceAll('\\040', ' ')
    const below = real === mountPoint || real.startsWith(mountPoint === '/' ? '/' : `${mountPoint}/`)
    // Of two mounts on one point the later one is seen.
    if (below && mountPoint.length >= best.mountPoint.length) best = { type, device, mountPoint }
  }
  return best
}

/** How busy the machine is: the mean number of runnable threads over the last minute. */
export function loadAverage(): number {
  return Math.round((os.loadavg()[0] as number) * 100) / 100
}

export function firstLine(command: string, args: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  return status === 0 ? stdout.split('\n')[0]?.trim() : undefined
}
