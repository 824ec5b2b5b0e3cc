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
 *   36  u32  flags. 1: its one transaction has its changes in a spill. 2: it was written while DuckDB had yet to commit its one transaction
 *   40  24 zero bytes
 * Payload: varint number of tables, each as length-prefixed JSON (so that a batch can be read on its own); then per transaction
 *   varint number of its tables and their indexes, then its length-prefixed body:
 *   u64 seq · f64 time (ms since 1970) · varint number of changes · each as agent/journal/changes.ts says. In a batch with a spill
 *   a length-prefixed JSON stands for number and changes: the spill's name, length, checksum and number of items (agent/journal/spill.ts)
 */

import { crc32 } from 'node:zlib'
import { messageOf } from '../errors.ts'
import { ByteReader, ByteWriter } from './bytes.ts'
import { decodeChange, encodeChange, encodePackedInsert, partsOf } from './changes.ts'
import { type PackedRows, packedParts } from './packed.ts'
import { type SpillReference, type SpillSource, type SpillWriter, spilledChanges } from './spill.ts'
import type { Change, Table, Transaction } from './types.ts'

export const batchHeaderBytes = 64
export const batchMagic = Buffer.from('DGB1', 'latin1')
/** A batch larger than this is refused before it is written, and not believed when it is read. */
export const maxBatchBytes = 2 ** 31 - 1
const spilledFlag = 1
const aheadFlag = 2

/** Images that one transaction may hold in memory; beyond, they go to a spill. Sessions are many, and most transactions far smaller. */
const heldBytes = 8 << 20
/** About what goes to the spill at a time, and is in memory at a time when it is read. */
const partBytes = 1 << 20

/** A transaction's bytes, ready but for its seq and time, which are known only when it commits. */
export interface EncodedTransaction {
  readonly tables: readonly Table[]
  readonly body: Buffer
  readonly rows: number
  /** Its changes are in a spill, which is durable. */
  readonly spilled: boolean
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

/** What small transactions are encoded in, one after the other: for thousands a second buffers of their own cost more than their bytes. */
let scratch = new ByteWriter(4096)
const largestScratch = 1 << 16

/** All changes of a small transaction, as they go to the journal. */
export function encodeChanges(changes: readonly Change[]): EncodedTransaction {
  const tables: Table[] = []
  let rows = 0
  if (scratch.capacity > largestScratch) scratch = new ByteWriter(4096)
  scratch.clear()
  beginBody(scratch)
  scratch.varint(changes.length)
  for (const change of changes) {
    encodeChange(scratch, change, (table) => indexIn(tables, table))
    if ('rows' in change) rows += change.rows.count
  }
  return { tables, body: scratch.copy(), rows, spilled: false }
}

/** Room for what `stamp` writes. */
function beginBody(out: ByteWriter): void {
  out.u64(0n)
  out.f64(0)
}

/** The number of a table in a transaction's list, which it is put into if need be. */
function indexIn(tables: Table[], table: Table): number {
  const known = tables.indexOf(table)
  return known === -1 ? tables.push(table) - 1 : known
}

/** Encodes changes one by one. Given a `source`, it keeps no more of them in memory than a few MB. */
export class TransactionEncoder {
  #out = new ByteWriter(512)
  #tables: Table[] = []
  #count = 0
  #items = 0
  #rows = 0
  #source: SpillSource | undefined
  #spill: SpillWriter | undefined
  #reference: SpillReference | undefined

  constructor(source?: SpillSource) {
    this.#source = source
  }

  get count(): number {
    return this.#count
  }

