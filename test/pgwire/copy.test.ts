/** COPY data as Postgres reads it, whole and in pieces cut anywhere. */

import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type CopyOptions, CopyParser } from '../../agent/engine/pgwire/copy.ts'
import { type CopyFields, fieldText } from '../../agent/engine/pgwire/copy-fields.ts'
import { SqlError } from '../../agent/engine/sql-error.ts'
import { seededRandom } from '../support/random.ts'

const test = suite('copy')

type CopyRow = (string | null)[]

function rowsOf(fields: CopyFields): CopyRow[] {
  return Array.from({ length: fields.rows }, (_, row) => Array.from({ length: fields.width }, (_, i) => fieldText(fields, row, i)))
}

/** Rows of `input`, of so many columns, given in pieces of the sizes that `next` says, and taken when `takes` says so. */
function read(options: CopyOptions, columns: number, input: string | Buffer, next = () => Number.POSITIVE_INFINITY, takes = () => true) {
  const parser = new CopyParser(options, columns)
  const bytes = Buffer.from(input as string)
  const rows: CopyRow[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + next())
    parser.push(bytes.subarray(at, end))
    if (takes()) rows.push(...rowsOf(parser.take()))
    at = end
  }
  parser.end()
  return [...rows, ...rowsOf(parser.take())]
}

function failure(options: CopyOptions, columns: number, input: string | Buffer): SqlError {
  for (const size of [1, 3, 1000]) {
    let rows: CopyRow[] | undefined
    try {
      rows = read(options, columns, input, () => size)
    } catch (error) {
      assert.instance(error, SqlError)
      if (size === 1000) return error as SqlError
    }
    assert.is(rows, undefined, `no error in pieces of ${size}`)
  }
  throw new Error('unreachable')
}

/** The same rows whole, byte by byte, and in pieces of 2 to 7 bytes. */
function expectRows(options: CopyOptions, input: string | Buffer, expected: CopyRow[]): void {
  for (const size of [Number.POSITIVE_INFINITY, 1, 2, 3, 5, 7])
    for (const taken of [true, false])
      assert.equal(
        read(
          options,
          expected[0]?.length ?? 1,
          input,
          () => size,
          () => taken,
        ),
        expected,
        `pieces of ${size}`,
      )
}

const text: CopyOptions = { format: 'text' }
const csv: CopyOptions = { format: 'csv' }

test('text: tabs separate, \\N is null, a backslash escapes', () => {
  expectRows(text, '1\tone\n2\t\\N\n\\N\t\n', [
    ['1', 'one'],
    ['2', null],
    [null, ''],
  ])
  expectRows(text, 'a\\tb\\nc\\\\d\\re\\bf\\fg\\vh\ttail\n', [['a\tb\nc\\d\re\bf\fg\vh', 'tail']])
  expectRows(text, '\\\\N\t\\x41\\102\\q\n', [['\\N', 'ABq']])
  expectRows(text, 'tab\\\there\tnew\\\nline\n', [['tab\there', 'new\nline']])
})

test('text: bytes given by escapes make one character together', () => {
  expectRows(text, 'g\\xc3\\xbcn \\360\\237\\246\\206 🦆 ü\n', [['gün 🦆 🦆 ü']])
})

test('text: the last line needs no end, an empty line is one empty field', () => {
  expectRows(text, 'a\tb\nc\td', [
    ['a', 'b'],
    ['c', 'd'],
  ])
  expectRows(text, 'a\n\nb\n', [['a'], [''], ['b']])
  expectRows(text, 'a\t', [['a', '']])
  expectRows(text, '', [])
})

test('text: \\. on a line of its own ends the data', () => {
  expectRows(text, 'a\n\\.\nnever\n', [['a']])
  expectRows(text, 'a\n\\.', [['a']])
  expectRows(text, 'a\\.\nb\n', [['a.'], ['b']])
})

test('lines may end with \\r\\n or \\r, but all alike', () => {
  expectRows(text, 'a\tb\r\nc\td\r\n', [
    ['a', 'b'],
    ['c', 'd'],
  ])
  expectRows(text, 'a\rb\rc', [['a'], ['b'], ['c']])
  expectRows(csv, 'a,"x\r\ny"\r\nc,d\r\n', [
    ['a', 'x\r\ny'],
    ['c', 'd'],
  ])
  assert.is(failure(text, 1, 'a\nb\rc\n').code, '22P04')
  assert.match(failure(text, 1, 'a\r\nb\nc\r\n').message, /newline/)
  assert.match(failure(csv, 1, 'a\nb\r\nc\n').message, /unquoted carriage return/)
})

