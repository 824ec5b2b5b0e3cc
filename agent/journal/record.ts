/**
 * The bytes of a transaction and of a batch (one fsync's worth of transactions).
 *
 * Batch: a header of 64 bytes, then the payload, zero-padded to a multiple of 8. Little endian.
 *    0  u32  magic "DGB1"
 *    4  u32  CRC-32 (zlib) of the header from byte 8 on and of the payload
 *    8  u32  payload length, without padding
 *   12  u32  number of transactions
 *   16  u64  seq of the first one
 *   24  u64  offset in this segment up to which everything was durable when this batch was written. The writer writes one batch at a time,
 *            so it is the batch's own offset: a batch that stands elsewhere (inside a BLOB, or misdirected by a disk) is none
 *   32  u32  epoch
 *   36  28 zero bytes
 * Payload: varint number of tables, each as length-prefixed JSON (so that a batch can be read on its own); then per transaction
 *   varint number of its tables and their indexes, then its length-prefixed body:
 *   u64 seq · f64 time (ms since 1970) · varint number of changes · each: u8 kind, then
 *     insert, delete: varint table · varint rows · columns (agent/journal/cells.ts)
 *     update, upsert: the same, with the list of changed columns after the table
 *     schema, sequence: length-prefixed JSON
 */

import { crc32 } from 'node:zlib'
import { ByteReader, ByteWriter } from './bytes.ts'
import { decodeColumn, encodeColumn } from './cells.ts'
import type { Change, Column, Rows, Table, Transaction } from './types.ts'

export const batchHeaderBytes = 64
export const batchMagic = Buffer.from('DGB1', 'latin1')
/** A batch larger than this is refused before it is written, and not believed when it is read. */
export const maxBatchBytes = 2 ** 31 - 1

const kinds = ['insert', 'upsert', 'update', 'delete', 'schema', 'sequence'] as const

/** A transaction's bytes, ready but for its seq and time, which are known only when it commits. */
export interface EncodedTransaction {
  readonly tables: readonly Table[]
  readonly body: Buffer
  readonly rows: number
}

const tableJson = new WeakMap<Table, Buffer>()

function jsonOf(table: Table): Buffer {
  let json = tableJson.get(table)
  if (json === undefined) {
    json = Buffer.from(JSON.stringify(table))
    tableJson.set(table, json)
  }
  return json
}

/** Encodes changes one by one, so that a large transaction's images need not be kept as values. */
export class TransactionEncoder {
  #out = new ByteWriter(512)
  #tables: Table[] = []
  #count = 0
  #rows = 0

  get count(): number {
    return this.#count
  }

  get bytes(): number {
    return this.#out.length
  }

