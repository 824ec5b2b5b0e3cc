import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteReader, ByteWriter } from '../../agent/journal/bytes.ts'
import { decodeColumn, encodeColumn } from '../../agent/journal/cells.ts'
import {
  batchBytesOf,
  checksumHolds,
  decodeBatch,
  decodeBatchHeader,
  encodeBatch,
  stamp,
  TransactionEncoder,
} from '../../agent/journal/record.ts'
import { type Cell, type Change, type Column, type ColumnType, itemsOf, type Table, type Transaction } from '../../agent/journal/types.ts'
import { nestedTypes, randomCell, scalarTypes } from '../fixtures/cells.ts'
import { seededRandom } from '../support/random.ts'
import { soak } from '../support/soak.ts'

const test = suite('journal record')
const random = seededRandom('record')
const runs = { seed: random.seed }

const leaf = fc.constantFrom<ColumnType>(
  ...scalarTypes,
  { kind: 'SQLNULL' },
  { kind: 'ENUM', values: Array.from({ length: 70_000 }, (_, i) => `value ${i}`) },
)
const anyType: fc.Arbitrary<ColumnType> = fc.letrec<{ type: ColumnType }>((tie) => ({
  type: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    leaf,
    tie('type').map((child): ColumnType => ({ kind: 'LIST', child })),
    fc.tuple(tie('type'), fc.integer({ min: 1, max: 5 })).map(([child, size]): ColumnType => ({ kind: 'ARRAY', child, size })),
    fc.array(fc.tuple(fc.string(), tie('type')), { minLength: 1, maxLength: 4 }).map((fields): ColumnType => ({ kind: 'STRUCT', fields })),
    fc.tuple(tie('type'), tie('type')).map(([key, value]): ColumnType => ({ kind: 'MAP', key, value })),
    fc
      .uniqueArray(fc.tuple(fc.string(), tie('type')), { minLength: 1, maxLength: 4, selector: ([name]) => name })
      .map((members): ColumnType => ({ kind: 'UNION', members })),
  ),
})).type

/** A cell as decoding gives it back: SQLNULL is always NULL, and bytes are compared as Buffers. */
function settled(type: ColumnType, cell: Cell): Cell {
  if (cell === null || type.kind === 'SQLNULL') return null
  switch (type.kind) {
    case 'LIST':
    case 'ARRAY':
      return (cell as Cell[]).map((element) => settled(type.child, element))
    case 'STRUCT':
      return (cell as Cell[]).map((field, i) => settled((type.fields[i] as [string, ColumnType])[1], field))
    case 'MAP':
      return {
        entries: (cell as { entries: [Cell, Cell][] }).entries.map(
          ([key, value]) => [settled(type.key, key), settled(type.value, value)] as const,
        ),
      }
    case 'UNION': {
      const { tag, value } = cell as { tag: string; value: Cell }
      return { tag, value: settled((type.members.find(([name]) => name === tag) as [string, ColumnType])[1], value) }
    }
    case 'BLOB':
      return Buffer.from(cell as Uint8Array)
    default:
      return cell
  }
}

function cellsOf(type: ColumnType, count: number, nulls: number): Cell[] {
  return Array.from({ length: count }, () => (random.chance(nulls) ? null : settled(type, randomCell(type, random))))
}

/** Also tells -0 from 0, and one type of cell from another. */
function assertSame(actual: readonly Cell[], expected: readonly Cell[], type: ColumnType): void {
  const text = (cells: readonly Cell[]) =>
    JSON.stringify(cells, (_key, value) => {
      if (typeof value === 'bigint') return `${value}n`
      if (typeof value === 'number' && !(Number.isFinite(value) && !Object.is(value, -0))) return Object.is(value, -0) ? '-0' : `${value}!`
      return value
    })
  assert.is(text(actual), text(expected), JSON.stringify(type).slice(0, 300))
}

function throughBytes(type: ColumnType, cells: readonly Cell[]): Cell[] {
  const out = new ByteWriter(16)
  encodeColumn(out, type, cells)
  const input = new ByteReader(out.bytes())
  const decoded = decodeColumn(input, type, cells.length)
  assert.ok(input.done, 'the column is read to its last byte')
  return decoded
}

function tableOf(types: readonly ColumnType[], name = 't'): Table {
  const columns = types.map((type, i): Column => ({ name: `c${i} "ü`, type, sqlType: type.kind, nullable: true }))
  return { schema: 'main', name, columns, primaryKey: [0] }
}

