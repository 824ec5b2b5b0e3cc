/**
 * Work over all keys of a table, for schema changes that no single script can follow. Each is safe to repeat from the start, because it is
 * repeated when the process dies before the watermark has moved past the change.
 */

import type { Redis } from 'ioredis'
import type { SchemaEffect, TableName } from '../../agent/schema-change.ts'
import { fieldName, type Keys } from './row.ts'

/** Brings the keys in line with a schema change. Rejects when Redis does. */
export async function followSchema(redis: Redis, keys: Keys, effect: SchemaEffect, signal: AbortSignal): Promise<void> {
  if (effect.kind === 'emptied') {
    for (const table of effect.tables) await removeTable(redis, keys, table, signal)
  } else if (effect.kind === 'table-renamed') {
    const from = keys.rows(effect.from)
    await eachKey(redis, from, signal, async (found) => {
      for (const key of found) await redis.rename(key, keys.rows(effect.to) + key.slice(from.length)).catch(ignoreExpired)
    })
    await redis.rename(keys.table(effect.from), keys.table(effect.to)).catch(ignoreExpired)
  } else if (effect.kind === 'column-renamed') {
    await eachKey(redis, keys.rows(effect.table), signal, async (found) => {
      for (const key of found)
        await redis.call('EVAL', [renameField, '1', key, fieldName(effect.from), fieldName(effect.to), effect.from, effect.to])
    })
  }
}

/** Removes every row of every table, and the tables' definitions; the stream stays. */
export async function removeAllRows(redis: Redis, keys: Keys, signal: AbortSignal): Promise<void> {
  for (const kind of ['row:', 'table:'])
    await eachKey(redis, `${keys.prefix}${kind}`, signal, async (found) => void (await redis.unlink(...found)))
}

async function removeTable(redis: Redis, keys: Keys, table: TableName, signal: AbortSignal): Promise<void> {
  await eachKey(redis, keys.rows(table), signal, async (found) => void (await redis.unlink(...found)))
  await redis.unlink(keys.table(table))
}

/** Visits all keys that begin with `prefix`; a key may come twice. */
async function eachKey(redis: Redis, prefix: string, signal: AbortSignal, visit: (keys: string[]) => Promise<void>): Promise<void> {
  const pattern = `${prefix.replace(/[\\*?[\]^]/g, '\\$&')}*`
  let cursor = '0'
  do {
    signal.throwIfAborted()
    const [next, found] = await redis.scan(cursor, 'MATCH', pattern, 'COUNT', 1_000)
    if (found.length > 0) await visit(found)
    cursor = next
  } while (cursor !== '0')
}

/** A column's field and its name in `_dg_null`; the expiry stays. A row that is renamed already is left alone. */
const renameField = `
local value = redis.call('HGET', KEYS[1], ARGV[1])
if value then
  redis.call('HSET', KEYS[1], ARGV[2], value)
  redis.call('HDEL', KEYS[1], ARGV[1])
end
local nulls = redis.call('HGET', KEYS[1], '_dg_null')
if nulls then
  local names = cjson.decode(nulls)
  for i, name in ipairs(names) do if name == ARGV[3] then names[i] = ARGV[4] end end
  redis.call('HSET', KEYS[1], '_dg_null', cjson.encode(names))
end
`

/** A key may expire between SCAN and RENAME. */
function ignoreExpired(error: Error): void {
  if (!error.message.includes('no such key')) throw error
}
