/** SET, RESET, USE and SHOW: an allow-list. Settings that could break the guard (checkpoints, WAL, threads, memory, files) get 42501. */

import { readOnlyError } from './block.ts'
import { ownSchema, ownSchemaDenied } from './catalog.ts'
import type { Executor } from './executor.ts'
import type { KeptSettings } from './kept-settings.ts'
import type { Client } from './pgwire/backend.ts'
import { setCheckpointEvery, settingShown } from './pragmas.ts'
import { SettingScope, type SettingValues } from './setting-scope.ts'
import { lowerCase, quoteIdentifier, quoteString, type Token, tokenize } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'
import { durationText, milliseconds, timeoutNames } from './timeouts.ts'

/** What clients of Postgres ask for and what it is here. A setting listed here can be set to its own value only. */
const fixed: Readonly<Record<string, string>> = {
  server_version: '15.0',
  server_version_num: '150000',
  server_encoding: 'UTF8',
  client_encoding: 'UTF8',
  standard_conforming_strings: 'on',
  integer_datetimes: 'on',
  is_superuser: 'off',
  transaction_isolation: 'repeatable read',
  default_transaction_isolation: 'repeatable read',
  transaction_read_only: 'off',
  default_transaction_read_only: 'off',
  synchronous_commit: 'on',
  bytea_output: 'hex',
  intervalstyle: 'postgres',
  max_identifier_length: '63',
  row_security: 'on',
}

/** Settings of a client's own that change nothing here. */
const free = new Set(['application_name', 'client_min_messages', 'extra_float_digits', 'datestyle'])

const alike: Readonly<Record<string, readonly string[]>> = {
  client_encoding: ['utf8', 'utf-8', 'unicode'],
  standard_conforming_strings: ['on', 'true', '1'],
  synchronous_commit: ['on', 'true', 'local'],
  default_transaction_isolation: ['repeatable read', 'read committed', 'read uncommitted', 'snapshot'],
  transaction_isolation: ['repeatable read', 'read committed', 'read uncommitted', 'snapshot'],
  bytea_output: ['hex'],
  transaction_read_only: ['off', 'false'],
  default_transaction_read_only: ['off', 'false'],
  row_security: ['on', 'off'],
  intervalstyle: ['postgres'],
}

export class Settings {
  #scope: SettingScope
  #idleLimit: number
  #catalog: string
  #kept: KeptSettings
  #onlyReads: boolean
  /** What RESET and DEFAULT go back to: what the client asked for when it connected. */
  #atStart: Pick<SettingValues, 'timeZone' | 'own' | 'timeouts'> = { timeZone: 'UTC', own: new Map(), timeouts: new Map() }
  /** What is different for each user. */
  #ofUser: Readonly<Record<string, string>>
  /** Tells the client of a changed parameter; the start of a session tells it by itself. */
  #report: (name: string, value: string) => void = () => {}

  constructor(catalog: string, kept: KeptSettings, client: Pick<Client, 'user' | 'readonly'>, idleLimit: number) {
    this.#idleLimit = idleLimit
    this.#catalog = catalog
    this.#kept = kept
    this.#onlyReads = client.readonly
    const readOnly = client.readonly ? 'on' : 'off'
    this.#ofUser = { session_authorization: client.user, transaction_read_only: readOnly, default_transaction_read_only: readOnly }
    this.#scope = new SettingScope({ searchPath: `${catalog}.main`, timeZone: 'UTC', own: new Map(), timeouts: new Map() })
  }

  get searchPath(): string {
    return this.#scope.now.searchPath
  }

  get timeZone(): string {
    return this.#scope.now.timeZone
  }

  /** Something was set that the end of the transaction decides about, or ends. */
  get isPending(): boolean {
    return this.#scope.isPending
  }

