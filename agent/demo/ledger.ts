/** The demo's ledger: what was acknowledged against what is found, row by row and value by value, and the words for it. */

import type pg from 'pg'
import type { Trade } from './clients.ts'

/** One fault and how the clients got through it. */
export interface FaultReport {
  fault: string
  /** Milliseconds from the fault to the first acknowledged write, over a new connection where the engine died. */
  recoveredMs: number
  /** The longest time in which no write was acknowledged, in milliseconds. */
  pauseMs: number
  /** What happened, for a reader. */
  note: string
}

export interface Ledger {
  ok: boolean
  version: string
  /** Rows that were acknowledged, and rows that the database holds at the end. */
  acknowledged: number
  found: number
  /** Acknowledged and not there; there more than once; there with another value; there though nobody was told so. */
  lost: number
  duplicated: number
  altered: number
  unexpected: number
  /** Transactions of which only a part arrived. */
  halves: number
  /** Orders whose acknowledgement died with a connection, and which were there when the client looked. */
  arrivedUnseen: number
  connectionsLost: number
  faults: FaultReport[]
  durationMs: number
  /** Why it is not ok, a line each. */
  problems: string[]
  /** Where everything lies, when it was kept. */
  directory: string | null
}

/** An empty ledger; `complete` fills in the rest. */
export function newLedger(version: string): Ledger {
  const counts = {
    acknowledged: 0,
    found: 0,
    lost: 0,
    duplicated: 0,
    altered: 0,
    unexpected: 0,
    halves: 0,
    arrivedUnseen: 0,
    connectionsLost: 0,
  }
  return { ok: false, version, ...counts, faults: [], durationMs: 0, problems: [], directory: null }
}

/** A row of trades as the database gives it back. */
export interface FoundRow {
  trade_id: string
  broker_id: number
  price: string
  quantity: string
}

/** Every row that the database holds. */
export async function readRows(client: pg.Client): Promise<FoundRow[]> {
  return (await client.query<FoundRow>('SELECT trade_id, broker_id, price, quantity FROM trades ORDER BY trade_id')).rows
}

/** Compares what is there with what the clients were told, and adds the result to the ledger. */
export function settle(
  ledger: Ledger,
  clients: { acknowledged: ReadonlyMap<number, Trade>; halves: number; arrivedUnseen: number; connectionsLost: number },
  rows: readonly FoundRow[],
): void {
  const missing = new Map<number, Trade>(clients.acknowledged)
  const seen = new Set<number>()
  for (const row of rows) {
    const id = Number(row.trade_id)
    const expected = clients.acknowledged.get(id)
    if (seen.has(id)) ledger.duplicated += 1
    else if (expected === undefined) ledger.unexpected += 1
    else if (Number(row.broker_id) !== expected.broker || row.price !== expected.price || row.quantity !== expected.quantity)
      ledger.altered += 1
    seen.add(id)
    missing.delete(id)
  }
  ledger.acknowledged = clients.acknowledged.size
  ledger.found = rows.length
  ledger.lost = missing.size
  ledger.halves = clients.halves
  ledger.arrivedUnseen = clients.arrivedUnseen
  ledger.connectionsLost = clients.connectionsLost
  for (const what of ['lost', 'duplicated', 'altered', 'unexpected', 'halves'] as const) {
    if (ledger[what] > 0) ledger.problems.push(`${ledger[what]} ${what}`)
  }
}

/** The ledger in plain words. */
export function describeLedger(ledger: Ledger): string {
  const number = (value: number) => value.toLocaleString('en-US').padStart(9)
  const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`.padStart(8)
  const width = Math.max(...ledger.faults.map(({ fault }) => fault.length), 12)
  return [
    '',
    `  acknowledged ${number(ledger.acknowledged)}   rows that a client was told are safe`,
    `  found        ${number(ledger.found)}   rows in the database now, compared value by value`,
    `  lost         ${number(ledger.lost)}`,
    `  duplicated   ${number(ledger.duplicated)}`,
    '',
    `  ${'fault'.padEnd(width)}  recovered   no writes`,
    ...ledger.faults.map(
      ({ fault, recoveredMs, pauseMs, note }) => `  ${fault.padEnd(width)}   ${seconds(recoveredMs)}    ${seconds(pauseMs)}   ${note}`,
    ),
    '',
    ...(ledger.ok
      ? ['Every acknowledged row is there, once, with its values. Nobody had to do anything.']
      : ['NOT as it should be:', ...ledger.problems.map((problem) => `  - ${problem}`)]),
    ...(ledger.directory === null ? [] : [`Everything is kept in ${ledger.directory}`]),
    '',
  ].join('\n')
}
