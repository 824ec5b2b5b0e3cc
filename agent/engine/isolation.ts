/**
 * Keeps the engine to `engine.cpu_cores` and `engine.memory`, beside what DuckDB is told: clients' threads of their own run queries too, so
 * that DuckDB's `threads` alone does not hold. In order of strength:
 *
 * - cgroup v2, where the service manager delegated a subtree and put the agent into a leaf of it (`DelegateSubgroup=agent`, systemd 254;
 *   kernel: Documentation/admin-guide/cgroup-v2.rst): the engine moves into a leaf beside it, with `cpu.max` and `memory.max`.
 * - else the threads of the process are pinned to as many cores (sched_setaffinity(2)), and memory is DuckDB's limit alone.
 * - On Windows a job object (agent/windows/job.ts); where it does not keep the processors, pinned threads.
 *
 * Nothing here ends the engine: an engine that is kept less strictly is better than none. `status` says what holds.
 */

import { createHash } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import koffi from 'koffi'
import { makeControlGroup, writeControlGroup } from '../disk.ts'
import { messageOf } from '../errors.ts'
import * as job from '../windows/job.ts'
import type { Handle } from '../windows/kernel.ts'

export interface Isolation {
  /** What holds the engine to its cores, and to its memory, in words. */
  readonly cpu: string
  readonly memory: string
}

export interface IsolationLimits {
  cores: number
  /** Bytes. */
  memory: number
  /** Engines of other databases on this host are pinned to other cores where there are enough. */
  database: string
}

/** Bytes of a cpu_set_t: 1,024 cores. */
const maskBytes = 128
const cpuPeriod = 100_000
/** A job object counts what is committed, of which a part is never touched; so it gets more than `memory`, which DuckDB's own limit keeps. */
const committedPart = 1.25

/** Limits this process. Never throws. */
export function isolate({ cores, memory, database }: IsolationLimits): Isolation {
  const duckdbOnly = "DuckDB's own limit"
  if (process.platform === 'win32') return isolateByJob({ cores, memory, database })
  if (process.platform !== 'linux') return { cpu: "DuckDB's own threads", memory: duckdbOnly }
  let reason: string
  try {
    const group = delegatedGroup()
    if (group !== undefined) {
      enter(group, cores, memory)
      return { cpu: `cgroup v2: cpu.max, ${cores} cores`, memory: `cgroup v2: memory.max, ${memory} bytes` }
    }
    reason = 'no cgroup v2 was delegated'
  } catch (error) {
    reason = `cgroup v2 refuses: ${messageOf(error)}`
  }
  try {
    return { cpu: pin(cores, database), memory: `${duckdbOnly} (${reason})` }
  } catch (error) {
    return { cpu: `DuckDB's own threads (pinning failed: ${messageOf(error)})`, memory: `${duckdbOnly} (${reason})` }
  }
}

function isolateByJob({ cores, memory, database }: IsolationLimits): Isolation {
  const kept: { cpu: string; memory: string } = { cpu: "DuckDB's own threads", memory: "DuckDB's own limit" }
  let why = ''
  let object: Handle | undefined
  try {
    object = job.enterJob()
    const limit = Math.round(memory * committedPart)
    job.limitMemory(object, limit)
    kept.memory = `job object: ${limit} bytes committed`
  } catch (error) {
    kept.memory += ` (job object: ${messageOf(error)})`
  }
  const all = os.cpus().length
  if (cores >= all) return { ...kept, cpu: `all ${all} cores, of ${cores} that cpu_cores allows` }
  try {
    if (object === undefined) throw new Error('there is none')
    job.limitCpu(object, cores / all)
    return { ...kept, cpu: `job object: the time of ${cores} of ${all} cores` }
  } catch (error) {
    why = ` (job object: ${messageOf(error)})`
  }
  try {
    const chosen = chooseCores(job.allowedCores(), cores, database)
    job.pinTo(chosen)
    return { ...kept, cpu: `pinned to ${coreNames(chosen)}${why}` }
  } catch (error) {
    return { ...kept, cpu: `${kept.cpu} (pinning failed: ${messageOf(error)})` }
  }
}

function coreNames(cores: readonly number[]): string {
  return `core${cores.length === 1 ? '' : 's'} ${cores.join(', ')}`
}

/** The directory of the subtree that is ours, or undefined. */
function delegatedGroup(): string | undefined {
  const own = /^0::(\/.*)$/m.exec(fs.readFileSync('/proc/self/cgroup', 'utf8'))?.[1]
  // Fields: id, parent, device, root, mount point, options …, then " - " and the type (proc(5)).
  const mount = /^\d+ \d+ \S+ \/ (\S+) .* - cgroup2 /m.exec(fs.readFileSync('/proc/self/mountinfo', 'utf8'))?.[1]
  if (own === undefined || mount === undefined) return undefined
  // The agent's leaf for an engine that it starts; the engine's own for one that was moved before.
  if (!['agent', 'engine'].includes(path.basename(own))) return undefined
  const group = path.join(mount, path.dirname(own))
  const processes = fs.readFileSync(path.join(group, 'cgroup.procs'), 'utf8')
  // A group that holds processes itself cannot hand controllers down; it is not one that was prepared for this.
  return processes.trim() === '' ? group : undefined
}

function enter(group: string, cores: number, memory: number): void {
  const leaf = path.join(group, 'engine')
  writeControlGroup(path.join(group, 'cgroup.subtree_control'), '+cpu +memory')
  makeControlGroup(leaf)
  writeControlGroup(path.join(leaf, 'cpu.max'), `${cores * cpuPeriod} ${cpuPeriod}`)
  writeControlGroup(path.join(leaf, 'memory.max'), String(memory))
  writeControlGroup(path.join(leaf, 'cgroup.procs'), String(process.pid))
}

/** Every thread of this process; those that come later inherit it from the one that starts them. */
function pin(cores: number, database: string): string {
  const libc = koffi.load('libc.so.6')
  const getAffinity = libc.func('int sched_getaffinity(int pid, size_t size, _Out_ uint8_t *mask)')
  const setAffinity = libc.func('int sched_setaffinity(int pid, size_t size, const uint8_t *mask)')
  const mask = Buffer.alloc(maskBytes)
  if (getAffinity(0, maskBytes, mask) !== 0) throw new Error(`sched_getaffinity: error ${koffi.errno()}`)
  const allowed = Array.from({ length: maskBytes * 8 }, (_, core) => core).filter((core) => ((mask[core >> 3] as number) >> (core & 7)) & 1)
  if (allowed.length <= cores) return `all ${allowed.length} cores that it may use, of ${cores} that cpu_cores allows`
  const chosen = chooseCores(allowed, cores, database)
  mask.fill(0)
  for (const core of chosen) mask[core >> 3] = (mask[core >> 3] as number) | (1 << (core & 7))
  for (const thread of fs.readdirSync('/proc/self/task')) {
    // A thread may have ended meanwhile; the first is this one.
    if (setAffinity(Number(thread), maskBytes, mask) !== 0 && Number(thread) === process.pid)
      throw new Error(`sched_setaffinity: error ${koffi.errno()}`)
  }
  return `pinned to ${coreNames(chosen)}`
}

/** `count` of the cores, from the end (the first ones serve most interrupts), and the same ones for the same database at every start. */
export function chooseCores(allowed: readonly number[], count: number, database: string): number[] {
  const places = Math.floor(allowed.length / count)
  const place = createHash('sha256').update(database).digest().readUInt32LE(0) % places
  const end = allowed.length - place * count
  return allowed.slice(end - count, end)
}
