/** What a statement answers, before the wire has it. */

import type { RowStream, StatementSink } from './pgwire/backend.ts'

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

/** `isOpen`: its transaction is; once that is committed, the tag tells of it. */
export function tell(answer: string | Foreseen, sink: StatementSink, isOpen: boolean): void {
  if (typeof answer === 'string') sink.complete(answer)
  else if (isOpen) sink.foreseen(answer.tag, answer.seq)
  else sink.complete(answer.tag)
}