  /** Throws what the disk says (ENOSPC, …): the transaction cannot go on then. */
  add(change: Change): void {
    for (const part of this.#source === undefined ? [change] : partsOf(change, partBytes)) {
      encodeChange(this.#out, part, (table) => indexIn(this.#tables, table))
      const rows = 'rows' in part ? part.rows.count : 0
      this.#added(rows, 'rows' in part ? rows : 1)
    }
  }

  /** An insert of rows that are bytes already. Throws as `add` does. */
  addPacked(table: Table, rows: PackedRows): void {
    let from = 0
    for (const to of packedParts(rows, partBytes)) {
      encodePackedInsert(this.#out, rows, from, to, indexIn(this.#tables, table))
      this.#added(to - from, to - from)
      from = to
    }
  }

  #added(rows: number, items: number): void {
    this.#count++
    this.#rows += rows
    this.#items += items
    if (this.#source === undefined || this.#out.length < (this.#spill === undefined ? heldBytes : partBytes)) return
    this.#spill ??= this.#source.createSpill()
    this.#spill.write(this.#out.bytes())
    this.#out.clear()
  }

  /** Waits until the disk has caught up with what was added. */
  async keepUp(): Promise<void> {
    await this.#spill?.keepUp()
  }

  /** Makes durable what has been spilled. To be called once, after the last change and before DuckDB commits. */
  async seal(): Promise<void> {
    if (this.#spill === undefined) return
    if (this.#out.length > 0) this.#spill.write(this.#out.bytes())
    this.#reference = await this.#spill.finish(this.#items)
  }

  /** The transaction will not be committed: a statement of it that is still running spills nothing more. */
  async discard(): Promise<void> {
    this.#source = undefined
    await this.#spill?.discard()
  }

  /** The transaction; the encoder must not be used after. */
  finish(): EncodedTransaction {
    const spilled = this.#reference !== undefined
    if (this.#spill !== undefined && !spilled) throw new Error('a spill was not sealed')
    const head = new ByteWriter(24)
    beginBody(head)
    if (spilled) head.text(JSON.stringify(this.#reference))
    else head.varint(this.#count)
    const body = spilled ? head.copy() : Buffer.concat([head.bytes(), this.#out.bytes()])
    return { tables: this.#tables, body, rows: this.#rows, spilled }
  }
}

/** Writes seq and time into an encoded transaction. */
export function stamp(transaction: EncodedTransaction, seq: number, time: number): void {
  // Several times faster than as a bigint.
  transaction.body.writeUInt32LE(seq % 2 ** 32, 0)
  transaction.body.writeUInt32LE(Math.floor(seq / 2 ** 32), 4)
  transaction.body.writeDoubleLE(time, 8)
}

/** Upper bound of what a transaction adds to the journal, whichever batch it lands in. */
export function batchBytesOf(transaction: EncodedTransaction): number {
  let bytes = batchHeaderBytes + transaction.body.length + 32
  for (const table of transaction.tables) bytes += jsonOf(table).length + 16
  return bytes
}

/** One batch, header and padding included. A transaction with a spill is alone in its batch: losing the one must not lose others. */
export function encodeBatch(
  transactions: readonly EncodedTransaction[],
  header: { firstSeq: number; durableBefore: number; epoch: number; ahead?: boolean },
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
  batch.writeUInt32LE((transactions[0]?.spilled ? spilledFlag : 0) | (header.ahead ? aheadFlag : 0), 36)
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
  /** Its one transaction has its changes in a spill. */
  readonly spilled: boolean
  /** Written ahead: that DuckDB has committed its one transaction is sure only once something says that it is durable (JournalWriter.writeAhead). */
  readonly ahead: boolean
}

/** The header at the start of `bytes`, or undefined where there is no plausible one. Its checksum is not verified here. */
export function decodeBatchHeader(bytes: Buffer): BatchHeader | undefined {
  if (bytes.length < batchHeaderBytes || bytes.compare(batchMagic, 0, 4, 0, 4) !== 0) return undefined
  const payloadLength = bytes.readUInt32LE(8)
  if (payloadLength > maxBatchBytes) return undefined
  const flags = bytes.readUInt32LE(36)
  return {
    checksum: bytes.readUInt32LE(4),
    payloadLength,
    length: Math.ceil((batchHeaderBytes + payloadLength) / 8) * 8,
    count: bytes.readUInt32LE(12),
    firstSeq: Number(bytes.readBigUInt64LE(16)),
    durableBefore: Number(bytes.readBigUInt64LE(24)),
    epoch: bytes.readUInt32LE(32),
    spilled: (flags & spilledFlag) !== 0,
    ahead: (flags & aheadFlag) !== 0,
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

/**
 * The transactions of a verified batch that stands in the journal `directory`. One that cannot be decoded was written wrongly: it is told to `onBad`, with its tables where
 * those are known, and left out; without `onBad` it throws.
 */
export function decodeBatch(
  batch: Buffer,
  header: BatchHeader,
  directory: string,
  onBad?: (seq: number, reason: string, tables: readonly Table[]) => void,
): Transaction[] {
  const bad = (seq: number, error: unknown, tables: readonly Table[] = []): [] => {
    if (onBad === undefined) throw error
    onBad(seq, `its checksum holds, but it cannot be decoded: ${messageOf(error)}`, tables)
    return []
  }
  const seqs = Array.from({ length: header.count }, (_, i) => header.firstSeq + i)
  let bodies: readonly Body[]
  try {
    bodies = bodiesOf(batch, header)
  } catch (error) {
    return seqs.flatMap((seq) => bad(seq, error))
  }
  return seqs.flatMap((seq, i) => {
    const body = bodies[i] as Body
    try {
      return [decodeTransaction(body, header, directory)]
    } catch (error) {
      return bad(seq, error, body.tables)
    }
  })
}

function decodeTransaction({ body, tables }: Body, header: BatchHeader, directory: string): Transaction {
  const input = new ByteReader(body)
  const seq = Number(input.u64())
  const time = input.f64()
  if (header.spilled) return { seq, time, changes: spilledChanges(directory, JSON.parse(input.text()), tables) }
  const changes = Array.from({ length: input.varint() }, () => decodeChange(input, tables))
  if (!input.done) throw new RangeError(`journal payload goes on for ${body.length - input.offset} bytes behind its last change`)
  return { seq, time, changes }
}

/** The spill that a verified batch refers to, and the tables that it changes; undefined also where that cannot be decoded (decodeBatch tells why). */
export function spillOf(batch: Buffer, header: BatchHeader): { reference: SpillReference; tables: readonly Table[] } | undefined {
  if (!header.spilled) return undefined
  try {
    const { body, tables } = bodiesOf(batch, header)[0] as Body
    return { reference: JSON.parse(new ByteReader(body, 16).text()) as SpillReference, tables }
  } catch {
    return undefined
  }
}

interface Body {
  readonly body: Buffer
  readonly tables: readonly Table[]
}

function bodiesOf(batch: Buffer, header: BatchHeader): Body[] {
  const input = new ByteReader(batch.subarray(0, batchHeaderBytes + header.payloadLength), batchHeaderBytes)
  const all = Array.from({ length: input.varint() }, () => internTable(input.text()))
  return Array.from({ length: header.count }, () => {
    const tables = Array.from({ length: input.varint() }, () => all[input.varint()] as Table)
    return { body: input.blob(), tables }
  })
}