function batchOf(transactions: readonly (readonly Change[])[], firstSeq = 7): Buffer {
  const encoded = transactions.map((changes, i) => {
    const encoder = new TransactionEncoder()
    for (const change of changes) encoder.add(change)
    const transaction = encoder.finish()
    stamp(transaction, firstSeq + i, 1_800_000_000_000.25)
    return transaction
  })
  const batch = encodeBatch(encoded, { firstSeq, durableBefore: 4096, epoch: 3 })
  assert.ok(batch.length <= encoded.reduce((sum, transaction) => sum + batchBytesOf(transaction), 0), 'what was reserved is enough')
  return batch
}

function read(batch: Buffer): Transaction[] {
  const header = decodeBatchHeader(batch)
  assert.ok(header !== undefined && checksumHolds(batch, header))
  return decodeBatch(batch, header as NonNullable<typeof header>, '')
}

test('columns of every scalar and nested type come back as they were, with few, many and only NULLs', () => {
  for (const type of [...scalarTypes, ...nestedTypes, { kind: 'SQLNULL' } as const]) {
    for (const nulls of [0, 0.1, 0.9, 1]) {
      for (const count of [0, 1, 7, 8, 9, 300]) {
        const cells = cellsOf(type, count, nulls)
        assertSame(throughBytes(type, cells), cells, type)
      }
    }
  }
})

test('columns of any type tree come back as they were', () => {
  fc.assert(
    fc.property(anyType, fc.integer({ min: 0, max: 20 }), fc.constantFrom(0, 0.3, 1), (type, count, nulls) => {
      const cells = cellsOf(type, count, nulls)
      assertSame(throughBytes(type, cells), cells, type)
    }),
    { ...runs, numRuns: soak ? 40_000 : 400 },
  )
})

test('the ends of every range survive, and what does not fit is refused before it is written', () => {
  const ends: [ColumnType, Cell[], Cell[]][] = [
    [{ kind: 'TINYINT' }, [-128, 127], [128, -129, 1.5]],
    [{ kind: 'UTINYINT' }, [0, 255], [-1, 256]],
    [{ kind: 'SMALLINT' }, [-32_768, 32_767], [32_768]],
    [{ kind: 'USMALLINT' }, [0, 65_535], [-1, 65_536]],
    [{ kind: 'INTEGER' }, [-2_147_483_648, 2_147_483_647], [2_147_483_648, Number.NaN]],
    [{ kind: 'UINTEGER' }, [0, 4_294_967_295], [-1, 4_294_967_296]],
    [{ kind: 'BIGINT' }, [-(2n ** 63n), 2n ** 63n - 1n, 0n, -1n], [2n ** 63n]],
    [{ kind: 'UBIGINT' }, [0n, 2n ** 64n - 1n], [-1n, 2n ** 64n]],
    [{ kind: 'HUGEINT' }, [-(2n ** 127n), 2n ** 127n - 1n, -1n, -(2n ** 64n), 2n ** 64n], [2n ** 127n]],
    [{ kind: 'UHUGEINT' }, [0n, 2n ** 128n - 1n], [-1n, 2n ** 128n]],
    [{ kind: 'DECIMAL', width: 18, scale: 2 }, [10n ** 18n - 1n, 1n - 10n ** 18n], [2n ** 63n]],
    [{ kind: 'DECIMAL', width: 38, scale: 2 }, [10n ** 38n - 1n, 1n - 10n ** 38n], [2n ** 127n]],
    [{ kind: 'DOUBLE' }, [-0, 5e-324, Number.MAX_VALUE, Number.NaN, -Infinity], []],
    [{ kind: 'VARCHAR' }, ['', 'a'.repeat(63), 'a'.repeat(64), 'é'.repeat(63), `${'a'.repeat(62)}€`, '\0', '😀'.repeat(5000)], []],
    [{ kind: 'ENUM', values: ['a', 'b'] }, ['a', 'b'], ['c']],
    [{ kind: 'UNION', members: [['a', { kind: 'BOOLEAN' }]] }, [{ tag: 'a', value: null }], [{ tag: 'b', value: null }]],
  ]
  for (const [type, fit, unfit] of ends) {
    assertSame(throughBytes(type, fit), fit, type)
    for (const cell of unfit)
      assert.throws(
        () => throughBytes(type, [cell]),
        (error: Error) => error instanceof RangeError,
        `${type.kind} ${String(cell)}`,
      )
  }
})

