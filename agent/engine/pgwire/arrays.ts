/** Postgres' arrays: their text (`{1,NULL,"a b"}`) and binary forms, of any depth. DuckDB's lists may be ragged, Postgres' arrays may not. */

import type { Cell, ColumnType } from '../../journal/types.ts'
import { SqlError } from '../sql-error.ts'
import type { Parameter } from './backend.ts'
import type { Encoder } from './encoding.ts'
import { decimalText } from './text.ts'

/** As Postgres limits it. */
const mostDimensions = 6

/** array_in: a list of texts, which DuckDB casts. Throws 22P02. */
export function parseArray(text: string): Exclude<Parameter, null | string> {
  let at = 0
  const malformed = () => new SqlError('22P02', `malformed array literal: "${text.slice(0, 100)}"`)
  const skipSpace = () => {
    while (/\s/.test(text[at] ?? '')) at++
  }
  const list = (level: number): Cell[] => {
    if (text[at] !== '{' || level > mostDimensions) throw malformed()
    at++
    const cells: Cell[] = []
    depth = Math.max(depth, level)
    skipSpace()
    if (text[at] === '}') {
      at++
      return cells
    }
    for (;;) {
      skipSpace()
      cells.push(text[at] === '{' ? list(level + 1) : text[at] === '"' ? quoted() : plain())
      skipSpace()
      const next = text[at++]
      if (next === '}') return cells
      if (next !== ',') throw malformed()
    }
  }
  const quoted = (): string => {
    let value = ''
    for (at++; text[at] !== '"'; at++) {
      if (text[at] === '\\') at++
      if (at >= text.length) throw malformed()
      value += text[at]
    }
    at++
    return value
  }
  const plain = (): string | null => {
    let value = ''
    for (; at < text.length && !'{},"'.includes(text[at] as string); at++) value += text[at] === '\\' ? (text[++at] ?? '') : text[at]
    value = value.trim()
    if (value === '') throw malformed()
    return /^null$/i.test(value) ? null : value
  }
  let depth = 0
  skipSpace()
  const cell = list(1)
  skipSpace()
  if (at !== text.length) throw malformed()
  return { type: nested({ kind: 'VARCHAR' }, depth), cell }
}

/** array_recv. `decode` reads one element. Throws 22P03. */
export function readArray(bytes: Buffer, number: number, decode: (bytes: Buffer, oid: number) => Parameter): Parameter {
  const malformed = () => new SqlError('22P03', `incorrect binary array in bind parameter ${number}`)
  if (bytes.length < 12) throw malformed()
  const depth = bytes.readInt32BE(0)
  const oid = bytes.readUInt32BE(8)
  if (depth < 0 || depth > mostDimensions || bytes.length < 12 + depth * 8) throw malformed()
  if (depth === 0) return { type: { kind: 'LIST', child: { kind: 'VARCHAR' } }, cell: [] }
  const sizes = Array.from({ length: depth }, (_, i) => bytes.readInt32BE(12 + i * 8))
  const elements: Parameter[] = []
  let at = 12 + depth * 8
  while (at < bytes.length) {
    if (at + 4 > bytes.length) throw malformed()
    const length = bytes.readInt32BE(at)
    at += 4
    if (length < -1 || at + Math.max(length, 0) > bytes.length) throw malformed()
    elements.push(length === -1 ? null : decode(bytes.subarray(at, at + length), oid))
    at += Math.max(length, 0)
  }
  if (sizes.some((size) => size < 0) || sizes.reduce((product, size) => product * size, 1) !== elements.length) throw malformed()
  const { type, cells } = alike(elements)
  let cell: Cell[] = cells
  for (const size of sizes.slice(1).reverse())
    cell = Array.from({ length: cell.length / size }, (_, i) => cell.slice(i * size, (i + 1) * size))
  return { type: nested(type, depth), cell }
}

/** One type for all elements: numerics differ in their scale, and become texts. */
function alike(elements: readonly Parameter[]): { type: ColumnType; cells: Cell[] } {
  const types = elements.flatMap((element) => (element === null || typeof element === 'string' ? [] : [element.type]))
  const first = types[0]
  const same = first !== undefined && first.kind !== 'DECIMAL' && types.every(({ kind }) => kind === first.kind)
  const cells = elements.map((element) => {
    if (element === null || typeof element === 'string') return element
    if (same) return element.cell
    return element.type.kind === 'DECIMAL' ? decimalText(element.cell as bigint, element.type.scale) : String(element.cell)
  })
  return { type: same ? first : { kind: 'VARCHAR' }, cells }
}

function nested(type: ColumnType, depth: number): ColumnType {
  return depth === 0 ? type : { kind: 'LIST', child: nested(type, depth - 1) }
}

/** array_send of a list of `type`, whose innermost elements `encode` writes. Throws 2202E for a ragged one. */
export function arrayEncoder(type: ColumnType, elementOid: number, encode: Encoder): Encoder {
  let depth = 0
  for (let inner = type; inner.kind === 'LIST' || inner.kind === 'ARRAY'; inner = inner.child) depth++
  return (writer, cell) => {
    const sizes: number[] = []
    for (let level = cell; sizes.length < depth; level = (level as Cell[])[0] as Cell) {
      if (level === null || (level as Cell[]).length === 0) break
      sizes.push((level as Cell[]).length)
    }
    const elements = flatten(cell as Cell[], depth, sizes)
    const empty = elements.length === 0
    const at = writer.beginSized()
    writer.int32(empty ? 0 : depth)
    writer.int32(elements.includes(null) ? 1 : 0)
    writer.int32(elementOid)
    for (const size of empty ? [] : sizes) {
      writer.int32(size)
      writer.int32(1)
    }
    for (const element of elements) element === null ? writer.int32(-1) : encode(writer, element)
    writer.endSized(at)
  }
}

function flatten(list: readonly Cell[], depth: number, sizes: readonly number[]): Cell[] {
  if (depth === 1) return [...list]
  const inner = sizes[sizes.length - depth + 1]
  return list.flatMap((sub) => {
    if (sub === null || (sub as Cell[]).length !== inner) {
      throw new SqlError('2202E', 'multidimensional arrays must have the same number of elements in each part', {
        hint: 'ask for this column in text format',
      })
    }
    return flatten(sub as Cell[], depth - 1, sizes)
  })
}
