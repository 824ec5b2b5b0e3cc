/** Random DuckDB types, and random values of them as SQL expressions: extremes, every plane of Unicode, NULL anywhere. */

import type { Random } from '../../support/random.ts'

export interface RandomType {
  /** As DuckDB prints it. */
  readonly sql: string
  /** A value as SQL text; never NULL at the top. */
  value(random: Random): string
}

const integer = (sql: string, least: bigint, greatest: bigint): RandomType => ({
  sql,
  value: (random) => {
    const small = BigInt(random.int(0, 9))
    const value = random.chance(0.2) ? least : random.chance(0.2) ? greatest : random.chance(0.3) && least < 0n ? -small : small
    return `'${value}'::${sql}`
  },
})

const oneOf = (sql: string, ...texts: string[]): RandomType => ({ sql, value: (random) => `'${random.pick(texts)}'::${sql}` })

const decimal = (width: number, scale: number): RandomType => ({
  sql: `DECIMAL(${width},${scale})`,
  value: (random) => {
    const digits = Array.from({ length: random.chance(0.3) ? width : random.int(1, width) }, () => random.int(0, 9))
      .join('')
      .padStart(scale + 1, '0')
    const text = scale === 0 ? digits.slice(0, width) : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`
    return `'${random.chance(0.5) ? '-' : ''}${digits.length > width ? `0.${'1'.repeat(scale)}` : text}'::DECIMAL(${width},${scale})`
  },
})

const floating = (sql: string, ...extremes: string[]): RandomType => ({
  sql,
  value: (random) =>
    `'${random.chance(0.5) ? random.pick(['NaN', 'Infinity', '-Infinity', '0', '-0', '1.5', ...extremes]) : random.float() * 10 ** random.int(-30, 30)}'::${sql}`,
})

/** Text of any code points but surrogates, quotes and zero included. */
export function randomText(random: Random): string {
  return Array.from({ length: random.chance(0.05) ? random.int(200, 5_000) : random.int(0, 12) }, () => {
    const plane = random.pick([
      [0x20, 0x7e],
      [0x20, 0x7e],
      [1, 0x1f],
      [0xa0, 0x24f],
      [0x4e00, 0x4eff],
      [0xe000, 0xffff],
      [0x1f300, 0x1f6ff],
      [0x20000, 0x2ffff],
      [0xf0000, 0x10ffff],
    ])
    return String.fromCodePoint(random.int(plane[0] as number, plane[1] as number))
  }).join('')
}

const varchar: RandomType = {
  sql: 'VARCHAR',
  value: (random) => {
    const text = `'${randomText(random).replaceAll("'", "''")}'`
    return random.chance(0.05) ? `(${text} || chr(0) || 'x')` : text
  },
}

const blob: RandomType = {
  sql: 'BLOB',
  value: (random) =>
    `'${Array.from(random.bytes(random.int(0, 40)), (byte) => `\\x${byte.toString(16).padStart(2, '0').toUpperCase()}`).join('')}'::BLOB`,
}

const uuid: RandomType = {
  sql: 'UUID',
  value: (random) => {
    const hex = Buffer.from(random.bytes(16)).toString('hex')
    return `'${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}'::UUID`
  },
}

const json: RandomType = {
  sql: 'JSON',
  value: (random) =>
    `'${JSON.stringify(random.pick<unknown>([{}, [1, 'a', null], { a: { b: 'x"y' } }, 'text', 12.5, null, true])).replaceAll("'", "''")}'::JSON`,
}

export const integers = [
  integer('TINYINT', -128n, 127n),
  integer('SMALLINT', -32768n, 32767n),
  integer('INTEGER', -(2n ** 31n), 2n ** 31n - 1n),
  integer('BIGINT', -(2n ** 63n), 2n ** 63n - 1n),
  integer('HUGEINT', -(2n ** 127n), 2n ** 127n - 1n),
  integer('UTINYINT', 0n, 255n),
  integer('USMALLINT', 0n, 65535n),
  integer('UINTEGER', 0n, 2n ** 32n - 1n),
  integer('UBIGINT', 0n, 2n ** 64n - 1n),
  integer('UHUGEINT', 0n, 2n ** 128n - 1n),
]

export const scalars: readonly RandomType[] = [
  ...integers,
  oneOf(
    'BIGNUM',
    '0',
    '-1',
    '123456789012345678901234567890123456789012345678901234567890',
    '-99999999999999999999999999999999999999999999',
  ),
  decimal(4, 1),
  decimal(9, 4),
  decimal(18, 2),
  decimal(38, 10),
  decimal(38, 0),
  floating('FLOAT', '3.4028235e38', '1e-45'),
  floating('DOUBLE', '1.7976931348623157e308', '5e-324', '0.1'),
  varchar,
  varchar,
  blob,
  oneOf('BOOLEAN', 'true', 'false'),
  oneOf('DATE', '2026-11-23', '0044-03-15 (BC)', 'infinity', '-infinity', '9999-12-31', '1970-01-01'),
  oneOf('TIME', '00:00:00', '23:59:59.999999', '24:00:00', '12:34:56.789'),
  oneOf('TIME_NS', '00:00:00', '23:59:59.999999999', '12:34:56.000000001'),
  oneOf('TIME WITH TIME ZONE', '12:34:56+05:30', '00:00:00-15:59:59', '23:59:59.999999+00'),
  oneOf('TIMESTAMP', '2026-11-23 09:00:00.123456', 'infinity', '-infinity', '0044-03-15 (BC) 01:02:03', '1969-12-31 23:59:59.999999'),
  oneOf('TIMESTAMP_S', '2026-11-23 09:00:00', '1960-01-01 00:00:01', 'infinity'),
  oneOf('TIMESTAMP_MS', '2026-11-23 09:00:00.123', '1960-01-01 00:00:00.001', '-infinity'),
  oneOf('TIMESTAMP_NS', '2026-11-23 09:00:00.123456789', '1960-01-01 00:00:00.000000001', 'infinity'),
  oneOf('TIMESTAMP WITH TIME ZONE', '2026-11-23 09:00:00.123456+02', 'infinity', '1900-01-01 00:00:00-11'),
  oneOf('INTERVAL', '1 year 2 months 3 days 04:05:06.000007', '-3 months 20 days -00:00:01', '0 days', '100000 days'),
  uuid,
  oneOf(`ENUM('buy', 'sell', 'it''s ñ', '')`, 'buy', 'sell', "it''s ñ", ''),
  oneOf('BIT', '0', '1', '10101', '00000000', '111111111000000011'),
  json,
]

/** Types that a key can have. */
export const keys: readonly RandomType[] = [
  ...integers,
  ...scalars.filter(({ sql }) =>
    ['VARCHAR', 'DATE', 'TIMESTAMP', 'UUID', 'DECIMAL(18,2)', 'DOUBLE', 'BLOB', 'TIME', 'TIMESTAMP WITH TIME ZONE'].includes(sql),
  ),
]

export function randomType(random: Random, depth = 2): RandomType {
  if (random.chance(0.05)) {
    const width = random.int(1, 38)
    return decimal(width, random.int(0, width))
  }
  if (depth === 0 || random.chance(0.75)) return random.pick(scalars)
  const inner = randomType(random, depth - 1)
  const item = (from: Random) => (from.chance(0.15) ? `NULL::${inner.sql}` : inner.value(from))
  switch (random.int(0, 4)) {
    case 0: {
      const sql = `${inner.sql}[]`
      return { sql, value: (from) => `[${Array.from({ length: from.int(0, 4) }, () => item(from)).join(', ')}]::${sql}` }
    }
    case 1: {
      const size = random.int(1, 4)
      const sql = `${inner.sql}[${size}]`
      return { sql, value: (from) => `[${Array.from({ length: size }, () => item(from)).join(', ')}]::${sql}` }
    }
    case 2: {
      const other = randomType(random, depth - 1)
      const sql = `STRUCT(a ${inner.sql}, "b c" ${other.sql})`
      return { sql, value: (from) => `{'a': ${item(from)}, 'b c': ${other.value(from)}}::${sql}` }
    }
    case 3: {
      const sql = `MAP(VARCHAR, ${inner.sql})`
      return { sql, value: (from) => `MAP([${['k1', 'k"2'].map((key) => `'${key}'`).join(', ')}], [${item(from)}, ${item(from)}])::${sql}` }
    }
    default: {
      const sql = `UNION(num ${inner.sql}, str VARCHAR)`
      return {
        sql,
        value: (from) =>
          from.chance(0.5) ? `union_value(num := ${inner.value(from)})::${sql}` : `union_value(str := ${varchar.value(from)})::${sql}`,
      }
    }
  }
}
