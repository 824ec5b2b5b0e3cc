/** Values as Postgres prints and packs them. The expected forms were taken from PostgreSQL's documentation and from its sources. */

import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { parseArray } from '../../agent/engine/pgwire/arrays.ts'
import { decodeParameter } from '../../agent/engine/pgwire/decoding.ts'
import { encoderOf } from '../../agent/engine/pgwire/encoding.ts'
import { MessageWriter } from '../../agent/engine/pgwire/messages.ts'
import { packTimeTz } from '../../agent/engine/pgwire/temporal.ts'
import { printerOf } from '../../agent/engine/pgwire/text.ts'
import { modifierOf, Oid, oidOf } from '../../agent/engine/pgwire/types.ts'
import type { SqlError } from '../../agent/engine/sql-error.ts'
import type { Cell, ColumnType, ScalarKind } from '../../agent/journal/types.ts'
import { seedOf } from '../support/random.ts'

const test = suite('values')
const seed = seedOf('values')

const scalar = (kind: ScalarKind): ColumnType => ({ kind })
const list = (child: ColumnType): ColumnType => ({ kind: 'LIST', child })
const infinite = 9223372036854775807n
const micros = (iso: string) => BigInt(Date.parse(`${iso}Z`)) * 1000n

function prints(type: ColumnType, cases: readonly (readonly [Cell, string])[]): void {
  const print = printerOf(type)
  for (const [cell, expected] of cases) assert.is(print(cell), expected)
}

function binary(type: ColumnType, cell: Cell): Buffer {
  const writer = new MessageWriter()
  encoderOf(type, 1)(writer, cell)
  const bytes = writer.take()!
  assert.is(bytes.readInt32BE(), bytes.length - 4)
  return bytes.subarray(4)
}

test('numbers and booleans', () => {
  prints(scalar('BOOLEAN'), [
    [true, 't'],
    [false, 'f'],
  ])
  prints(scalar('HUGEINT'), [[-170141183460469231731687303715884105728n, '-170141183460469231731687303715884105728']])
  prints({ kind: 'DECIMAL', width: 9, scale: 3 }, [
    [1234n, '1.234'],
    [-5n, '-0.005'],
    [0n, '0.000'],
    [100000n, '100.000'],
  ])
  prints({ kind: 'DECIMAL', width: 9, scale: 0 }, [[-7n, '-7']])
  prints(scalar('DOUBLE'), [
    [0, '0'],
    [-0, '-0'],
    [0.1, '0.1'],
    [1e15, '1e+15'],
    [123456789012345, '123456789012345'],
    [1234567890123456, '1.234567890123456e+15'],
    [0.0001, '0.0001'],
    [0.00001, '1e-05'],
    [1e300, '1e+300'],
    [5e-324, '5e-324'],
    [Number.NaN, 'NaN'],
    [Number.POSITIVE_INFINITY, 'Infinity'],
    [Number.NEGATIVE_INFINITY, '-Infinity'],
  ])
  prints(scalar('FLOAT'), [
    [Math.fround(0.1), '0.1'],
    [1e6, '1e+06'],
    [123456, '123456'],
    [Math.fround(1234567), '1.234567e+06'],
    [Math.fround(3.4028235e38), '3.4028235e+38'],
    [Math.fround(1e-45), '1e-45'],
  ])
})