  /** The transaction has ended, also one without BEGIN: SET LOCAL ends with it, and a rollback takes back every SET. */
  async transactionEnded(executor: Executor, committed: boolean): Promise<void> {
    if (!this.#scope.isPending) return
    const held = this.#scope.end(committed)
    const { searchPath, timeZone, own } = this.#scope.now
    if (timeZone !== held.timeZone) {
      await this.#run(executor, `SET TimeZone = ${quoteString(timeZone)}`)
      this.#report('TimeZone', timeZone)
    }
    if (searchPath !== held.searchPath) {
      executor.forget()
      // A schema of it may have gone since: then it is the default.
      await this.#run(executor, `SET search_path = ${quoteString(searchPath)}`).catch(async () => {
        await this.#runSearchPath(executor, [], false)
        this.#scope.end(true)
      })
    }
    if (own.get('application_name') !== held.own.get('application_name'))
      this.#report('application_name', own.get('application_name') ?? '')
  }

  /** Runs SET, RESET, USE; returns the command tag. */
  async apply(executor: Executor, tokens: readonly Token[]): Promise<string> {
    switch (tokens[0]?.text) {
      case 'set':
        await this.#set(executor, tokens.slice(1))
        return 'SET'
      case 'reset':
        await this.#reset(executor, tokens[1]?.text ?? '')
        return 'RESET'
      case 'use':
        await this.#setSearchPath(executor, tokens.slice(1), false)
        return 'SET'
      default:
        throw new SqlError('0A000', `${(tokens[0]?.text ?? '').toUpperCase()} is not supported`, {
          hint: 'there are no notifications here',
        })
    }
  }

  /** RESET ALL. */
  resetAll(executor: Executor): Promise<void> {
    return this.#reset(executor, 'all')
  }

  /** The answer of SHOW name or PRAGMA name, or undefined where DuckDB should answer (SHOW TABLES, …). */
  show(tokens: readonly Token[]): { name: string; value: string } | undefined {
    if (tokens[0]?.text !== 'show' && tokens[0]?.text !== 'pragma') return undefined
    const name = tokens
      .slice(1)
      .map((token) => token.text)
      .join(' ')
    const value = name === 'time zone' ? this.timeZone : this.valueOf(name)
    if (value === undefined) return undefined
    if (name === 'time zone' || name === 'timezone') return { name: 'TimeZone', value }
    return { name: name === 'transaction isolation level' ? 'transaction_isolation' : name, value }
  }

  /** What SHOW says of it; undefined: a setting that clients do not know. */
  valueOf(name: string): string | undefined {
    if (name === 'timezone') return this.timeZone
    if (name === 'search_path') return this.searchPath
    if (timeoutNames.has(name)) return durationText(this.timeout(name))
    if (name === 'transaction isolation level') return fixed.transaction_isolation
    return (
      settingShown(name, this.#kept) ??
      this.#scope.now.own.get(name) ??
      this.#ofUser[name] ??
      fixed[name] ??
      (name === 'datestyle' ? 'ISO, MDY' : free.has(name) ? '' : undefined)
    )
  }

  /** Milliseconds; 0: none. What the config says of idle transactions can only be shortened: they hold up checkpoints. */
  timeout(name: string): number {
    const own = this.#scope.now.timeouts.get(name) ?? 0
    if (name !== 'idle_in_transaction_session_timeout') return own
    return own === 0 || this.#idleLimit === 0 ? Math.max(own, this.#idleLimit) : Math.min(own, this.#idleLimit)
  }

  /** Parameters of the startup message that are settings; unknown ones are refused as Postgres does. */
  async start(executor: Executor, parameters: ReadonlyMap<string, string>, report: (name: string, value: string) => void): Promise<void> {
    // PGOPTIONS='-c name=value --name=value'
    const options = [...(parameters.get('options') ?? '').matchAll(/(?:-c\s*|--)([\w-]+)=((?:\\.|\S)*)/g)]
    const given = options.map(([, name = '', value = '']) => [name.replaceAll('-', '_'), value.replace(/\\(.)/g, '$1')] as const)
    for (const [name, value] of [...parameters, ...given]) {
      const lower = name.toLowerCase()
      if (timeoutNames.has(lower)) this.#change(false, ({ timeouts }) => timeouts.set(lower, milliseconds(lower, value)))
      else if (lower === 'timezone') await this.#setTimeZone(executor, value, false)
      else if (free.has(lower)) this.#change(false, ({ own }) => own.set(lower, value))
    }
    await this.transactionEnded(executor, true)
    const { timeZone, own, timeouts } = this.#scope.now
    this.#atStart = { timeZone, own: new Map(own), timeouts: new Map(timeouts) }
    this.#report = report
  }

  #change(local: boolean, edit: (values: SettingValues) => void): void {
    this.#scope.change(local, edit)
  }

  async #set(executor: Executor, tokens: readonly Token[]): Promise<void> {
    const local = isLocal(tokens)
    let at = 0
    if (['session', 'local', 'global'].includes(tokens[0]?.text ?? '') && tokens[1]?.text !== '=') at = 1
    const name = tokens[at]?.text.toLowerCase() ?? ''
    if (name === 'transaction' || name === 'characteristics') return this.#isolation(tokens)
    if (name === 'time' && tokens[at + 1]?.text === 'zone') return this.#setTimeZone(executor, settingValue(tokens.slice(at + 2)), local)
    if (name === 'names') return
    const values = tokens.slice(tokens[at + 1]?.text === '=' || tokens[at + 1]?.text === 'to' ? at + 2 : at + 1)
    if (name === 'timezone') return this.#setTimeZone(executor, settingValue(values), local)
    if (name === 'search_path' || name === 'schema') return this.#setSearchPath(executor, values, local)
    const value = settingValue(values)
    if (name === 'wal_autocheckpoint') {
      if (this.#onlyReads) throw readOnlyError()
      if (local)
        throw new SqlError('0A000', 'wal_autocheckpoint is kept for good, not for a transaction', {
          hint: 'PRAGMA wal_autocheckpoint = 5000',
        })
      setCheckpointEvery(value, this.#kept)
      return
    }
    if (timeoutNames.has(name)) {
      const ms = value.toLowerCase() === 'default' ? (this.#atStart.timeouts.get(name) ?? 0) : milliseconds(name, value)
      this.#change(local, ({ timeouts }) => timeouts.set(name, ms))
      return
    }
    if (free.has(name)) {
      const isDefault = values.length === 1 && values[0]?.kind === 'word' && values[0].text === 'default'
      this.#change(local, ({ own }) => (isDefault ? restore(own, this.#atStart.own, name) : own.set(name, value)))
      if (name === 'application_name') this.#report(name, this.valueOf(name) ?? '')
      return
    }
    if (fixed[name] === undefined)
      throw new SqlError('42501', `the setting ${name} is not available to SQL clients`, { hint: 'see engine: in config.yaml' })
    if (name.endsWith('transaction_read_only') && this.#onlyReads) {
      if (['off', 'false', '0', 'no'].includes(value.toLowerCase())) throw readOnlyError()
      return
    }
    const accepted = alike[name] ?? [fixed[name].toLowerCase()]
    if (value.toLowerCase() !== 'default' && !accepted.includes(value.toLowerCase())) {
      throw new SqlError('0A000', `${name} can only be ${accepted.join(' or ')} here`)
    }
  }

  async #reset(executor: Executor, name: string): Promise<void> {
    if (name === 'wal_autocheckpoint') {
      if (this.#onlyReads) throw readOnlyError()
      this.#kept.setCheckpointEvery(null)
      return
    }
    const known =
      ['all', 'timezone', 'search_path', 'role', 'session'].includes(name) ||
      free.has(name) ||
      timeoutNames.has(name) ||
      fixed[name] !== undefined
    if (!known) throw new SqlError('42501', `the setting ${name} is not available to SQL clients`, { hint: 'see engine: in config.yaml' })
    if (name === 'all' || name === 'timezone') await this.#setTimeZone(executor, 'default', false)
    if (name === 'all' || name === 'search_path') await this.#runSearchPath(executor, [], false)
    const applicationName = this.valueOf('application_name') ?? ''
    this.#change(false, ({ own, timeouts }) => {
      for (const each of name === 'all' ? [...own.keys(), ...this.#atStart.own.keys()] : [name]) restore(own, this.#atStart.own, each)
      for (const each of name === 'all' ? timeoutNames : [name]) restore(timeouts, this.#atStart.timeouts, each)
    })
    const restored = this.valueOf('application_name') ?? ''
    if (restored !== applicationName) this.#report('application_name', restored)
  }

  #isolation(tokens: readonly Token[]): void {
    if (tokens.some((token) => token.text === 'serializable'))
      throw new SqlError('0A000', 'isolation is snapshot; SERIALIZABLE is not available')
    if (this.#onlyReads && tokens.some((token, i) => token.text === 'read' && tokens[i + 1]?.text === 'write')) throw readOnlyError()
  }

  async #setTimeZone(executor: Executor, value: string, local: boolean): Promise<void> {
    const zone = /^(default|local)$/i.test(value) ? this.#atStart.timeZone : value
    await this.#run(executor, `SET TimeZone = ${quoteString(zone)}`)
    this.#change(local, (values) => {
      values.timeZone = zone
    })
    this.#report('TimeZone', zone)
  }

  async #setSearchPath(executor: Executor, tokens: readonly Token[], local: boolean): Promise<void> {
    // SET search_path = 'a,b' and SET search_path = a, b
    const only = tokens[0]
    const isDefault = only?.kind === 'word' && only.text === 'default'
    const entries = isDefault ? [] : tokens.length === 1 && only?.kind === 'string' ? tokenize(only.text) : tokens
    const path: string[][] = [[]]
    for (const token of entries) {
      if (token.text === ',' && token.kind === 'symbol') path.push([])
      else if (token.kind !== 'symbol') path.at(-1)?.push(token.text)
    }
    const parts = path
      .filter(([first]) => first !== undefined && first !== '$user')
      .map((part) => (part.length === 1 && part[0] === 'public' ? ['main'] : part))
    for (const part of parts) {
      const [first, second] = part.map(lowerCase) as [string, string?]
      if (part.length > 2) throw new SqlError('42601', `${part.join('.')} is not a schema`)
      if ((second ?? first) === ownSchema) throw ownSchemaDenied()
      const foreign = second === undefined ? ['memory', 'system', 'temp'].includes(first) : first !== lowerCase(this.#catalog)
      if (foreign) throw new SqlError('42501', `the search path cannot leave the guarded database: ${part.join('.')}`)
    }
    await this.#runSearchPath(executor, parts, local)
  }

  /** `parts`: names of schemas, each with its catalog or without; none: the default. */
  async #runSearchPath(executor: Executor, parts: readonly (readonly string[])[], local: boolean): Promise<void> {
    const text = (parts.length === 0 ? [[this.#catalog, 'main']] : parts).map((part) => part.map(quoteIdentifier).join('.')).join(',')
    await this.#run(executor, `SET search_path = ${quoteString(text)}`)
    executor.forget()
    const path = await currentSearchPath(executor)
    this.#change(local, (values) => {
      values.searchPath = path
    })
  }

  async #run(executor: Executor, sql: string): Promise<void> {
    await executor.connection.run(sql)
  }
}

function restore<T>(values: Map<string, T>, before: ReadonlyMap<string, T>, name: string): void {
  const value = before.get(name)
  if (value === undefined) values.delete(name)
  else values.set(name, value)
}

/** SET LOCAL: the tokens after SET. */
export function isLocal(tokens: readonly Token[]): boolean {
  return tokens[0]?.text === 'local' && tokens[1]?.text !== '='
}

async function currentSearchPath(executor: Executor): Promise<string> {
  const [row] = await executor.connection.all("SELECT current_setting('search_path')")
  return String(row?.[0])
}

function settingValue(tokens: readonly Token[]): string {
  const minus = tokens[0]?.text === '-' ? '-' : ''
  return (
    minus +
    tokens
      .slice(minus === '' ? 0 : 1)
      .map((token) => token.text)
      .join(' ')
  )
}
