/** DuckDB's own library, as the addon has loaded it: for calls that the addon does not have, or not on this thread. */

import koffi from 'koffi'

// DuckDB goes deep in nested expressions: as large a stack as that of the pool's threads, where koffi's own choice is 2 MB. It counts for each
// thread from its first call of any function on.
koffi.config({ sync_stack_size: 8 << 20 })

let library: ReturnType<typeof koffi.load> | undefined

/** Found by its name: only once the addon has loaded it. */
export function duckdbLibrary(): ReturnType<typeof koffi.load> {
  library ??= koffi.load(process.platform === 'win32' ? 'duckdb.dll' : 'libduckdb.so')
  return library
}
