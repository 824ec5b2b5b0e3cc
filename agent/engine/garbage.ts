/**
 * Frees at once what JavaScript no longer refers to. DuckDB's chunks are native memory that V8 does not count: while images of large values stream
 * through, it sees little garbage and lets hundreds of MB of them pile up.
 */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')

export const collectGarbage = runInNewContext('gc') as () => void

/** Bytes of images after which that is worth its 30 ms. */
export const garbageBytes = 32 << 20
