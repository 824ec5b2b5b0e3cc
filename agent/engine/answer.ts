/** What a statement answers, before the wire has it. */

import type { RowStream } from './pgwire/backend.ts'

/** Rows, or a tag. */
export type Answer = RowStream | string

/** The tag of a statement of which DuckDB has not been told (held-statements.ts): it tells of no commit after `seq`, 0: of none at all. */
export class Foreseen {
  readonly tag: string
  readonly seq: number

  constructor(tag: string, seq: number) {
    this.tag = tag
    this.seq = seq
  }
}

export function isRows(answer: Answer | Foreseen): answer is RowStream {
  return typeof answer !== 'string' && !(answer instanceof Foreseen)
}