test('dates and times, before Christ and infinite ones too', () => {
  prints(scalar('DATE'), [
    [0, '1970-01-01'],
    [19782, '2024-02-29'],
    [-719162, '0001-01-01'],
    [-719163, '0001-12-31 BC'],
    [-719528, '0001-01-01 BC'],
    [2932897, '10000-01-01'],
    [2147483647, 'infinity'],
    [-2147483647, '-infinity'],
  ])
  prints(scalar('TIME'), [
    [0n, '00:00:00'],
    [86_399_999_999n, '23:59:59.999999'],
    [86_400_000_000n, '24:00:00'],
    [3_600_500_000n, '01:00:00.5'],
  ])
  prints(scalar('TIME_NS'), [
    [3_600_500_000_001n, '01:00:00.500000001'],
    [1_000n, '00:00:00.000001'],
  ])
  prints(scalar('TIMETZ'), [
    [packTimeTz(36_000_000_000n, 19_800), '10:00:00+05:30'],
    [packTimeTz(0n, -3600), '00:00:00-01'],
    [packTimeTz(0n, -57_599), '00:00:00-15:59:59'],
  ])
  prints(scalar('TIMESTAMP'), [
    [micros('2024-02-29T23:59:59.120'), '2024-02-29 23:59:59.12'],
    [-1n, '1969-12-31 23:59:59.999999'],
    [micros('0001-01-01T00:00:00') - 1n, '0001-12-31 23:59:59.999999 BC'],
    [infinite, 'infinity'],
    [-infinite, '-infinity'],
    [9223372036854775806n, '294247-01-10 04:00:54.775806'],
    [-9223372022400000000n, '290309-12-22 00:00:00 BC'],
  ])
  prints(scalar('TIMESTAMPTZ'), [
    [micros('2024-06-01T12:00:00'), '2024-06-01 12:00:00+00'],
    [micros('0001-01-01T00:00:00') - 1_000_000n, '0001-12-31 23:59:59+00 BC'],
  ])
  prints(scalar('TIMESTAMP_S'), [
    [1n, '1970-01-01 00:00:01'],
    [-infinite, '-infinity'],
  ])
  prints(scalar('TIMESTAMP_MS'), [[-1n, '1969-12-31 23:59:59.999']])
  prints(scalar('TIMESTAMP_NS'), [
    [1n, '1970-01-01 00:00:00.000000001'],
    [-1n, '1969-12-31 23:59:59.999999999'],
    [infinite, 'infinity'],
  ])
})

test('days agree with the platform calendar for every day of 12,000 years', () => {
  const print = printerOf(scalar('DATE'))
  for (let days = -719_162; days < 3_650_000; days += 1) {
    const expected = new Date(days * 86_400_000).toISOString().slice(0, -14).replace(/^\+0*/, '')
    if (print(days) !== expected) assert.is(print(days), expected)
  }
})

test('intervals as IntervalStyle postgres', () => {
  const interval = (months: number, days: number, us: bigint) => ({ months, days, micros: us })
  prints(scalar('INTERVAL'), [
    [interval(0, 0, 0n), '00:00:00'],
    [interval(14, 3, 14_706_700_000n), '1 year 2 mons 3 days 04:05:06.7'],
    [interval(-14, 3, -14_706_000_000n), '-1 years -2 mons +3 days -04:05:06'],
    [interval(-1, 0, 1_000_000n), '-1 mons +00:00:01'],
    [interval(12, 0, 0n), '1 year'],
    [interval(0, 1, 0n), '1 day'],
    [interval(0, 0, 3_600_000_000_000n), '1000:00:00'],
  ])
})

test('bytes, lists and nested values', () => {
  prints(scalar('BLOB'), [
    [Uint8Array.of(0, 255, 16), '\\x00ff10'],
    [Uint8Array.of(), '\\x'],
  ])
  prints(list(scalar('INTEGER')), [
    [[1, null, 3], '{1,NULL,3}'],
    [[], '{}'],
  ])
  prints(list(scalar('VARCHAR')), [[['a b', 'null', '', 'q"\\', 'x,y', '{z}', 'plain'], '{"a b","null","","q\\"\\\\","x,y","{z}",plain}']])
  prints(list(list(scalar('INTEGER'))), [[[[1, 2], [3, 4], null], '{{1,2},{3,4},NULL}']])
  prints(list(scalar('BLOB')), [[[Uint8Array.of(1)], '{"\\\\x01"}']])
  const struct: ColumnType = {
    kind: 'STRUCT',
    fields: [
      ['a"b', scalar('BIGINT')],
      ['n', scalar('DOUBLE')],
      ['l', list(scalar('VARCHAR'))],
      ['d', scalar('DATE')],
    ],
  }
  prints(struct, [[[1n, Number.NaN, ['x', null], 0], '{"a\\"b":1,"n":"NaN","l":["x",null],"d":"1970-01-01"}']])
  prints(list(struct), [[[null], '[null]']])
  prints({ kind: 'MAP', key: scalar('INTEGER'), value: scalar('BOOLEAN') }, [
    [
      {
        entries: [
          [1, true],
          [2, null],
        ],
      },
      '{"1":true,"2":null}',
    ],
  ])
  prints(
    {
      kind: 'UNION',
      members: [
        ['num', scalar('INTEGER')],
        ['str', scalar('VARCHAR')],
      ],
    },
    [[{ tag: 'str', value: 'x' }, '{"str":"x"}']],
  )
})

