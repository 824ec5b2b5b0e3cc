/**
 * Gives back to the system what was freed inside the process, when it nears what it may take. DuckDB's allocator (jemalloc, inside libduckdb)
 * keeps freed pages for whoever allocates next in the same arena; those of threads that have nothing more to do stay for good, hundreds of MB
 * of them beyond DuckDB's own limit. To return every page at once would cost a bulk load half as much time again. The process's own jemalloc, where
 * it runs on one, keeps tens of MB; V8 and the C library do too, and it takes longer to get it from them: 30 ms. An idle engine has the time.
 */

import { getHeapStatistics, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { jemallocOfProcess, mallctl, purgeAll, returnFreedPages } from '../allocator.ts'
import { returnGarbage } from '../garbage.ts'
import { duckdbLibrary } from './duckdb-library.ts'

/** Part of the memory from which on it is short. */
const shortage = 0.8
/** Milliseconds between looks: where memory is far, where it is near, and where much was given back at the last one. */
const rarely = 500
const seldom = 50
const often = 10
/** Bytes that a core can fill in a millisecond. */
const filled = 8e6
/** Milliseconds after which an engine that has used less than this part of a core is taken for idle: the agent's probes take a third of a percent. */
const whileMs = 10_000
const quietPart = 0.02
/** Bytes that count as much. */
const much = 8e6
/** Bytes by which V8's heap and its buffers have grown since its garbage was collected last: more than the space for new objects, which comes and goes. */
const garbage = 24e6

/** Tells when nothing much has happened for a while. */
export class QuietWatch {
  #since = 0
  #cpu = 0

  /** `now`: milliseconds; `cpu`: microseconds that the process has used. True when a while has passed since the last answer, quietly. */
  isQuiet(now: number, cpu: number): boolean {
    if (now - this.#since < whileMs) return false
    const used = (cpu - this.#cpu) / 1000 / (now - this.#since)
    this.#since = now
    this.#cpu = cpu
    return used < quietPart
  }
}

/** What `status` says of the process's memory. */
export function memoryFacts(): { memoryBytes: number; allocator: string | null } {
  return { memoryBytes: process.memoryUsage.rss(), allocator: jemallocOfProcess()?.name ?? null }
}

/** Milliseconds within which `cores` cores cannot fill what is left up to the shortage: an idle engine is not woken for nothing. */
export function pauseUntilShort(left: number, cores: number): number {
  return Math.min(rarely, Math.max(seldom, left / (filled * cores)))
}

/** Keeps watch for the life of the process, whose memory is to stay below `memory` bytes. DuckDB must be loaded. */
export function returnFreedMemory(memory: number, cores: number): void {
  if (process.platform !== 'linux') return
  const control = duckdbLibrary().func(mallctl('duckdb_je_mallctl'))
  const jemalloc = jemallocOfProcess()
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  const { rss } = process.memoryUsage
  const held = () => {
    const { used_heap_size: heap, external_memory: buffers } = getHeapStatistics()
    return heap + buffers
  }
  /** Of those bytes, what was no garbage. */
  let kept = 0
  /** Bytes that it made of `before`. */
  const giveBack = (before: number): number => {
    control(purgeAll, null, null, null, 0)
    jemalloc?.control(purgeAll, null, null, null, 0)
    const purged = rss()
    if (purged <= shortage * memory || held() < kept + garbage) return before - purged
    collectGarbage()
    returnFreedPages()
    kept = held()
    return before - rss()
  }
  const quiet = new QuietWatch()
  /** Bytes of V8's heap, garbage and room for more, that were there when it was last given back in a quiet moment. */
  let settled = 0
  const look = () => {
    const { user, system } = process.cpuUsage()
    if (quiet.isQuiet(performance.now(), user + system) && getHeapStatistics().total_physical_size > settled + much) {
      control(purgeAll, null, null, null, 0)
      returnGarbage()
      settled = getHeapStatistics().total_physical_size
    }
    const before = rss()
    const given = before > shortage * memory ? giveBack(before) : 0
    setTimeout(look, given > much ? often : pauseUntilShort(shortage * memory - before, cores)).unref()
  }
  look()
}
