/** Gives back what a start or a load took and does not need any more: V8 would keep its garbage, and the C library its freed pages, for as long as nothing happens. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import koffi from 'koffi'

/** Takes about 25 ms, in which the process does nothing else. */
export function returnGarbage(): void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as (how: { type: 'major'; flavor: 'last-resort' }) => void
  collect({ type: 'major', flavor: 'last-resort' })
  if (process.platform === 'linux') koffi.load('libc.so.6').func('int malloc_trim(size_t)')(0)
}
