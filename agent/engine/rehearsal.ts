/**
 * What a spare engine does while it waits: it replays a small journal of its own making, once, so that the code of a replay is compiled when it
 * is wanted. It is the code of a recovery itself (decoding, net effects, appender), on a database in memory: no file is touched, and what stays
 * is the code, 11 MB. A replay of 5,000 transactions takes about 50 ms less then, a tenth; a longer rehearsal changed nothing that could be measured.
 */

import { checksumHolds, decodeBatch, decodeBatchHeader, encodeBatch, encodeChanges, stamp } from '../journal/record.ts'
import { asRows, type Change, type Column, type ColumnType, type Table, type Transaction } from '../journal/types.ts'
import { Database } from './duckdb.ts'
import { Replay, type ReplayResult } from './replay.ts'

/** Between two of them the word to begin is looked for. */
const pieces = 8
/** Small ones: what a piece leaves as garbage is memory that V8 keeps. */
const batchesOfPiece = 10
/** As a few clients commit together. */
const transactionsOfBatch = 5
const rowsBefore = 100

export interface Rehearsal extends ReplayResult {
  /** What the database held in the end: rows that were inserted, and how many times one was updated. */
  readonly inserted: number
  readonly updated: number
}

/** Replays one piece after another, all of them or until `isWanted`. Throws what DuckDB says. */
export async function rehearse(isWanted: () => boolean): Promise<Rehearsal> {
  const database = await Database.open({
    file: ':memory:',
    create: false,
    catalog: 'rehearsal',
    threads: 1,
    memoryLimit: 64e6,
    temporaryDirectory: '',
    externalAccess: false,
  })
  try {
    const connection = await database.connect()
    try {
      const replay = new Replay(connection, database.catalog)
      let result = await replay.run(throughJournal(1, [beginning()]))
      for (let piece = 0; piece < pieces && !isWanted(); piece++)
        result = await replay.run(pieceOf(2 + piece * batchesOfPiece * transactionsOfBatch))
      const [counts = []] = await connection.all('SELECT (SELECT count(*) FROM trades), (SELECT sum(trades) FROM positions)')
      return { ...result, inserted: Number(counts[0]), updated: Number(counts[1]) }
    } finally {
      connection.close()
    }
  } finally {
    database.close()
  }
}

const types = {
  BIGINT: { kind: 'BIGINT' },
  INTEGER: { kind: 'INTEGER' },
  TIMESTAMP: { kind: 'TIMESTAMP' },
  'DECIMAL(18,8)': { kind: 'DECIMAL', width: 18, scale: 8 },
  DOUBLE: { kind: 'DOUBLE' },
  BOOLEAN: { kind: 'BOOLEAN' },
  VARCHAR: { kind: 'VARCHAR' },
} satisfies Record<string, ColumnType>

/** Its first column is the key. */
function table(name: string, columns: Record<string, keyof typeof types>): Table {
  const column = ([name, sqlType]: [string, keyof typeof types]): Column => ({ name, type: types[sqlType], sqlType, nullable: false })
  return { schema: 'main', name, columns: Object.entries(columns).map(column), primaryKey: [0] }
}

const positions = table('positions', { position_id: 'INTEGER', quantity: 'DOUBLE', trades: 'BIGINT' })
const trades = table('trades', {
  trade_id: 'BIGINT',
  broker_id: 'INTEGER',
  traded_at: 'TIMESTAMP',
  price: 'DECIMAL(18,8)',
  quantity: 'DOUBLE',
  buyer_maker: 'BOOLEAN',
  note: 'VARCHAR',
})
const brokers = table('brokers', { broker_id: 'INTEGER' })

/** The tables, and rows that were there before. */
function beginning(): Change[] {
  const creation = ({ name, columns }: Table): Change => {
    const definitions = columns.map(({ name, sqlType }, i) => `${name} ${sqlType}${i === 0 ? ' PRIMARY KEY' : ''}`)
    if (name === 'trades') definitions.push('FOREIGN KEY (broker_id) REFERENCES brokers')
    const sql = `CREATE TABLE ${name} (${definitions.join(', ')})`
    return { kind: 'schema', sql, verb: 'CREATE', searchPath: 'main', timeZone: 'UTC', tables: [{ schema: 'main', name }] }
  }
  const keys = Array.from({ length: rowsBefore }, (_, i) => i)
  return [
    ...[brokers, trades, positions].map(creation),
    { kind: 'insert', table: brokers, rows: { count: rowsBefore, columns: [keys] } },
    { kind: 'insert', table: positions, rows: { count: rowsBefore, columns: [keys, keys.map(() => 0), keys.map(() => 0n)] } },
  ]
}

function pieceOf(firstSeq: number): Transaction[] {
  return Array.from({ length: batchesOfPiece }, (_, batch) => {
    const first = firstSeq + batch * transactionsOfBatch
    return throughJournal(
      first,
      Array.from({ length: transactionsOfBatch }, (_, i) => changesOf(first + i)),
    )
  }).flat()
}

/** An insert; every other time with an update by key. */
function changesOf(seq: number): Change[] {
  const at = seq % rowsBefore
  const trade = [BigInt(seq), at, BigInt(seq) * 1_000_000n, BigInt(seq) * 100_000_000n, seq + 0.5, seq % 3 === 0, `trade ${seq}`]
  const insert: Change = { kind: 'insert', table: trades, rows: asRows(trade) }
  if (seq % 2 === 1) return [insert]
  return [insert, { kind: 'update', table: positions, changed: [1, 2], rows: asRows([at, seq + 0.5, BigInt(Math.ceil(seq / rowsBefore))]) }]
}

/** The transactions as the journal has them: one batch, written and read. */
function throughJournal(firstSeq: number, transactions: readonly (readonly Change[])[]): Transaction[] {
  const encoded = transactions.map((changes, i) => {
    const transaction = encodeChanges(changes)
    stamp(transaction, firstSeq + i, 0)
    return transaction
  })
  const batch = encodeBatch(encoded, { firstSeq, durableBefore: 0, epoch: 1 })
  const header = decodeBatchHeader(batch)
  if (header === undefined || !checksumHolds(batch, header)) throw new Error('a batch cannot be read')
  return decodeBatch(batch, header, '')
}
