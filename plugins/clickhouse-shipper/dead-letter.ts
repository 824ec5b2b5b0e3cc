/**
 * Dead letters: rows that the server refuses for their content. One JSON file per transaction and table, `<seq>-<table>.json`:
 * {version, plugin, host, database_id, seq, time, table, target, columns, primary_key, rows: [{number, operation, reason, cells}]},
 * cells by column name in the text of cell-text.ts (NULL is null). Writing the same row again changes nothing.
 */

import fs from 'node:fs'
import path from 'node:path'
import { cellText } from '../../agent/cell-text.ts'
import { ensureDirectory, writeAtomic } from '../../agent/disk.ts'
import { codeOf } from '../../agent/errors.ts'
import { tableName } from '../../agent/journal/types.ts'
import { type BatchRow, cellAt } from './batch.ts'

interface DeadLetter {
  version: 1
  rows: { number: number; operation: string; reason: string; cells: Record<string, string | null> }[]
}

/** Writes a refused row durably and returns its file. Throws when the disk does. */
export function writeDeadLetter(
  directory: string,
  row: BatchRow,
  target: string,
  reason: string,
  origin: { host: string; databaseId: string },
): string {
  ensureDirectory(directory, 'DEADLETTER:SAVE')
  const { table, seq, time } = row
  const file = path.join(directory, `${seq}-${encodeURIComponent(target).slice(0, 150)}.json`)
  const cells: Record<string, string | null> = {}
  table.columns.forEach(({ name, type }, i) => {
    const cell = cellAt(row, i)
    if (cell !== undefined) cells[name] = cell === null ? null : cellText(cell, type)
  })
  const rows = readRows(file).filter(({ number }) => number !== row.number)
  rows.push({ number: row.number, operation: row.operation, reason, cells })
  const letter = {
    version: 1,
    plugin: 'clickhouse-shipper',
    host: origin.host,
    database_id: origin.databaseId,
    seq,
    time,
    table: tableName(table),
    target,
    columns: table.columns,
    primary_key: table.primaryKey,
    rows,
  }
  writeAtomic(file, `${JSON.stringify(letter, null, 2)}\n`, 'DEADLETTER:SAVE')
  return file
}

function readRows(file: string): DeadLetter['rows'] {
  try {
    return (JSON.parse(fs.readFileSync(file, 'utf8')) as DeadLetter).rows
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return []
    throw error
  }
}
