// Numbers whose digits are written straight onto the wire are the texts that they were as strings.

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encoderOf } from '../../agent/engine/pgwire/encoding.ts'
import { MessageWriter } from '../../agent/engine/pgwire/messages.ts'
import { printerOf } from '../../agent/engine/pgwire/text.ts'
import type { Cell, ColumnType } from '../../agent/journal/types.ts'
import { seededRandom } from '../support/random.ts'
import { soak } from '../support/soak.ts'

const test = suite('digits')
const rounds = soak ? 5_000_000 : 40_000

/** Length and text, as the client reads them. */
function sent(type: ColumnType, cell: Cell): string {
  const writer = new MessageWriter()
  encoderOf(type, 0)(writer, cell)
  const bytes = writer.take() as Buffer
  assert.is(bytes.readInt32BE(0), bytes.length - 4, String(cell))
  return bytes.toString('latin1', 4)
}

function same(type: ColumnType, cell: Cell): void {
  assert.is(sent(type, cell), printerOf(type)(cell), `${type.kind} ${cell}`)
}

const edges = [0, 1, 9, 10, 99, 999_999_999, 1e9, 1e9 + 1, 4_294_967_295, 99_999_999_999, 1e15, 2 ** 53 - 1]

test('integers and decimals, to the edges of what a double holds and beyond', () => {
  const random = seededRandom('digits')
  const unscaled = [...edges.map(BigInt), 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n - 1n]
  for (let i = 0; i < rounds / 20; i++) unscaled.push(BigInt(Math.floor(random.float() * 2 ** random.int(1, 60))))
  for (const value of unscaled.flatMap((value) => [value, -value])) {
    same({ kind: 'BIGINT' }, value)
    for (const scale of [0, 1, 2, 8, 9, 10, 18]) same({ kind: 'DECIMAL', width: 38, scale }, value)
  }
  for (const value of edges.filter((value) => value < 2 ** 32)) same({ kind: 'UINTEGER' }, value)
  for (const value of [-128, -1, 0, 127]) same({ kind: 'TINYINT' }, value)
})

test('doubles: the shortest text that reads back the same, with an exponent where Postgres writes one', () => {
  const random = seededRandom('doubles')
  const special = [
    0,
    -0,
    Number.NaN,
    1e-4,
    9.9999e-5,
    1e-6,
    999_999_999.999999,
    1e9,
    1e15,
    1e16,
    5e-324,
    Number.MAX_VALUE,
    0.1 + 0.2,
    1 / 3,
  ]
  const values = [...special, ...edges, Number.POSITIVE_INFINITY]
  for (let i = 0; i < rounds; i++) {
    const value = random.float() * 10 ** random.int(-6, 12)
    values.push(random.chance(0.5) ? value : Number(value.toFixed(random.int(0, 8))))
  }
  for (const value of values.flatMap((value) => [value, -value])) {
    same({ kind: 'DOUBLE' }, value)
    assert.ok(Object.is(Number(sent({ kind: 'DOUBLE' }, value)), value), String(value))
  }
})

test.run()
