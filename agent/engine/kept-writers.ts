/** Prepared statements that write rows, by what they write: few of them, and of one schema. */

import { LastUsed } from './last-used.ts'

interface Writer {
  close(): void
}

export class KeptWriters<Kept extends Writer> {
  #kept: LastUsed<string, Kept>
  #version = -1

  constructor(most: number) {
    this.#kept = new LastUsed(most, (writer) => writer.close())
  }

  /** Drops those of another version of the catalog; there must be no other one until they have been used. */
  forSchema(version: number): void {
    if (version !== this.#version) this.drop()
    this.#version = version
  }

  get(what: string, make: () => Kept): Kept {
    const known = this.#kept.get(what)
    if (known !== undefined) return known
    const made = make()
    this.#kept.set(what, made)
    return made
  }

  /** Rows whose write has failed do not come back. */
  drop(): void {
    for (const writer of this.#kept.values()) writer.close()
    this.#kept.clear()
  }
}