test('types are announced as what Postgres clients can read', () => {
  const oids: [ColumnType, number][] = [
    [scalar('HUGEINT'), Oid.numeric],
    [scalar('UINTEGER'), Oid.int8],
    [scalar('UTINYINT'), Oid.int2],
    [list(scalar('VARCHAR')), 1009],
    [list(list(scalar('INTEGER'))), 1007],
    [{ kind: 'ENUM', values: ['a'] }, Oid.text],
    [list({ kind: 'STRUCT', fields: [] }), Oid.json],
    [{ kind: 'ARRAY', child: scalar('DOUBLE'), size: 2 }, 1022],
  ]
  for (const [type, oid] of oids) assert.is(oidOf(type), oid)
  assert.is(modifierOf({ kind: 'DECIMAL', width: 9, scale: 2 }), (9 << 16) + 2 + 4)
})

test('binary values have the bytes that Postgres sends', () => {
  const hex = (type: ColumnType, cell: Cell) => binary(type, cell).toString('hex')
  const decimal = (width: number, scale: number): ColumnType => ({ kind: 'DECIMAL', width, scale })
  assert.is(hex(scalar('BOOLEAN'), true), '01')
  assert.is(hex(scalar('INTEGER'), -2), 'fffffffe')
  assert.is(hex(scalar('DATE'), 10_957), '00000000')
  assert.is(hex(scalar('TIMESTAMP'), 946_684_800_000_001n), '0000000000000001')
  assert.is(hex(scalar('TIMESTAMP'), infinite), '7fffffffffffffff')
  assert.is(hex(scalar('TIMESTAMP'), -infinite), '8000000000000000')
  assert.is(hex(scalar('UUID'), '00112233-4455-6677-8899-aabbccddeeff'), '00112233445566778899aabbccddeeff')
  // ndigits, weight, sign, dscale, digits: 12345.678 is 1 | 2345 . 6780
  assert.is(hex(decimal(8, 3), 12_345_678n), '0003000100000003' + '0001' + '0929' + '1a7c')
  assert.is(hex(decimal(4, 4), -5n), '0001ffff40000004' + '0005')
  assert.is(hex(decimal(4, 2), 0n), '0000000000000002')
  assert.is(hex(scalar('HUGEINT'), 100_000_000n), '0001000200000000' + '0001')
  assert.is(hex(scalar('BIT'), '101100001'), '00000009b080')
  // dimensions, nulls, element type, then for each dimension its size and lower bound, then the elements with their lengths
  assert.is(hex(list(scalar('SMALLINT')), [7, null]), '000000010000000100000015' + '0000000200000001' + '000000020007' + 'ffffffff')
  assert.is(hex(list(scalar('SMALLINT')), []), '000000000000000000000015')
  assert.is(
    hex(list(list(scalar('BOOLEAN'))), [[true], [false]]),
    '000000020000000000000010' + '0000000200000001' + '0000000100000001' + '0000000101' + '0000000100',
  )
  assert.throws(
    () => binary(list(list(scalar('BOOLEAN'))), [[true], []]),
    (error: SqlError) => error.code === '2202E',
  )
})

