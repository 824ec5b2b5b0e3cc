/** Gives back what a start or a load took and does not need any more: V8 would keep its garbage, and the allocator its freed pages, for as long as nothing happens. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { returnFreedPages } from './allocator.ts'

/**
 * Takes about 25 ms, in which the process does nothing else. Compiled code is garbage too. `growth`: percent by which V8's heap may grow until
 * its garbage is collected again; V8's own choice, about 50, is for a process that has little to do.
 */
export function returnGarbage(growth = 0): void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as (how: { type: 'major'; flavor: 'last-resort' }) => void
  setFlagsFromString(`--heap-growing-percent=${growth}`)
  collect({ type: 'major', flavor: 'last-resort' })
  setFlagsFromString('--heap-growing-percent=0')
  returnFreedPages()
}
