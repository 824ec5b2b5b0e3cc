/** COPY data in blocks of rows: text and csv as bytes (copy-columns.ts), binary as Cells. */

import type { PackedColumn } from '../journal/packed.ts'
import type { Cell, Column } from '../journal/types.ts'
import { CopyColumn, textsOf } from './copy-columns.ts'
import type { StagedRows } from './duckdb-packed.ts'
import { parseArray } from './pgwire/arrays.ts'
import { type CopyOptions, CopyParser } from './pgwire/copy.ts'
import { BinaryCopyParser, stagedType } from './pgwire/copy-binary.ts'
import { type CopyFields, fieldText } from './pgwire/copy-fields.ts'

export interface CopyBlock {
  readonly count: number
  /** Bytes that they came in. */
  readonly bytes: number
  readonly columns: readonly BlockColumn[]
}

export interface BlockColumn {
  readonly values: StagedRows['columns'][number]
  /** SQL type of the temporary column that takes them. */
  readonly stagedType: string
  /** The same values as its table will have them; undefined: DuckDB casts them. */
  readonly known: PackedColumn | undefined
}

export interface CopyReader {
  /** Whole rows since the last `take`, and about their bytes. */
  readonly rows: number
  readonly bytes: number
  /** Reads the rows that these bytes complete; null: there are no more. Throws SqlError that names the line. */
  push(data: Buffer | null): void
  /** Hands the rows out: until the next call, in which their memory is used again. */
  take(): CopyBlock
}

/** Reads rows of these columns. */
export function copyReader(options: CopyOptions, columns: readonly Column[]): CopyReader {
  return options.format === 'binary' ? new BinaryReader(columns) : new TextReader(options, columns)
}

class TextReader implements CopyReader {
  #parser: CopyParser
  #columns: readonly CopyColumn[]

  constructor(options: CopyOptions, columns: readonly Column[]) {
    this.#parser = new CopyParser(options, columns.length)
    this.#columns = columns.map((column) => new CopyColumn(column))
  }

  get rows(): number {
    return this.#parser.fields.rows
  }

  get bytes(): number {
    return this.#parser.size
  }

  push(data: Buffer | null): void {
    if (data === null) this.#parser.end()
    else this.#parser.push(data)
    for (const [i, column] of this.#columns.entries()) column.read(this.#parser.fields, i)
  }

  take(): CopyBlock {
    const bytes = this.#parser.size
    const fields = this.#parser.take()
    const columns = this.#columns.map((copied, i): BlockColumn => {
      const known = copied.take(fields, i)
      if (known?.kind === 'values') return { values: known, stagedType: copied.sqlType, known }
      const { kind } = copied.column.type
      const values = kind === 'LIST' || kind === 'ARRAY' ? listTexts(fields, i) : textsOf(fields, i)
      return { values, stagedType: 'VARCHAR', known }
    })
    return { count: fields.rows, bytes, columns }
  }
}

class BinaryReader implements CopyReader {
  #parser: BinaryCopyParser
  #columns: readonly Column[]
  #rows: Cell[][] = []
  bytes = 0

  constructor(columns: readonly Column[]) {
    this.#parser = new BinaryCopyParser(columns.map(({ type }) => type))
    this.#columns = columns
  }

  get rows(): number {
    return this.#rows.length
  }

  push(data: Buffer | null): void {
    for (const row of data === null ? this.#parser.end() : this.#parser.push(data)) this.#rows.push(row)
    this.bytes += data?.length ?? 0
  }

  take(): CopyBlock {
    const { bytes } = this
    const rows = this.#rows
    this.#rows = []
    this.bytes = 0
    const columns = this.#columns.map(({ type }, i): BlockColumn => {
      return { values: rows.map((row) => row[i] as Cell), stagedType: stagedType(type), known: undefined }
    })
    return { count: rows.length, bytes, columns }
  }
}

/** Postgres' `{a,NULL,"b c"}` as DuckDB writes a list. */
function listTexts(fields: CopyFields, index: number): Cell[] {
  const spell = (cell: Cell): string => {
    if (cell === null) return 'NULL'
    if (Array.isArray(cell)) return `[${cell.map(spell).join(', ')}]`
    return `"${String(cell).replace(/[\\"]/g, '\\$&')}"`
  }
  return Array.from({ length: fields.rows }, (_, row) => {
    const text = fieldText(fields, row, index)
    return text?.trimStart().startsWith('{') ? spell(parseArray(text).cell) : text
  })
}
