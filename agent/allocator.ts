/**
 * Who hands out small pieces of memory (malloc(3), C++'s new). A statement of DuckDB's takes and frees thousands of them, in one thread and in another,
 * and jemalloc is quicker at that than the C library: README, Speed. It is the host's own (Debian's package libjemalloc2), kept by the distribution, and
 * comes before the C library by LD_PRELOAD (ld.so(8)). A host without it goes without.
 */

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import koffi from 'koffi'

const library = 'libjemalloc.so.2'
/** Where distributions put it: Debian and Ubuntu, Fedora and SUSE, Arch. */
const triplet = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch as string] ?? process.arch
const places = [`/usr/lib/${triplet}/${library}`, `/usr/lib64/${library}`, `/usr/lib/${library}`]
/** Arenas: by its own choice four for each core of the host, of which the engine uses a few. Each thread has a cache of its own before them. */
const options = 'narenas:2'
/** jemalloc's number for all arenas: MALLCTL_ARENAS_ALL. */
export const purgeAll = 'arena.4096.purge'
const pointerBytes = 8
/** ms that a program may take to start with it: three, mostly. */
const patience = 5_000

/** The C type of jemalloc's mallctl(3), of whichever name: it reads one text, or does something. */
export const mallctl = (name: string): string => `int ${name}(const char *, _Out_ const char **, _Inout_ size_t *, void *, size_t)`

/**
 * What is to be set in the environment of an engine. Where there is no jemalloc, the C library keeps a heap for each of the pool's threads, 20 MB in all: two do
 * as well, since each thread has a cache of its own. Of each size that keeps 7 pieces, where a statement of DuckDB's frees dozens: with 32 (1 MB a thread
 * at most) statements take a tenth less time.
 */
export function allocatorEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const tunables = [env.GLIBC_TUNABLES, 'glibc.malloc.tcache_count=32'].filter((each) => each !== undefined && each !== '').join(':')
  return { MALLOC_ARENA_MAX: '2', GLIBC_TUNABLES: tunables, ...jemallocEnvironment(env) }
}

/**
 * Of that, what is for jemalloc, where the host has it. Nothing where LD_PRELOAD is set already, be it to nothing: that
 * is the operator's choice.
 */
export function jemallocEnvironment(env: NodeJS.ProcessEnv, candidates: readonly string[] = places): NodeJS.ProcessEnv {
  if (process.platform !== 'linux' || env.LD_PRELOAD !== undefined) return {}
  const found = candidates.find(isLoadable)
  if (found === undefined) return {}
  // Of an option that is given twice, the last one counts.
  return { LD_PRELOAD: found, MALLOC_CONF: env.MALLOC_CONF ? `${options},${env.MALLOC_CONF}` : options }
}

/** Whether a program starts with it, without a word: ld.so goes on without a library that it cannot load, and says so. */
function isLoadable(file: string): boolean {
  if (!fs.existsSync(file)) return false
  const { status, stderr } = spawnSync('/bin/true', {
    env: { LD_PRELOAD: file },
    encoding: 'utf8',
    timeout: patience,
    killSignal: 'SIGKILL',
  })
  return status === 0 && stderr === ''
}

interface Jemalloc {
  /** With the version that it tells: `jemalloc 5.3.0`. */
  readonly name: string
  control(name: string, text: (string | null)[] | null, size: number[] | null, value: null, length: 0): number
}

let own: Jemalloc | null | undefined

/** The jemalloc that this process runs on; null for the C library's allocator, or another one. */
export function jemallocOfProcess(): Jemalloc | null {
  if (own === undefined) own = process.platform === 'linux' ? lookUp() : null
  return own
}

/** Among the functions of the process itself: a file may be another one by now, after an upgrade of the package. */
function lookUp(): Jemalloc | null {
  try {
    const control = koffi.load(null).func(mallctl('mallctl')) as Jemalloc['control']
    const version: (string | null)[] = [null]
    control('version', version, [pointerBytes], null, 0)
    return { control, name: `jemalloc ${version[0]?.split('-', 1)[0] ?? 'of a version that it does not tell'}` }
  } catch {
    return null // There is no such function.
  }
}

/** Gives the pages of freed pieces back to the system, those in the cache of this thread too. */
export function returnFreedPages(): void {
  if (process.platform !== 'linux') return
  const jemalloc = jemallocOfProcess()
  if (jemalloc === null) koffi.load('libc.so.6').func('int malloc_trim(size_t)')(0)
  else for (const name of ['thread.tcache.flush', purgeAll]) jemalloc.control(name, null, null, null, 0)
}