  add(change: Change): void {
    const out = this.#out
    this.#count++
    out.u8(kinds.indexOf(change.kind))
    switch (change.kind) {
      case 'schema':
        out.text(JSON.stringify({ ...change, kind: undefined }))
        return
      case 'sequence':
        out.text(JSON.stringify({ schema: change.schema, name: change.name, value: change.value.toString() }))
        return
      case 'update':
      case 'upsert':
        out.varint(this.#table(change.table))
        out.varint(change.changed.length)
        for (const column of change.changed) out.varint(column)
        break
      default:
        out.varint(this.#table(change.table))
    }
    this.#rows += change.rows.count
    out.varint(change.rows.count)
    imageColumns(change).forEach((column, i) => {
      encodeColumn(out, column.type, change.rows.columns[i] as Rows['columns'][number])
    })
  }

  /** The transaction; the encoder must not be used after. */
  finish(): EncodedTransaction {
    const head = new ByteWriter(24)
    head.u64(0n)
    head.f64(0)
    head.varint(this.#count)
    return { tables: this.#tables, body: Buffer.concat([head.bytes(), this.#out.bytes()]), rows: this.#rows }
  }

  #table(table: Table): number {
    const known = this.#tables.indexOf(table)
    if (known !== -1) return known
    return this.#tables.push(table) - 1
  }
}

/** Which columns a change's rows hold: the key for a delete, all for the others. */
function imageColumns(change: { kind: string; table: Table }): readonly Column[] {
  if (change.kind === 'delete') return change.table.primaryKey.map((i) => change.table.columns[i] as Column)
  return change.table.columns
}

/** Writes seq and time into an encoded transaction. */
export function stamp(transaction: EncodedTransaction, seq: number, time: number): void {
  transaction.body.writeBigUInt64LE(BigInt(seq), 0)
  transaction.body.writeDoubleLE(time, 8)
}

/** Upper bound of what a transaction adds to the journal, whichever batch it lands in. */
export function batchBytesOf(transaction: EncodedTransaction): number {
  let bytes = batchHeaderBytes + transaction.body.length + 32
  for (const table of transaction.tables) bytes += jsonOf(table).length + 16
  return bytes
}

/** One batch, header and padding included. */
export function encodeBatch(
  transactions: readonly EncodedTransaction[],
  header: { firstSeq: number; durableBefore: number; epoch: number },
): Buffer {
  const tables: Table[] = []
  const indexes = new Map<Table, number>()
  for (const transaction of transactions) {
    for (const table of transaction.tables) if (!indexes.has(table)) indexes.set(table, tables.push(table) - 1)
  }
  const out = new ByteWriter(batchHeaderBytes + 1024)
  out.raw(new Uint8Array(batchHeaderBytes))
  out.varint(tables.length)
  for (const table of tables) out.blob(jsonOf(table))
  for (const transaction of transactions) {
    out.varint(transaction.tables.length)
    for (const table of transaction.tables) out.varint(indexes.get(table) as number)
    out.blob(transaction.body)
  }
  const payloadLength = out.length - batchHeaderBytes
  while (out.length % 8 !== 0) out.u8(0)
  const batch = out.bytes()
  batchMagic.copy(batch, 0)
  batch.writeUInt32LE(payloadLength, 8)
  batch.writeUInt32LE(transactions.length, 12)
  batch.writeBigUInt64LE(BigInt(header.firstSeq), 16)
  batch.writeBigUInt64LE(BigInt(header.durableBefore), 24)
  batch.writeUInt32LE(header.epoch, 32)
  batch.writeUInt32LE(crc32(batch.subarray(8, batchHeaderBytes + payloadLength)), 4)
  return batch
}

/** Makes a whole batch one that stands at `offset`, in place. */
export function moveBatch(batch: Buffer, offset: number): Buffer {
  batch.writeBigUInt64LE(BigInt(offset), 24)
  batch.writeUInt32LE(crc32(batch.subarray(8, batchHeaderBytes + batch.readUInt32LE(8))), 4)
  return batch
}

export interface BatchHeader {
  readonly checksum: number
  readonly payloadLength: number
  /** Length on disk: header, payload, padding. */
  readonly length: number
  readonly count: number
  readonly firstSeq: number
  readonly durableBefore: number
  readonly epoch: number
}

/** The header at the start of `bytes`, or undefined where there is no plausible one. Its checksum is not verified here. */
export function decodeBatchHeader(bytes: Buffer): BatchHeader | undefined {
  if (bytes.length < batchHeaderBytes || bytes.compare(batchMagic, 0, 4, 0, 4) !== 0) return undefined
  const payloadLength = bytes.readUInt32LE(8)
  if (payloadLength > maxBatchBytes) return undefined
  return {
    checksum: bytes.readUInt32LE(4),
    payloadLength,
    length: Math.ceil((batchHeaderBytes + payloadLength) / 8) * 8,
    count: bytes.readUInt32LE(12),
    firstSeq: Number(bytes.readBigUInt64LE(16)),
    durableBefore: Number(bytes.readBigUInt64LE(24)),
    epoch: bytes.readUInt32LE(32),
  }
}

/** Whether `batch` (header, payload, padding) is whole: the checksum that its header states, and zeros for padding. */
export function checksumHolds(batch: Buffer, header: BatchHeader): boolean {
  const end = batchHeaderBytes + header.payloadLength
  if (batch.length < header.length || crc32(batch.subarray(8, end)) !== header.checksum) return false
  for (let i = end; i < header.length; i++) if (batch[i] !== 0) return false
  return true
}

/** Tables are interned by their JSON, so that readers can compare and cache by identity. */
const internedTables = new Map<string, Table>()

function internTable(json: string): Table {
  let table = internedTables.get(json)
  if (table === undefined) {
    // Tables change rarely; the bound only keeps a workload of endless schema changes from growing the map.
    if (internedTables.size > 1000) internedTables.clear()
    table = JSON.parse(json) as Table
    internedTables.set(json, table)
  }
  return table
}

/** The transactions of a verified batch. */
export function decodeBatch(batch: Buffer, header: BatchHeader): Transaction[] {
  const input = new ByteReader(batch.subarray(0, batchHeaderBytes + header.payloadLength), batchHeaderBytes)
  const tables = Array.from({ length: input.varint() }, () => internTable(input.text()))
  return Array.from({ length: header.count }, () => {
    const own = Array.from({ length: input.varint() }, () => tables[input.varint()] as Table)
    return decodeTransaction(input.blob(), own)
  })
}

function decodeTransaction(body: Buffer, tables: readonly Table[]): Transaction {
  const input = new ByteReader(body)
  const seq = Number(input.u64())
  const time = input.f64()
  const changes = Array.from({ length: input.varint() }, () => decodeChange(input, tables))
  return { seq, time, changes }
}

function decodeChange(input: ByteReader, tables: readonly Table[]): Change {
  const kind = kinds[input.u8()]
  switch (kind) {
    case 'schema':
      return { ...JSON.parse(input.text()), kind }
    case 'sequence': {
      const { schema, name, value } = JSON.parse(input.text())
      return { kind, schema, name, value: BigInt(value) }
    }
    case 'insert':
    case 'delete': {
      const table = tables[input.varint()] as Table
      return { kind, table, rows: decodeRows(input, { kind, table }) }
    }
    case 'update':
    case 'upsert': {
      const table = tables[input.varint()] as Table
      const changed = Array.from({ length: input.varint() }, () => input.varint())
      return { kind, table, changed, rows: decodeRows(input, { kind, table }) }
    }
    default:
      throw new RangeError('unknown kind of change in the journal')
  }
}

function decodeRows(input: ByteReader, change: { kind: string; table: Table }): Rows {
  const count = input.varint()
  return { count, columns: imageColumns(change).map((column) => decodeColumn(input, column.type, count)) }
}
