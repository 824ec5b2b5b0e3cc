/**
 * COPY … FROM STDIN in binary: a signature, then for each row its number of fields, then each with its length, as *_send writes them; -1 ends it.
 * https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.4
 */

import type { Cell, ColumnType } from '../../journal/types.ts'
import { SqlError } from '../sql-error.ts'
import { decodeParameter } from './decoding.ts'
import { decimalText } from './text.ts'
import { typeName } from './types.ts'

export const signature = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1')
/** A field longer than this is no field. */
const longest = 1 << 30

/** Types whose decoded values are of the same type; anything else is staged as its nearest, or as text. */
const same = new Set<ColumnType['kind']>([
  ...(['BOOLEAN', 'SMALLINT', 'INTEGER', 'BIGINT', 'FLOAT', 'DOUBLE', 'VARCHAR', 'BLOB', 'BIT', 'UUID'] as const),
  ...(['DATE', 'TIME', 'TIMETZ', 'TIMESTAMP', 'TIMESTAMPTZ', 'INTERVAL'] as const),
])
const nearest: Partial<Record<ColumnType['kind'], string>> = {
  ...{ TINYINT: 'SMALLINT', UTINYINT: 'SMALLINT', USMALLINT: 'INTEGER', UINTEGER: 'BIGINT', TIME_NS: 'TIME' },
  ...{ TIMESTAMP_S: 'TIMESTAMP', TIMESTAMP_MS: 'TIMESTAMP', TIMESTAMP_NS: 'TIMESTAMP' },
}

/** The type of a temporary column that takes the values of a column of `type`. */
export function stagedType({ kind }: ColumnType): string {
  return same.has(kind) ? kind : (nearest[kind] ?? 'VARCHAR')
}

export class BinaryCopyParser {
  private readonly types: readonly ColumnType[]
  private pending: Buffer = Buffer.alloc(0)
  private begun = false
  private ended = false
  private row = 0

  /** Throws 0A000 for a type that cannot be read this way. */
  constructor(types: readonly ColumnType[]) {
    for (const type of types)
      if (type.kind === 'LIST' || type.kind === 'ARRAY')
        throw new SqlError('0A000', `binary COPY of type ${typeName(type)} is not supported`, { hint: 'use text or csv' })
    this.types = types
  }

  /** The rows that these bytes complete. Throws SqlError (22P04, …) that names the row. */
  push(data: Uint8Array): Cell[][] {
    if (this.ended) return []
    this.pending = this.pending.length === 0 ? Buffer.from(data) : Buffer.concat([this.pending, data])
    const rows: Cell[][] = []
    let at = this.begun ? 0 : this.header()
    if (!this.begun) return rows
    for (;;) {
      const read = this.tuple(at)
      if (read === undefined) break
      at = read.end
      if (read.cells === undefined) {
        this.ended = true
        break
      }
      rows.push(read.cells)
    }
    this.pending = this.pending.subarray(at)
    return rows
  }

  end(): Cell[][] {
    if (!this.ended && (this.begun || this.pending.length > 0)) throw this.bad('unexpected end of binary COPY data')
    if (!this.begun) throw this.bad('COPY file signature not recognized')
    return []
  }

  /** Where the rows begin, once all of the header is there. */
  private header(): number {
    const { pending } = this
    if (!pending.subarray(0, signature.length).equals(signature.subarray(0, pending.length)))
      throw this.bad('COPY file signature not recognized')
    if (pending.length < signature.length + 8) return 0
    if (pending.readInt32BE(signature.length) !== 0) throw this.bad('unrecognized critical flags in COPY file header')
    const extension = pending.readInt32BE(signature.length + 4)
    if (extension < 0 || extension > longest) throw this.bad('invalid COPY file header')
    if (pending.length < signature.length + 8 + extension) return 0
    this.begun = true
    return signature.length + 8 + extension
  }

  /** The row at `at`; without cells: the end of the data. undefined: not all of it is there yet. */
  private tuple(at: number): { end: number; cells?: Cell[] } | undefined {
    const { pending, types } = this
    if (pending.length < at + 2) return undefined
    const count = pending.readInt16BE(at)
    if (count === -1) return { end: at + 2 }
    if (count !== types.length) throw this.bad(`row field count is ${count}, expected ${types.length}`)
    let end = at + 2
    const fields: (Buffer | null)[] = []
    for (let i = 0; i < count; i++) {
      if (pending.length < end + 4) return undefined
      const length = pending.readInt32BE(end)
      if (length < -1 || length > longest) throw this.bad('invalid field size')
      if (pending.length < end + 4 + Math.max(length, 0)) return undefined
      fields.push(length === -1 ? null : pending.subarray(end + 4, end + 4 + length))
      end += 4 + Math.max(length, 0)
    }
    const cells = fields.map((field, i) => (field === null ? null : this.cell(field, types[i] as ColumnType, i + 1)))
    this.row++
    return { end, cells }
  }

  private cell(field: Buffer, type: ColumnType, number: number): Cell {
    try {
      const value = decodeParameter(field, 0, type, number)
      if (value === null || typeof value === 'string') return value
      if (value.type.kind === 'DECIMAL') return decimalText(value.cell as bigint, value.type.scale)
      return stagedType(type) === 'VARCHAR' ? String(value.cell) : value.cell
    } catch (error) {
      throw error instanceof SqlError
        ? new SqlError(error.code, error.message.replace('bind parameter', 'field'), { detail: this.where() })
        : error
    }
  }

  private bad(message: string): SqlError {
    return new SqlError('22P04', message, { detail: this.where() })
  }

  private where(): string {
    return `COPY, row ${this.row + 1}`
  }
}