test('binary parameters come back as they were sent', () => {
  const big = (low: bigint, high: bigint) => fc.bigInt(low, high)
  const kinds: [ColumnType, number, fc.Arbitrary<Cell>][] = [
    [scalar('BOOLEAN'), Oid.bool, fc.boolean()],
    [scalar('SMALLINT'), Oid.int2, fc.integer({ min: -32768, max: 32767 })],
    [scalar('INTEGER'), Oid.int4, fc.integer()],
    [scalar('BIGINT'), Oid.int8, big(-(2n ** 63n), 2n ** 63n - 1n)],
    [scalar('FLOAT'), Oid.float4, fc.float()],
    [scalar('DOUBLE'), Oid.float8, fc.double()],
    [scalar('VARCHAR'), Oid.text, fc.string({ unit: 'binary' }).filter((text) => !text.includes('\0') && text.isWellFormed())],
    [scalar('BLOB'), Oid.bytea, fc.uint8Array()],
    [scalar('DATE'), Oid.date, fc.integer({ min: -2_000_000_000, max: 2_000_000_000 })],
    [scalar('TIME'), Oid.time, big(0n, 86_400_000_000n)],
    [
      scalar('TIMETZ'),
      Oid.timetz,
      fc.tuple(big(0n, 86_399_999_999n), fc.integer({ min: -57_599, max: 57_599 })).map(([us, offset]) => packTimeTz(us, offset)),
    ],
    [scalar('TIMESTAMP'), Oid.timestamp, fc.oneof(fc.constantFrom(infinite, -infinite), big(-(2n ** 62n), 2n ** 62n))],
    [scalar('TIMESTAMPTZ'), Oid.timestamptz, big(-(2n ** 62n), 2n ** 62n)],
    [scalar('UUID'), Oid.uuid, fc.uuid()],
    [scalar('BIT'), Oid.varbit, fc.string({ unit: fc.constantFrom('0', '1'), minLength: 1 })],
    [
      list(scalar('INTEGER')),
      1007,
      fc.array(fc.option(fc.integer()), { minLength: 1 }).filter((cells) => cells.some((cell) => cell !== null)),
    ],
    [
      list(list(scalar('VARCHAR'))),
      1009,
      fc.array(fc.tuple(fc.option(fc.constantFrom('a', '', 'x y')), fc.constant('b')), { minLength: 1 }),
    ],
    [
      scalar('INTERVAL'),
      Oid.interval,
      fc.record({ months: fc.integer(), days: fc.integer(), micros: big(-(2n ** 63n), 2n ** 63n - 1n) }, { noNullPrototype: true }),
    ],
  ]
  for (const [type, oid, values] of kinds) {
    fc.assert(
      fc.property(values, (cell) => {
        for (const declared of [oid, 0]) {
          const parameter = decodeParameter(binary(type, cell), declared, type, 1)
          assert.ok(parameter !== null && typeof parameter === 'object')
          assert.is((parameter as { type: ColumnType }).type.kind, type.kind)
          const back = (parameter as { cell: Cell }).cell
          assert.equal(back instanceof Uint8Array ? [...back] : back, cell instanceof Uint8Array ? [...cell] : cell)
        }
      }),
      { seed, numRuns: 200 },
    )
  }
})

test('decimals come back with their value and scale', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 38 }), fc.bigInt(-(10n ** 38n) + 1n, 10n ** 38n - 1n), (scale, unscaled) => {
      const parameter = decodeParameter(binary({ kind: 'DECIMAL', width: 38, scale }, unscaled), Oid.numeric, null, 1) as {
        type: ColumnType & { kind: 'DECIMAL' }
        cell: bigint
      }
      assert.equal([parameter.type.kind, parameter.type.scale, parameter.cell], ['DECIMAL', scale, unscaled])
    }),
    { seed, numRuns: 2000 },
  )
})

test('arrays come as text in all its spellings', () => {
  assert.equal(parseArray('{}'), { type: list(scalar('VARCHAR')), cell: [] })
  assert.equal(parseArray(' { 1, NULL ,"a \\"b\\\\",null, x y ,"NULL"} ').cell, ['1', null, 'a "b\\', null, 'x y', 'NULL'])
  assert.equal(parseArray('{{1,2},{3,4}}'), {
    type: list(list(scalar('VARCHAR'))),
    cell: [
      ['1', '2'],
      ['3', '4'],
    ],
  })
  for (const text of ['', '{', '{1', '{1,}', '{"a}', '1,2', '{1}x', '{{{{{{{1}}}}}}}'])
    assert.throws(
      () => parseArray(text),
      (error: SqlError) => error.code === '22P02',
      text,
    )
})

test('a numeric beyond 38 digits, NaN and garbage', () => {
  const numeric = (...words: number[]) => Buffer.from(words.flatMap((word) => [(word >> 8) & 255, word & 255]))
  const refused = (bytes: Buffer, oid: number, code: string) =>
    assert.throws(
      () => decodeParameter(bytes, oid, null, 3),
      (error: SqlError) => error.code === code,
      `${bytes.toString('hex')} as ${oid}`,
    )
  assert.equal(decodeParameter(numeric(0, 0, 0xc000, 0), Oid.numeric, null, 1), { type: { kind: 'DOUBLE' }, cell: Number.NaN })
  refused(numeric(1, 30_000, 0, 0, 1), Oid.numeric, '22003')
  refused(numeric(1, 0, 0, 0, 10_000), Oid.numeric, '22P03')
  refused(numeric(2, 0, 0, 0, 1), Oid.numeric, '22P03')
  refused(Buffer.alloc(3), Oid.int4, '22P03')
  refused(Buffer.from([0xc3, 0x28]), Oid.text, '22021')
  refused(Buffer.alloc(8), 1007, '22P03')
  refused(Buffer.alloc(8), 600, '0A000')
  refused(Buffer.from('ffffffffffffffff', 'hex'), Oid.time, '22008')
})

console.log(`[values: SEED=${seed}]`)
test.run()
