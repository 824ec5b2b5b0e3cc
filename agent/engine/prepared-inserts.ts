/**
 * What DuckDB has said of plain inserts and upserts (plain-insert.ts), for all sessions. Each client of a pool prepares the same few statements for itself; DuckDB takes a
 * millisecond or two for each, and a plain insert mostly runs without what it makes of it.
 */

import type { Catalog } from './catalog.ts'
import { LastUsed } from './last-used.ts'
import type { Prepared } from './preparation.ts'
import type { Statement } from './sql/statement.ts'

/** Statements that are kept, and characters of each: a platform has a few of them, of a few hundred. */
const mostKept = 256
const mostCharacters = 4_096

export class PreparedInserts {
  #catalog: Catalog
  /** What the catalog was when they were kept. */
  #version = -1
  #kept = new LastUsed<string, Prepared>(mostKept)

  constructor(catalog: Catalog) {
    this.#catalog = catalog
  }

  /** The same statement as it was prepared before; else undefined, and `keep` takes what becomes of it. Its names mean the same in the same search path. */
  find(statement: Statement, oids: readonly number[], searchPath: string): { known: Prepared | undefined; keep(prepared: Prepared): void } {
    const version = this.#current()
    const key = [searchPath, oids.join(), statement.text].join('\0')
    const known = this.#kept.get(key)
    const keep = (prepared: Prepared) => {
      // A schema change may have committed while DuckDB looked.
      if ((prepared.insert ?? prepared.upsert) === undefined || statement.text.length > mostCharacters || version !== this.#current())
        return
      this.#kept.set(key, prepared)
    }
    return { known, keep }
  }

  #current(): number {
    const { version } = this.#catalog
    if (version !== this.#version) this.#kept.clear()
    this.#version = version
    return version
  }
}