test('a batch of all kinds of changes is decodable on its own', () => {
  fc.assert(
    fc.property(fc.array(anyType, { minLength: 1, maxLength: 4 }), fc.integer({ min: 0, max: 9 }), (types, count) => {
      const table = tableOf(types)
      const other = tableOf([{ kind: 'INTEGER' }], 'ü'.repeat(300))
      const rows = { count, columns: types.map((type) => cellsOf(type, count, 0.2)) }
      const keys = { count, columns: [cellsOf(types[0] as ColumnType, count, 0)] }
      const transactions: Change[][] = [
        [{ kind: 'insert', table, rows }],
        [],
        [
          { kind: 'delete', table, rows: keys },
          { kind: 'update', table, rows, changed: [0] },
          { kind: 'upsert', table, rows, changed: types.map((_, i) => i) },
          { kind: 'insert', table: other, rows: { count: 2, columns: [[1, null]] } },
          {
            kind: 'schema',
            sql: 'CREATE TABLE "é" (a INT)',
            verb: 'CREATE',
            searchPath: 'main',
            timeZone: 'UTC',
            tables: [{ schema: 'main', name: 'é' }],
          },
          { kind: 'sequence', schema: 'main', name: 's', value: 2n ** 63n - 1n },
        ],
      ]
      const decoded = read(Buffer.concat([batchOf(transactions)]))
      assert.equal(
        decoded.map(({ seq, time }) => [seq, time]),
        [7, 8, 9].map((seq) => [seq, 1_800_000_000_000.25]),
      )
      for (const [i, changes] of transactions.entries()) {
        const all = [...(decoded[i]?.changes ?? [])]
        assert.is(all.length, changes.length)
        for (const [j, change] of changes.entries()) {
          const found = all[j] as Change
          if (!('rows' in change) || !('rows' in found)) {
            assert.equal(found, change)
            continue
          }
          assert.equal({ ...found, rows: found.rows.count }, { ...change, rows: change.rows.count })
          for (const [c, cells] of change.rows.columns.entries()) {
            const column = change.kind === 'delete' ? change.table.columns[0] : change.table.columns[c]
            assertSame(found.rows.columns[c] as Cell[], cells, (column as Column).type)
          }
        }
      }
    }),
    { ...runs, numRuns: soak ? 2_000 : 60 },
  )
})

test('every flipped bit of a batch is noticed, padding included, and so is every cut', () => {
  for (const extra of [0, 1, 2, 3, 4, 5, 6, 7]) {
    const rows = {
      count: 2,
      columns: [
        [1n, null],
        [Buffer.alloc(20 + extra), null],
      ],
    }
    const batch = batchOf([[{ kind: 'insert', table: tableOf([{ kind: 'BIGINT' }, { kind: 'BLOB' }]), rows }]])
    assert.is(batch.length % 8, 0)
    for (let at = 0; at < batch.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const damaged = Buffer.from(batch)
        damaged[at] = (damaged[at] as number) ^ (1 << bit)
        const header = decodeBatchHeader(damaged)
        assert.not.ok(header !== undefined && checksumHolds(damaged, header), `byte ${at}, bit ${bit}`)
      }
      const header = decodeBatchHeader(batch.subarray(0, at))
      assert.not.ok(header !== undefined && checksumHolds(batch.subarray(0, at), header), `cut to ${at} bytes`)
    }
  }
})

test('100,000 rows are encoded and decoded at more than 100,000 rows a second', () => {
  const count = 100_000
  const table = tableOf([
    { kind: 'BIGINT' },
    { kind: 'INTEGER' },
    { kind: 'DECIMAL', width: 18, scale: 4 },
    { kind: 'DOUBLE' },
    { kind: 'TIMESTAMP' },
    { kind: 'VARCHAR' },
  ])
  const numbers = Array.from({ length: count }, (_, i) => i)
  const columns: Cell[][] = [
    numbers.map(BigInt),
    numbers,
    numbers.map((i) => BigInt(i) * 10_007n),
    numbers.map((i) => i / 7),
    numbers.map((i) => 1_700_000_000_000_000n + BigInt(i)),
    numbers.map((i) => `SYM${i % 500}`),
  ]
  // Of the processor's time, not of the clock's: other tests run beside this one. The best of several rounds, for the compiler and the collector.
  const seconds = () => (process.cpuUsage().user + process.cpuUsage().system) / 1e6
  let encode = 0
  let decode = 0
  for (let round = 0; round < 8; round++) {
    const start = seconds()
    const batch = batchOf([[{ kind: 'insert', table, rows: { count, columns } }]])
    const middle = seconds()
    const [transaction] = read(batch)
    decode = Math.max(decode, count / (seconds() - middle))
    encode = Math.max(encode, count / (middle - start))
    assert.is(transaction === undefined ? 0 : itemsOf(transaction), count)
  }
  process.stdout.write(`[${Math.round(encode / 1000)}k rows/s encoded, ${Math.round(decode / 1000)}k decoded] `)
  assert.ok(encode > 100_000 && decode > 100_000)
})

test.run()
