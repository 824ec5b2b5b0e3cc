/** Prepared statements that write rows, by what they write: few of them, and of one schema. */

interface Writer {
  close(): void
}

export class KeptWriters<Kept extends Writer> {
  #most: number
  /** The one used last at the end. */
  #kept = new Map<string, Kept>()
  #version = -1

  constructor(most: number) {
    this.#most = most
  }

  /** Drops those of another version of the catalog; there must be no other one until they have been used. */
  forSchema(version: number): void {
    if (version !== this.#version) this.drop()
    this.#version = version
  }

  get(what: string, make: () => Kept): Kept {
    const found = this.#kept.get(what) ?? make()
    this.#kept.delete(what)
    this.#kept.set(what, found)
    const [oldest] = this.#kept
    if (this.#kept.size > this.#most && oldest !== undefined) {
      this.#kept.delete(oldest[0])
      oldest[1].close()
    }
    return found
  }

  /** Rows whose write has failed do not come back. */
  drop(): void {
    for (const writer of this.#kept.values()) writer.close()
    this.#kept.clear()
  }
}
