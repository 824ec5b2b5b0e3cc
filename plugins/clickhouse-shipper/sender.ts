/**
 * Sends one part of a batch: its rows in INSERTs of a fixed size, each with a token of its own. An INSERT is one block, hence one atomic part
 * on the server, and they go one after the other: what the server has of a part is always its beginning. So `max(_dg_seq)` and a count tell
 * where to go on, on servers without tokens and after an outage longer than their window.
 */

import { messageOf } from '../../agent/errors.ts'
import type { Table } from '../../agent/journal/types.ts'
import { type BatchRow, cellAt, type Part } from './batch.ts'
import { refusesContent, type Server } from './server.ts'
import type { BatchBounds } from './state.ts'
import { type Target, targetColumn } from './target.ts'
import { type Encoder, encoderFor, identifier, jsonBytes, literal, UnfitValue } from './types.ts'

export interface SenderSettings {
  readonly server: Server
  readonly database: string
  readonly host: string
  readonly databaseId: string
  readonly bounds: BatchBounds
  /** Begins the ids of this database's INSERTs. */
  readonly owner: string
  /** Called, durably, before anything after the row is sent. */
  refuse(part: Part, index: number, reason: string): Promise<void>
}

/** How many rows of the part (refused ones not counted) the server has. Rejects when it cannot be asked. */
export async function deliveredRows(part: Part, settings: SenderSettings): Promise<number> {
  const { server, database, host, bounds } = settings
  const from = `${identifier(database)}.${identifier(part.target)}`
  const range = `_dg_host = ${literal(host)} AND _dg_seq >= ${bounds.first} AND _dg_seq <= ${bounds.last}`
  const last = Number((await server.rows<{ n: string }>(`SELECT max(_dg_seq) AS n FROM ${from} WHERE ${range}`))[0]?.n ?? 0)
  if (last === 0) return 0
  const refused = new Set(bounds.refused[part.target])
  const sent = part.rows.filter((_, i) => !refused.has(i))
  const before = sent.filter((row) => row.seq < last).length
  // A key that an earlier slice has sent as well is counted once: then some rows are sent again, which take the place of themselves.
  const there = Math.max(0, (await countAt(part, last, settings)) - (bounds.slice?.sent[part.target] ?? 0))
  return before + Math.min(there, sent.length - before)
}

/** Rows of this host that have exactly this seq; a row that is there twice counts once. */
async function countAt(part: Part, seq: number, { server, database, host }: SenderSettings): Promise<number> {
  const from = `${identifier(database)}.${identifier(part.target)}`
  const table = part.versions.at(-1)!
  const key = part.kind === 'latest' ? table.primaryKey.map((column) => targetColumn(table.columns[column]!.name)) : ['_dg_row']
  const rows = await server.rows<{ n: string }>(
    `SELECT uniqExact(_dg_seq, ${key.map(identifier).join(', ')}) AS n FROM ${from} WHERE _dg_host = ${literal(host)} AND _dg_seq = ${seq}`,
  )
  return Number(rows[0]?.n ?? 0)
}

