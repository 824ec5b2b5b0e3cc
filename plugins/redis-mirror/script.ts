/**
 * The one atomic unit by which the mirror changes Redis: a Lua script that compares the watermark with the position the batch was made
 * for, applies the batch and moves the watermark. A batch that comes a second time finds another watermark and does nothing.
 */

import type { Redis } from 'ioredis'

/** Where Redis is: everything up to `seq`, and the first `part` items of the transaction after it. Null: Redis has no mirror. */
export type Position = { readonly seq: number; readonly part: number } | null

export interface Unit {
  readonly from: Position
  readonly to: { readonly seq: number; readonly part: number; readonly time: number }
  /** Operations for the script, flat (see below). */
  readonly operations: string[]
  readonly rows: number
}

export type Outcome = { readonly kind: 'applied' } | { readonly kind: 'moved' } | { readonly kind: 'foreign'; readonly databaseId: string }

/*
 * ARGV: database id · expected seq, part ('' when there is no watermark) · new seq, part, time · oldest ms of the stream · its expiry (ms), then operations:
 *   S key expireAt n field value …   replaces a row        H key n field value …   replaces a hash that stays
 *   D key                            removes a key         X ms n field value …    appends to the stream
 * The stream's ids are commit times; a clock that stepped back must not make Redis refuse one, so they never fall.
 * unpack() is limited by Lua's stack: wide rows go in slices. The first write is an HSET, which Redis refuses when its memory is used up:
 * then nothing has changed. (After a first write of another kind, DEL for one, Redis lets a script go on past maxmemory.)
 */
const script = `
local mark = redis.call('HMGET', KEYS[1], 'database_id', 'seq', 'part')
if mark[1] and mark[1] ~= ARGV[1] then return {'foreign', mark[1]} end
if (mark[2] or '') ~= ARGV[2] or (mark[3] or '') ~= ARGV[3] then return {'moved'} end
redis.call('HSET', KEYS[1], 'database_id', ARGV[1])
local lastMs, lastN = 0, 0
local info = redis.pcall('XINFO', 'STREAM', KEYS[2])
if not info.err then
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      local ms, n = string.match(info[i + 1], '^(%d+)-(%d+)$')
      lastMs, lastN = tonumber(ms), tonumber(n)
    end
  end
end
local function fill(key, first, n)
  redis.call('DEL', key)
  for i = first, first + n - 1, 4000 do
    redis.call('HSET', key, unpack(ARGV, i, math.min(i + 3999, first + n - 1)))
  end
end
local i = 9
while i <= #ARGV do
  local op = ARGV[i]
  if op == 'S' then
    local n = tonumber(ARGV[i + 3])
    fill(ARGV[i + 1], i + 4, n)
    redis.call('PEXPIREAT', ARGV[i + 1], ARGV[i + 2])
    i = i + 4 + n
  elseif op == 'H' then
    local n = tonumber(ARGV[i + 2])
    fill(ARGV[i + 1], i + 3, n)
    i = i + 3 + n
  elseif op == 'D' then
    redis.call('DEL', ARGV[i + 1])
    i = i + 2
  else
    local n = tonumber(ARGV[i + 2])
    local ms = tonumber(ARGV[i + 1])
    if ms > lastMs then lastMs, lastN = ms, 0 else lastN = lastN + 1 end
    redis.call('XADD', KEYS[2], string.format('%.0f-%.0f', lastMs, lastN), unpack(ARGV, i + 3, i + 2 + n))
    i = i + 3 + n
  end
end
redis.call('XTRIM', KEYS[2], 'MINID', '~', ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[8])
redis.call('HSET', KEYS[1], 'seq', ARGV[4], 'time', ARGV[6])
if ARGV[5] == '' then redis.call('HDEL', KEYS[1], 'part') else redis.call('HSET', KEYS[1], 'part', ARGV[5]) end
return {'applied'}
`

/** Applies a unit. Rejects when Redis cannot be reached or refuses; then it may or may not have been applied. */
export async function applyUnit(
  redis: Redis,
  keys: { watermark: string; changes: string },
  databaseId: string,
  unit: Unit,
  stream: { oldest: number; expiry: number },
): Promise<Outcome> {
  const { from, to } = unit
  const fixed = [
    databaseId,
    from === null ? '' : String(from.seq),
    from === null ? '' : partText(from.part),
    String(to.seq),
    partText(to.part),
    String(to.time),
    String(Math.max(0, stream.oldest)),
    String(stream.expiry),
  ]
  const [kind, detail] = (await redis.call('EVAL', [script, '2', keys.watermark, keys.changes, ...fixed, ...unit.operations])) as string[]
  if (kind === 'foreign') return { kind, databaseId: detail ?? '' }
  return { kind: kind === 'applied' ? 'applied' : 'moved' }
}

/** A part of 0 has no field. */
function partText(part: number): string {
  return part === 0 ? '' : String(part)
}
