/** The rows of the benchmark, by number. */

import type { RowReport } from '../report.ts'
import type { Stage } from '../stage.ts'
import { copy } from './copy.ts'
import { growth } from './growth.ts'
import { idle } from './idle.ts'
import { insertsOfFew, insertsOfMany, insertsOfOne, writtenInserts } from './inserts.ts'
import { interference } from './interference.ts'
import { aggregation, reading } from './queries.ts'
import { rebuild } from './rebuild.ts'
import { restart } from './restart.ts'
import { transactions } from './transactions.ts'

export interface Row {
  readonly title: string
  measure(stage: Stage): Promise<RowReport>
}

export const rows: ReadonlyMap<number, Row> = new Map(
  [
    insertsOfOne,
    insertsOfMany,
    transactions,
    copy,
    aggregation,
    reading,
    restart,
    rebuild,
    interference,
    idle,
    growth,
    insertsOfFew,
    writtenInserts,
  ].map((row, i) => [i + 1, row]),
)
