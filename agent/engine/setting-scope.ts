/**
 * What a session has set, and for how long, as in Postgres: SET holds from its transaction's commit on, SET LOCAL until the transaction's end,
 * and a rollback takes back both.
 */

export interface SettingValues {
  searchPath: string
  timeZone: string
  /** Settings that change nothing here: what the client wants to read again. */
  readonly own: Map<string, string>
  /** Milliseconds; 0: none. */
  readonly timeouts: Map<string, number>
}

export class SettingScope {
  #now: SettingValues
  /** What holds after the transaction that is open, if anything was set in it. */
  #pending: { readonly committed: SettingValues; readonly rolledBack: SettingValues } | undefined

  constructor(values: SettingValues) {
    this.#now = values
  }

  get now(): SettingValues {
    return this.#now
  }

  /** Something was set in the transaction that is open. */
  get isPending(): boolean {
    return this.#pending !== undefined
  }

  /** SET, or with `local` SET LOCAL. */
  change(local: boolean, edit: (values: SettingValues) => void): void {
    this.#pending ??= { committed: copyOf(this.#now), rolledBack: copyOf(this.#now) }
    edit(this.#now)
    if (!local) edit(this.#pending.committed)
  }

  /** The transaction has ended: returns what held in it, which `now` no longer is. */
  end(committed: boolean): SettingValues {
    const held = this.#now
    if (this.#pending !== undefined) this.#now = committed ? this.#pending.committed : this.#pending.rolledBack
    this.#pending = undefined
    return held
  }
}

function copyOf(values: SettingValues): SettingValues {
  return { ...values, own: new Map(values.own), timeouts: new Map(values.timeouts) }
}
