/** The rows of the benchmark, by number. */

import type { RowReport } from '../report.ts'
import type { Stage } from '../stage.ts'
import { insertsOfMany, insertsOfOne } from './inserts.ts'
import { transactions } from './transactions.ts'

export interface Row {
  readonly title: string
  measure(stage: Stage): Promise<RowReport>
}

export const rows: ReadonlyMap<number, Row> = new Map([
  [1, insertsOfOne],
  [2, insertsOfMany],
  [3, transactions],
])