test('csv: quotes protect commas, quotes and line ends', () => {
  expectRows(csv, '1,"a,b","say ""hi""","two\nlines"\n', [['1', 'a,b', 'say "hi"', 'two\nlines']])
  expectRows(csv, 'pre"quo,ted"post,x\n', [['prequo,tedpost', 'x']])
  expectRows(csv, '"",,""""\n', [['', null, '"']])
  expectRows(csv, 'a,"b"', [['a', 'b']])
  expectRows(csv, 'a,b\n\\.\nc,d\n', [['a', 'b']])
  expectRows(csv, '"\\."\n\\x\n', [['\\.'], ['\\x']])
  expectRows(csv, '\\x,\\N\n', [['\\x', '\\N']])
})

test('csv: null mark, delimiter, quote and escape can be chosen', () => {
  expectRows({ format: 'csv', null: 'NULL' }, 'NULL,"NULL",\n', [[null, 'NULL', '']])
  expectRows({ format: 'csv', delimiter: ';', quote: "'", escape: '\\' }, `'it\\'s';'a;b';'back\\\\slash'\n`, [
    ["it's", 'a;b', 'back\\slash'],
  ])
  expectRows({ format: 'csv', escape: '\\' }, '"a\\x","b"\n', [['a\\x', 'b']])
  expectRows({ format: 'text', delimiter: '|', null: '' }, '1||\n', [['1', null, null]])
})

test('a header line is skipped, even one with quotes and other columns', () => {
  expectRows({ format: 'csv', header: true }, '"a\nb",c,d\n1,2\n', [['1', '2']])
  expectRows({ format: 'text', header: true }, 'a\tb\n1\t2\n', [['1', '2']])
})

test('errors name the line', () => {
  assert.is(failure(csv, 2, 'a,b\n"x\ny",z\nlonely\n').detail, 'COPY, line 4')
  assert.match(failure(csv, 2, 'a,b,c\n').message, /extra data/)
  assert.match(failure(csv, 2, 'a,"b\n').message, /unterminated CSV quoted field/)
  const encoding = failure(text, 1, Buffer.from([0x61, 0x0a, 0xc3, 0x28, 0x0a]))
  assert.equal([encoding.code, encoding.detail], ['22021', 'COPY, line 2'])
  assert.is(failure(text, 1, 'a\\000b\n').code, '22021')
})

test('options that contradict each other are refused', () => {
  const refused: CopyOptions[] = [
    { format: 'csv', delimiter: '"' },
    { format: 'csv', delimiter: ',,' },
    { format: 'text', delimiter: 'n' },
    { format: 'text', quote: '"' },
    { format: 'csv', delimiter: 'ü' },
    { format: 'csv', null: 'a,b' },
    { format: 'csv', null: 'a\n' },
  ]
  for (const options of refused)
    assert.throws(
      () => new CopyParser(options, 1),
      (error: unknown) => error instanceof SqlError,
      JSON.stringify(options),
    )
})

test('random tables survive the way through text and csv, cut anywhere', () => {
  const random = seededRandom('copy')
  const alphabet = ['a', 'b', 'N', '\\', '"', ',', '\t', '\n', '\r', '.', 'ü', '🦆', ' ', '0', 'x']
  const value = () => (random.chance(0.15) ? null : Array.from({ length: random.int(0, 6) }, () => random.pick(alphabet)).join(''))
  for (let round = 0; round < 500; round++) {
    const width = random.int(1, 4)
    const rows = Array.from({ length: random.int(0, 6) }, () => Array.from({ length: width }, value))
    const end = random.pick(['\n', '\r\n', '\r'])
    const asText = rows.map((row) => row.map(escapeText).join('\t') + end).join('')
    const asCsv = rows.map((row) => row.map((cell) => (cell === null ? '' : `"${cell.replaceAll('"', '""')}"`)).join(',') + end).join('')
    const pieces = () => random.int(1, 5)
    const takes = () => random.chance(0.5)
    assert.equal(read({ format: 'text' }, width, asText, pieces, takes), rows)
    assert.equal(read({ format: 'csv' }, width, asCsv, pieces, takes), rows)
  }
})

function escapeText(cell: string | null): string {
  if (cell === null) return '\\N'
  return cell.replace(/[\\\t\n\r]/g, (c) => `\\${{ '\t': 't', '\n': 'n', '\r': 'r' }[c] ?? c}`)
}

test('a field of 40 MB in small pieces takes time in proportion', () => {
  const parser = new CopyParser(csv, 1)
  const piece = Buffer.alloc(16_384, 'x')
  const started = performance.now()
  parser.push(Buffer.from('"'))
  for (let i = 0; i < 2_500; i++) parser.push(piece)
  assert.is(parser.fields.rows, 0)
  parser.push(Buffer.from('"\n'))
  assert.is(fieldText(parser.take(), 0, 0)?.length, 2_500 * 16_384)
  const took = performance.now() - started
  assert.ok(took < 5_000, `${took} ms`)
})

test.run()
