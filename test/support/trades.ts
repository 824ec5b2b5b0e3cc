/** 2,001 trades of BTCUSDT: the real ones of 2021-01-08 when ../shared/data has them, else generated ones of the same shape, always the same. */

import fs from 'node:fs'
import path from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'

export interface Trade {
  /** Microseconds since the Unix epoch, UTC. */
  timestamp: bigint
  trade_id: number
  price: number
  quantity: number
  buyer_maker: boolean
}

const parquet = path.resolve(import.meta.dirname, '../../../shared/data/btcusdt-trades.parquet')
const count = 2_001

/** The trades, by trade_id. */
export async function loadTrades(): Promise<Trade[]> {
  if (!fs.existsSync(parquet)) return generateTrades()
  const instance = await DuckDBInstance.create(':memory:')
  try {
    const connection = await instance.connect()
    const reader = await connection.runAndReadAll(
      `SELECT epoch_us(timestamp), trade_id, price, quantity, buyer_maker = 'True' FROM read_parquet('${parquet.replaceAll("'", "''")}') ORDER BY trade_id`,
    )
    return reader.getRows().map(([timestamp, id, price, quantity, maker]) => ({
      timestamp: timestamp as bigint,
      trade_id: Number(id),
      price: price as number,
      quantity: quantity as number,
      buyer_maker: maker as boolean,
    }))
  } finally {
    instance.closeSync()
  }
}

/** The stand-in: rising times and ids, a price that walks around 39,432, quantities with rounding noise. */
export function generateTrades(): Trade[] {
  let state = 20210108
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
  let timestamp = 1_610_064_000_278_000n
  let price = 39_432.48
  return Array.from({ length: count }, (_, i) => {
    if (i > 0) timestamp += BigInt(Math.floor(next() * 120)) * 1_000n
    price = Math.round((price + (next() - 0.5) * 8) * 100) / 100
    return { timestamp, trade_id: 553_287_559 + i, price, quantity: Math.ceil(next() ** 4 * 1e6) * 1e-6, buyer_maker: next() < 0.5 }
  })
}
