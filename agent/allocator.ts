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

/** The C type of jemalloc's mallctl(3), of whichever name. */
export const mallctl = (name: string): string => `int ${name}(const char *, void *, void *, void *, size_t)`

/**
 * What is to be set in the environment of an engine for jemalloc, where the host has it. Nothing where LD_PRELOAD is set already, be it to nothing: that
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
  const { status, stderr } = spawnSync('/bin/true', { env: { LD_PRELOAD: file }, encoding: 'utf8' })
  return status === 0 && stderr === ''
}

let own: { readonly jemalloc: string | undefined } | undefined

/** The file of the jemalloc that this process runs on; undefined for the C library's allocator, or another one. */
export function jemallocOfProcess(): string | undefined {
  own ??= { jemalloc: process.platform === 'linux' ? mapped() : undefined }
  return own.jemalloc
}

function mapped(): string | undefined {
  return /\s(\/\S*\/libjemalloc\.so\.2)$/m.exec(fs.readFileSync('/proc/self/maps', 'utf8'))?.[1]
}

/** Gives the pages of freed pieces back to the system, those in the cache of this thread too. */
export function returnFreedPages(): void {
  if (process.platform !== 'linux') return
  const jemalloc = jemallocOfProcess()
  if (jemalloc === undefined) {
    koffi.load('libc.so.6').func('int malloc_trim(size_t)')(0)
    return
  }
  const control = koffi.load(jemalloc).func(mallctl('mallctl'))
  for (const name of ['thread.tcache.flush', purgeAll]) control(name, null, null, null, 0)
}
