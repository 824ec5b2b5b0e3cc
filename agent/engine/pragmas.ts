/** PRAGMAs as users of SQLite and of DuckDB write them: those that mean something here do it, or say that it is so anyway. */

import type { KeptSettings } from './kept-settings.ts'
import type { Token } from './sql/tokens.ts'
import { SqlError } from './sql-error.ts'

type Notice = (severity: string, code: string, message: string) => void

/** They only read, each tried: DuckDB makes queries of them. */
const readers = new Set([
  ...['collations', 'database_size', 'functions', 'metadata_info', 'platform', 'show_databases', 'show_tables', 'show_tables_expanded'],
  ...['storage_info', 'table_info', 'version'],
])

/** `PRAGMA name` asks for its value. */
const shown = new Set(['foreign_keys', 'journal_mode', 'wal_autocheckpoint'])

/** Whether a PRAGMA is answered with rows. */
export function isQuery(tokens: readonly Token[]): boolean {
  const name = tokens[1]?.text ?? ''
  return readers.has(name) || (shown.has(name) && tokens.length === 2)
}

/** The value of `PRAGMA name` or SHOW name, or undefined where it is no setting of the guard's. */
export function settingShown(name: string, kept: KeptSettings): string | undefined {
  if (name === 'wal_autocheckpoint') return kept.checkpointEvery === null ? 'default' : String(kept.checkpointEvery)
  if (name === 'foreign_keys') return 'on'
  return name === 'journal_mode' ? 'wal' : undefined
}

/** `PRAGMA name`, `PRAGMA name = value`, `PRAGMA name(value)` of those that are no queries. Throws 42501 for what is not available. */
export function runPragma(text: string, tokens: readonly Token[], kept: KeptSettings, notice: Notice): void {
  const name = tokens[1]?.text ?? ''
  const written = tokens.slice(3).filter(({ kind, text: symbol }) => kind !== 'symbol' || symbol === '-')
  const value = written.map((token) => token.text).join(' ')
  switch (name) {
    case 'enable_wal':
      notice('NOTICE', '00000', 'the write-ahead log is always on: every acknowledged commit is in the journal, fsynced')
      return
    case 'wal_autocheckpoint':
      setCheckpointEvery(value, kept)
      notice('NOTICE', '00000', `a checkpoint every ${kept.checkpointEvery} transactions from now on`)
      return
    case 'foreign_keys':
      if (!/^(on|true|yes|1)$/i.test(value))
        throw new SqlError('0A000', 'foreign keys are always enforced', { hint: 'ALTER TABLE … DROP CONSTRAINT …' })
      notice('NOTICE', '00000', 'foreign keys are always enforced')
      return
    case 'journal_mode':
      if (!/^wal$/i.test(value)) throw new SqlError('0A000', 'the write-ahead log is always on')
      notice('NOTICE', '00000', 'the write-ahead log is always on')
      return
    case 'integrity_check':
    case 'quick_check':
      throw new SqlError('0A000', `PRAGMA ${name} is not supported: the file is verified from outside, block by block`, {
        hint: 'daemonguard scan',
      })
    default:
      throw new SqlError('42501', `${text.slice(0, 60)} is not available to SQL clients`, {
        hint: 'the journal is always on; daemonguard checkpoint makes a checkpoint',
      })
  }
}

/** A checkpoint every so many transactions; 'default': as the checkpointer is configured. */
export function setCheckpointEvery(value: string, kept: KeptSettings): void {
  const isDefault = value.toLowerCase() === 'default'
  if (!isDefault && !/^0*[1-9]\d{0,8}$/.test(value))
    throw new SqlError('22023', `wal_autocheckpoint is a number of transactions, not ${JSON.stringify(value)}`, {
      hint: 'PRAGMA wal_autocheckpoint = 5000',
    })
  kept.setCheckpointEvery(isDefault ? null : Number(value))
}
