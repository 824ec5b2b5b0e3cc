/** The same tables as DuckDB, ClickHouse and Redis have them: as texts, sorted, so that two stores can be compared row by row. */

import { createClient } from '@clickhouse/client'
import { Redis } from 'ioredis'
import * as assert from 'uvu/assert'
import { type Guarded, host, patience } from './guarded.ts'

/** Rows of columns `columns`, each a line of texts joined by `|`, sorted. */
export type Lines = string[]

export async function inDuckDB(guarded: Guarded, table: string, columns: readonly string[]): Promise<Lines> {
  const rows = await guarded.sql(`SELECT ${columns.map((column) => `${column}::VARCHAR`).join(', ')} FROM ${table}`)
  return rows.map((row) => row.join('|')).sort()
}

/** Plain, without FINAL: what was only ever inserted must be there once. */
export async function inClickHouse(url: string, table: string, columns: readonly string[]): Promise<Lines> {
  const rows = await clickHouseRows(
    url,
    `SELECT ${columns.map((column) => `toString(${column})`).join(', ')} FROM ${table} WHERE _dg_host = '${host}'`,
  )
  return rows.map((row) => row.join('|')).sort()
}

export async function clickHouseRows(url: string, query: string): Promise<string[][]> {
  const client = createClient({ url, request_timeout: patience })
  try {
    return await (await client.query({ query, format: 'JSONCompactStringsEachRow' })).json<string[]>()
  } finally {
    await client.close()
  }
}

export async function inRedis(url: string, table: string, columns: readonly string[]): Promise<Lines> {
  const redis = new Redis(url, { maxRetriesPerRequest: 2 })
  redis.on('error', () => {})
  try {
    const keys = new Set<string>()
    for (let cursor = '0', first = true; first || cursor !== '0'; first = false) {
      const [next, found] = await redis.scan(cursor, 'MATCH', `dg:${host}:row:main.${table}:*`, 'COUNT', 1_000)
      for (const key of found) keys.add(key)
      cursor = next
    }
    const lines: Lines = []
    const all = [...keys]
    while (all.length > 0) {
      const pipeline = redis.pipeline()
      for (const key of all.splice(0, 500)) pipeline.hmget(key, ...columns)
      for (const [error, values] of (await pipeline.exec()) ?? []) {
        if (error) throw error
        lines.push((values as string[]).join('|'))
      }
    }
    return lines.sort()
  } finally {
    redis.disconnect()
  }
}

/** Entries of inserts in the mirror's stream, by table. */
export async function insertsInStream(url: string): Promise<Map<string, number>> {
  const redis = new Redis(url, { maxRetriesPerRequest: 2 })
  redis.on('error', () => {})
  try {
    const counts = new Map<string, number>()
    for (let from = '-'; ; ) {
      const entries = await redis.xrange(`dg:${host}:changes`, from, '+', 'COUNT', 1_000)
      for (const [, fields] of entries) {
        const entry = Object.fromEntries(Array.from({ length: fields.length / 2 }, (_, i) => [fields[2 * i], fields[2 * i + 1]]))
        if (entry.op === 'insert') counts.set(entry.table as string, (counts.get(entry.table as string) ?? 0) + 1)
      }
      const last = entries.at(-1)
      if (last === undefined) return counts
      from = `(${last[0]}`
    }
  } finally {
    redis.disconnect()
  }
}

/** Waits until every consumer has confirmed all that is durable. */
export async function delivered(guarded: Guarded, consumers = 2, deadline = patience): Promise<void> {
  await guarded.until(
    'everything is delivered',
    ({ engine, lag }) => {
      const durable = engine.status?.durableSeq
      return engine.state === 'up' && lag.length === consumers && lag.every(({ confirmed }) => confirmed === durable)
    },
    deadline,
  )
}

/** Compares two stores; says how many differ and shows some, not ten thousand lines. */
export function assertSame(what: string, found: Lines, expected: Lines): void {
  const surplus = minus(found, expected)
  const missing = minus(expected, found)
  if (surplus.length + missing.length === 0) return
  assert.unreachable(
    `${what}: ${found.length} rows, expected ${expected.length}; ${missing.length} missing (${missing.slice(0, 5).join('; ')}), ${surplus.length} too many (${surplus.slice(0, 5).join('; ')})`,
  )
}

/** Of a multiset: what `from` has more often than `other`. */
function minus(from: Lines, other: Lines): Lines {
  const counts = new Map<string, number>()
  for (const line of other) counts.set(line, (counts.get(line) ?? 0) + 1)
  return from.filter((line) => {
    const count = counts.get(line) ?? 0
    counts.set(line, count - 1)
    return count <= 0
  })
}