/** Sends the rows of the part but the first `delivered` ones. Rows that are refused for their content go to `refuse`. Rejects on anything else. */
export async function sendPart(part: Part, target: Target, delivered: number, settings: SenderSettings): Promise<number> {
  const refused = new Set(settings.bounds.refused[part.target])
  const encoders = new Map<Table, RowEncoder>()
  const { rowsPerInsert } = settings.bounds
  let skip = delivered
  let start = 0
  for (; start < part.rows.length && (skip > 0 || refused.has(start)); start++) if (!refused.has(start)) skip--

  async function send(from: number, to: number): Promise<number> {
    const lines: string[] = []
    const sent: number[] = []
    for (let i = from; i < to; i++) {
      if (refused.has(i)) continue
      try {
        lines.push(encodeRow(part.rows[i]!, target, settings.host, encoders))
        sent.push(i)
      } catch (error) {
        if (!(error instanceof UnfitValue)) throw error
        await refuse(i, error.message)
      }
    }
    if (sent.length === 0) return 0
    try {
      await insert(from, to, lines, sent)
      return sent.length
    } catch (error) {
      if (!refusesContent(error)) throw error
      if (sent.length === 1) {
        await refuse(sent[0]!, messageOf(error))
        return 0
      }
      const middle = sent[Math.floor(sent.length / 2)]!
      return (await send(from, middle)) + (await send(middle, to))
    }
  }

  async function refuse(index: number, reason: string): Promise<void> {
    await settings.refuse(part, index, reason)
    refused.add(index)
  }

  async function insert(from: number, to: number, lines: string[], sent: readonly number[]): Promise<void> {
    const { bounds } = settings
    // Which rows are in it is part of the token: rows that are refused later change the block.
    const batch = `${bounds.first}-${bounds.last}${bounds.slice === undefined ? '' : `/${bounds.slice.from}`}`
    const token = `${settings.databaseId}:${part.target}:${batch}:${from}-${to}:${sent.length}`
    const columns = columnsOf(part, target).map(identifier).join(', ')
    const into = `${identifier(settings.database)}.${identifier(part.target)} (${columns})`
    await settings.server.insert(into, Buffer.from(lines.join('\n'), 'latin1'), token, settings.owner)
  }

  let count = 0
  while (start < part.rows.length) {
    const end = Math.min(part.rows.length, (Math.floor(start / rowsPerInsert) + 1) * rowsPerInsert)
    count += await send(start, end)
    start = end
  }
  return count
}

function columnsOf(part: Part, target: Target): string[] {
  const names = new Set(part.versions.flatMap((version) => version.columns.map((column) => targetColumn(column.name))))
  const own = ['_dg_host', '_dg_seq', '_dg_time', '_dg_deleted', '_dg_op', '_dg_row'].filter((name) => target.types.has(name))
  return [...names, ...own.filter((name) => ownColumns[part.kind].has(name))]
}

const ownColumns = {
  latest: new Set(['_dg_host', '_dg_seq', '_dg_time', '_dg_deleted']),
  keyless: new Set(['_dg_host', '_dg_seq', '_dg_time', '_dg_deleted', '_dg_row']),
  history: new Set(['_dg_host', '_dg_seq', '_dg_time', '_dg_op', '_dg_row']),
}

interface RowEncoder {
  readonly columns: readonly { readonly name: string; readonly encode: Encoder }[]
  readonly time: (ms: number) => string
}

/** One line of JSONEachRow, in latin1 (see types.ts). Columns that a delete does not have are left out. */
function encodeRow(row: BatchRow, target: Target, host: string, encoders: Map<Table, RowEncoder>): string {
  let encoder = encoders.get(row.table)
  if (encoder === undefined) {
    const columns = row.table.columns.map(({ name, type }) => ({
      name: jsonBytes(targetColumn(name)),
      encode: encoderFor(type, target.types.get(targetColumn(name))!),
    }))
    const precise = target.types.get('_dg_time')?.startsWith('DateTime64') ?? false
    encoder = { columns, time: precise ? preciseTime : wholeSeconds }
    encoders.set(row.table, encoder)
  }
  const fields: string[] = []
  encoder.columns.forEach(({ name, encode }, i) => {
    const cell = cellAt(row, i)
    if (cell !== undefined) fields.push(`${name}:${encode(cell)}`)
  })
  fields.push(`"_dg_host":${jsonBytes(host)}`, `"_dg_seq":${row.seq}`, `"_dg_time":${encoder.time(row.time)}`)
  if (target.kind === 'history') fields.push(`"_dg_op":"${row.operation}"`)
  else fields.push(`"_dg_deleted":${row.operation === 'delete' ? 1 : 0}`)
  if (target.kind !== 'latest') fields.push(`"_dg_row":${row.number}`)
  return `{${fields.join(',')}}`
}

function preciseTime(ms: number): string {
  return `"${new Date(ms).toISOString().slice(0, 23).replace('T', ' ')}"`
}

function wholeSeconds(ms: number): string {
  return String(Math.floor(ms / 1000))
}
